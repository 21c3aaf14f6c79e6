"""A Hugging Face config.json, read as data and rid of what could fetch or run anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from isometry.errors import LoadError, RefusedError
from isometry.load.manifest import Manifest
from isometry.load.source import opened
from isometry.load.wording import amount, show

MAX_CONFIG = 4 << 20
_MAX_LAYERS = 10_000
_MAX_LABELS = 1_000_000
_MAX_TABLE, _MAX_POSITIONS = 1 << 29, 1 << 26
_POSITIONS = re.compile("position|n_ctx|max_seq|context_length")
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "hidden_dim")
_USUAL_WIDTH = 1024

# How to compute and where to look: ours to choose, never the file's. CVE-2026-4372 came
# through the first two, which may name a repository with compiled code.
_CHOICES = frozenset(
    """
    attn_implementation experts_implementation kernels kernel_config use_kernels fusion_config
    distributed_config device_map tp_plan pp_plan custom_pipelines custom_generate
    checkpoint_path pretrained pretrained_cfg_overlay cache_dir gguf_file transformers_weights
    trust_remote_code extra_files
    """.split()  # noqa: SIM905 - a line each would hide the list
)
# The same, but in every honest file, so that nobody need be told.
_ROUTINE = frozenset(
    "dtype torch_dtype name_or_path pretrained_cfg use_pretrained_backbone".split()  # noqa: SIM905
)
_COUNTS = re.compile(r"(^|_)(n_layer|layers?|depths?|blocks|stages)$")
_OTHER_MODELS = ("architecture", "backbone")


def read_config(path: Path, manifest: Manifest) -> dict[str, Any]:
    """Read a config.json; it is data, and nothing in it is looked up yet.

    Raises
    ------
    LoadError
        It is no JSON object, or too large to be a config.
    """
    with opened(path) as source:
        if source.size > MAX_CONFIG:
            raise RefusedError(
                f"refused: {source.name} has {amount(source.size)}; at most "
                f"{amount(MAX_CONFIG)} are read"
            )
        manifest.add(source)
        try:
            config = json.loads(source.read(source.size))
        except (ValueError, RecursionError) as error:
            raise LoadError(f"{source.name} is damaged: no JSON ({show(error)})") from error
    if type(config) is not dict or type(config.get("model_type")) is not str:
        raise LoadError(f"{show(path.name)} is no Hugging Face config: it has no model_type")
    return config


def cleaned(config: dict[str, Any], name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a copy without the keys that are not the file's to choose, and their names.

    Parameters
    ----------
    config : dict
        As `read_config` returns it; configs of parts stand nested in it.
    name : str
        The file, safe to print.

    Raises
    ------
    RefusedError
        It wants code of its own, another model fetched, or more layers than any network has.
    LoadError
        The weights are quantised.
    """
    dropped: dict[str, None] = {}
    return _clean(config, name, dropped), tuple(dropped)


def _clean(value: Any, name: str, dropped: dict[str, None]) -> Any:
    if type(value) is list:
        return [_clean(item, name, dropped) for item in value]
    if type(value) is not dict:
        return value
    clean = {}
    _check_table(value, name)
    for key, item in value.items():
        _check(key, item, name)
        if key in _CHOICES or (key.startswith("_") and "implementation" in key):
            dropped.setdefault(key)
        elif key not in _ROUTINE and not key.startswith("_"):
            clean[key] = _clean(item, name, dropped)
    return clean


def _check(key: str, item: Any, name: str) -> None:
    if key == "auto_map" and item:
        raise RefusedError(
            f"custom code refused: auto_map in {name} names code of the model's own "
            f"({show(item, 80)}); build it in your own code, where you vouch for it, and pass "
            "--model pkg.module:factory"
        )
    if key == "quantization_config" and item:
        method = item.get("quant_method") if isinstance(item, dict) else None
        raise LoadError(
            f"the weights of {name} are quantised ({show(method or 'unnamed method')}), which "
            "leaves no plain arithmetic to differentiate; use the model before quantisation"
        )
    if key in _OTHER_MODELS and type(item) is str and re.search(r"[/\\:]", item):
        raise RefusedError(
            f"refused: {key} in {name} names a model elsewhere ('{show(item)}'); "
            "isometry does not download: build it in Python and pass --model pkg.module:factory"
        )
    _check_count(key, item, name)


def _check_table(config: dict[str, Any], name: str) -> None:
    """Refuse tables of positions that a constructor would fill on the CPU, one entry a channel."""
    counts = {k: v for k, v in config.items() if type(v) is int}
    rows = max((v for k, v in counts.items() if _POSITIONS.search(k)), default=0)
    width = max((v for k, v in counts.items() if k in _WIDTHS), default=_USUAL_WIDTH)
    rotary = any("rope" in key or "rotary" in key for key in config)  # keeps no table
    if (rows * width * 8 > _MAX_TABLE and not rotary) or rows > _MAX_POSITIONS:
        raise RefusedError(
            f"refused: {name} asks for a table of {rows} positions of {width} numbers; at most "
            f"{amount(_MAX_TABLE)} of them are built"
        )


def _check_count(key: str, item: Any, name: str) -> None:
    """Refuse counts that would fill the memory with Python objects before any tensor."""
    most = _MAX_LAYERS if _COUNTS.search(key) else _MAX_LABELS if key == "num_labels" else 0
    counts = item if type(item) is list else [item]
    if most and any(type(count) is int and count > most for count in counts):
        raise RefusedError(f"refused: {name} asks for {key} = {show(item)}; at most {most}")
