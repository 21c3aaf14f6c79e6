"""Hugging Face models, from a config and safetensors, by the classes of transformers alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load.hub import one_line, part, transformers_offline, version
from isometry.load.hubconfig import cleaned, read_config
from isometry.load.layers import MAX_MODULES
from isometry.load.manifest import Manifest
from isometry.load.sharded import read_shards, safetensors_in
from isometry.load.wording import listing, plural, show
from isometry.memory import default_budget, format_size

_FACTORY = "build it in Python and pass --model pkg.module:factory"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Plain arithmetic, which every route of differentiation takes.
_HOW = {"attn_implementation": "eager", "dtype": torch.float32}
_EXPERTS = {"experts_implementation": "batched_mm"}


def read_huggingface(
    config: Path, folder: Path | None, manifest: Manifest, *, seed: int = 0
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the model that a config.json describes, and give it the weights of its folder.

    No network, no code but that of transformers, no pickle.

    Parameters
    ----------
    config : Path
        The config.json.
    folder : Path, optional
        Where its safetensors are; without it, or where it has none, the weights are drawn as
        the model's authors initialise them.
    manifest : Manifest
        Takes note of every file read.
    seed : int
        For weights that are drawn; the global random state is left as it was.

    Returns
    -------
    module : torch.nn.Module
        In float32 and evaluation mode.
    notes : tuple of str
        What the user should know.

    Raises
    ------
    RefusedError
        The config wants code of its own, or the weights are a pickle.
    LoadError
        transformers is missing, too old or does not know the model; the config or the weights
        do not make sense, do not fit each other, or do not fit in memory.
    """
    asked, dropped = cleaned(read_config(config, manifest), show(config.name))
    files = [] if folder is None else safetensors_in(folder)
    if folder is not None and not files:
        _refuse_pickle(folder)
    notes = (f"not for a config.json to choose, not read: {listing(dropped)}",) if dropped else ()
    known_as = show(asked["model_type"], 40)
    with (
        transformers_offline(),
        one_line(f"transformers cannot build {show(config.name)} as '{known_as}'"),
        torch.random.fork_rng(devices=()),
    ):
        settings = _settings(asked)
        cls, chosen = _model_class(settings, asked)
        _check_size(cls, settings)
        if folder is None or not files:
            model, said = _drawn(cls, settings, seed), _how_drawn(folder, seed)
        else:
            tensors = read_shards(files, manifest)
            model, said = _with_weights(cls, settings, tensors, show(folder.name or folder))
    return model, (*chosen, *notes, *said)


def _refuse_pickle(folder: Path) -> None:
    for name in _PICKLES:
        if (folder / name).exists():
            raise RefusedError(
                f"refused: {show(folder.name or folder)} has its weights in {name}, a pickle, and "
                "no safetensors; save it again with model.save_pretrained(folder), or give that "
                "file as the model, with --model pkg.module:factory"
            )


def _settings(asked: dict[str, Any]) -> Any:
    """Return the config object, of the class that transformers registers for the type."""
    known = part("models.auto.configuration_auto").CONFIG_MAPPING
    if asked["model_type"] not in known:
        raise LoadError(
            f"transformers {version()} knows no model_type '{show(asked['model_type'])}'; "
            f"update transformers, or {_FACTORY}"
        )
    return known[asked["model_type"]].from_dict(asked)


def _model_class(settings: Any, asked: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Return the class that the config names, from the package of transformers it belongs to."""
    names = asked.get("architectures")
    if not names:
        found = part("models.auto.modeling_auto").MODEL_MAPPING.get(type(settings), None)
        if found is None:
            raise LoadError(
                f"config.json names no architecture, and models of type "
                f"'{show(settings.model_type)}' have no plain one; write the name of its class "
                'into the config, as "architectures": ["Name"]'
            )
        cls = found[0] if isinstance(found, tuple) else found
        return cls, (f"config.json names no architecture: {cls.__name__} was taken",)
    name = names[0] if type(names) is list else names
    package = sys.modules[type(settings).__module__.rpartition(".")[0]]
    cls = getattr(package, name, None) if name in dir(package) else None
    if not (isinstance(cls, type) and issubclass(cls, part("modeling_utils").PreTrainedModel)):
        raise LoadError(
            f"transformers {version()} has no class '{show(name)}' among its models of type "
            f"'{show(settings.model_type)}'; {_FACTORY}"
        )
    return cls, ()


def _check_size(cls: Any, settings: Any) -> None:
    """Build the model without memory first, and compare what it would take with what there is."""
    count = [0]

    def counted(*_: object) -> None:
        count[0] += 1
        if count[0] > MAX_MODULES:
            raise RefusedError(f"refused: the config asks for more than {MAX_MODULES} modules")

    hook = nn.modules.module.register_module_module_registration_hook(counted)
    try:
        with torch.device("meta"):
            empty = cls._from_config(settings, **_HOW)
    finally:
        hook.remove()
    need = sum(t.numel() * t.element_size() for t in [*empty.parameters(), *empty.buffers()])
    have = default_budget(torch.device("cpu"))
    if need > have:
        raise LoadError(
            f"{cls.__name__} takes {format_size(need)} in float32, more than half of this "
            f"machine's memory ({format_size(have)}); use a machine with more, or a smaller config"
        )


def _with_weights(
    cls: Any, settings: Any, tensors: dict[str, torch.Tensor], name: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """Let transformers match the names: it knows which to tie, split, merge and rename."""
    kinds = {str(t.dtype) for t in tensors.values() if t.is_floating_point()} - {"torch.float32"}
    # That of the base class: where a model has its own, that one looks for further files.
    load = part("modeling_utils").PreTrainedModel.from_pretrained.__func__
    model, info = load(
        cls,
        None,
        config=settings,
        state_dict=tensors,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # so that all come back in `info`, which is checked
        output_loading_info=True,
        **_EXPERTS,
        **_HOW,
    )
    _check_fit(info, name)
    notes = [f"weights of {kind} converted to torch.float32" for kind in sorted(kinds)]
    unused = sorted(info["unexpected_keys"])
    if unused:
        notes.append(
            f"{plural(len(unused), 'tensor')} of {name} not used by {cls.__name__} "
            f"(first '{show(unused[0])}')"
        )
    return model.eval(), tuple(notes)


def _check_fit(info: dict[str, Any], name: str) -> None:
    """Raise LoadError where a weight of the model did not come from the files."""
    misshaped = sorted(info["mismatched_keys"])
    missing = sorted(set(info["missing_keys"]) - {key for key, *_ in misshaped})
    faults = [show(text, 200) for text in info["error_msgs"]]
    if missing:
        faults.append(f"{len(missing)} missing (first '{show(missing[0])}')")
    if misshaped:
        key, theirs, ours = misshaped[0]
        shapes = f"{tuple(theirs)} in the file, {tuple(ours)} in the model"
        faults.append(f"{len(misshaped)} of another shape (first '{show(key)}': {shapes})")
    if faults:
        raise LoadError(f"{name} does not fit the model: weights {', '.join(faults)}")


def _drawn(cls: Any, settings: Any, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = cls._from_config(settings, **_EXPERTS, **_HOW)
    return model.eval()


def _how_drawn(folder: Path | None, seed: int) -> tuple[str, ...]:
    where = "a config alone holds no weights" if folder is None else "no weights in the folder"
    return (f"{where}: initialised at random (seed {seed})",)
