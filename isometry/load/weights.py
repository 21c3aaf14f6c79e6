"""Weights: found in what a file holds, and put into a model that is already built."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load.inert import Made, Table
from isometry.load.layers import MAX_DEPTH, MAX_MODULES
from isometry.load.tensors import Tensors, is_tensor
from isometry.load.wording import plural, show

_WAYS = "pass --model pkg.module:factory to build the model that they belong to"
_ANOTHER = (
    "build the model that they were saved from, by other arguments (--kwargs) or another factory "
    "(--model)"
)
# Where training loops keep the weights, the likeliest first.
CHECKPOINT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "state",
    "ema_state_dict",
    "model_ema",
    "ema_model",
    "ema",
    "params_ema",
)
_MAX_PREFIXES = 3


@dataclass(frozen=True)
class Weights:
    """Tensors by name, as a state dict holds them.

    Attributes
    ----------
    tensors : dict
        Name to tensor, on the CPU.
    versions : dict
        Module name to the version of its layout, where the file states it.
    """

    tensors: dict[str, torch.Tensor]
    versions: dict[str, int] = field(default_factory=dict)


def holds_weights(value: object, tensor: Callable[[object], bool]) -> bool:
    """Return whether `value` maps names to tensors, and to nothing else."""
    if not isinstance(value, Mapping) or not any(tensor(item) for item in value.values()):
        return False
    return all(
        isinstance(key, str) and (tensor(item) or key.endswith("_extra_state"))
        for key, item in value.items()
    )


def find_weights(
    value: object, tensor: Callable[[object], bool], module: Callable[[object], bool]
) -> tuple[str, Any] | None:
    """Return the kind of checkpoint that `value` is, and the weights or module in it."""
    if module(value):
        return "whole module", value
    if holds_weights(value, tensor):
        return "state dict", value
    if not isinstance(value, Mapping):
        return None
    kind = "Lightning checkpoint" if "pytorch-lightning_version" in value else "training checkpoint"
    for key in CHECKPOINT_KEYS:
        inner = value.get(key)
        if module(inner) or holds_weights(inner, tensor):
            return f"{kind} (key {key!r})", inner
    return None


def read_state_dict(table: Table, tensors: Tensors) -> Weights:
    """Rebuild the tensors of a state dict."""
    built = {key: tensors.build(made, key) for key, made in table.items() if is_tensor(made)}
    return Weights(built, _versions(table))


def read_module_weights(made: object, tensors: Tensors) -> Weights:
    """Rebuild the tensors of a module whose class stays unknown."""
    found: dict[str, torch.Tensor] = {}
    for key, value in _walk(made, "", 0, [0]):
        found[key] = tensors.build(value, key)
    return Weights(found)


def put_weights(model: nn.Module, weights: Weights, name: str) -> tuple[str, ...]:
    """Replace the weights of `model`; every name and shape must match.

    Returns
    -------
    tuple of str
        What had to be done to make them match.

    Raises
    ------
    LoadError
        They do not match; the model is as it was.
    """
    _check_values(model, "the model given")
    own = model.state_dict()
    tensors, notes = _without_prefix(weights.tensors, set(own))
    renamed = bool(notes)
    for key in own.keys() - tensors.keys():
        # A counter that old files lack and that no output depends on.
        if key.rpartition(".")[2] == "num_batches_tracked":
            tensors[key] = own[key]
    _check_match(tensors, own, name)
    kinds = {
        (str(t.dtype), str(own[k].dtype)) for k, t in tensors.items() if t.dtype != own[k].dtype
    }
    notes += [f"weights of {theirs} converted to {ours}" for theirs, ours in sorted(kinds)]
    state = OrderedDict(tensors)
    if weights.versions and not renamed:
        # Where torch itself looks for it; a dict of its own would lose it.
        state._metadata = {k: {"version": v} for k, v in weights.versions.items()}  # type: ignore[attr-defined]
    try:
        model.load_state_dict(state, strict=True)
    except Exception as error:  # the model is the user's: its hooks may raise anything
        raise LoadError(
            f"{name} does not fit the model: {type(error).__name__}: {show(error)}; {_ANOTHER}"
        ) from error
    return tuple(notes)


def weights_only(name: str, kind: str, count: int) -> LoadError:
    """Return the error for weights that came without an architecture."""
    return LoadError(
        f"{name} holds weights only ({kind}, {plural(count, 'tensor')}), no architecture; {_WAYS}"
    )


def check_has_values(module: nn.Module, name: str) -> None:
    """Raise LoadError when a weight is on the meta device or not yet initialised."""
    _check_values(module, name)


def _check_values(module: nn.Module, name: str) -> None:
    for key, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_meta or nn.parameter.is_lazy(tensor):
            sort = "meta" if tensor.is_meta else "lazy"
            raise LoadError(
                f"the parameters of {name} have no values ({sort}, first '{show(key)}'); "
                "build it on the CPU and run it once before"
            )


def _walk(made: object, prefix: str, depth: int, count: list[int]) -> Iterator[tuple[str, Any]]:
    count[0] += 1
    if depth > MAX_DEPTH or count[0] > MAX_MODULES:
        raise RefusedError("refused: the modules of the file are nested or repeated without end")
    state = made.state if isinstance(made, Made) else None
    if type(state) is not Table:
        raise LoadError(f"the file is damaged: {show(prefix) or 'the model'} has no state")
    for group in ("_parameters", "_buffers"):
        for key, value in _entries(state, group):
            if value is not None and key not in _not_persistent(state):
                yield f"{prefix}{key}", value
    for key, value in _entries(state, "_modules"):
        if value is not None:
            yield from _walk(value, f"{prefix}{key}.", depth + 1, count)


def _entries(state: Table, group: str) -> list[tuple[str, Any]]:
    content = state.get(group)
    if content is None:
        return []
    if type(content) is not Table or any(type(key) is not str for key in content):
        raise LoadError(f"the file is damaged: {group} holds no named weights")
    return list(content.items())


def _not_persistent(state: Table) -> list[Any]:
    made = state.get("_non_persistent_buffers_set")
    if isinstance(made, Made) and type(made.args) is tuple and len(made.args) == 1:
        return made.args[0] if type(made.args[0]) is list else []
    return []


def _versions(table: Table) -> dict[str, int]:
    state = table.state
    if type(state) is not Table or type(state.get("_metadata")) is not Table:
        return {}
    return {
        key: entry["version"]
        for key, entry in state["_metadata"].items()
        if type(key) is str and type(entry) is Table and type(entry.get("version")) is int
    }


def _without_prefix(
    tensors: dict[str, torch.Tensor], wanted: set[str]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Drop a prefix that all names share ("module.", "_orig_mod."), if that makes them match."""
    names, dropped = dict(tensors), ""
    for _ in range(_MAX_PREFIXES):
        heads = {key.partition(".")[0] + "." for key in names}
        if _fits(set(names), wanted) or len(heads) != 1:
            break
        head = heads.pop()
        if not all(key.startswith(head) and len(key) > len(head) for key in names):
            break
        names, dropped = {key.removeprefix(head): t for key, t in names.items()}, dropped + head
    if dropped and _fits(set(names), wanted):
        return names, [f"prefix '{show(dropped)}' dropped from the names of the weights"]
    return dict(tensors), []


def _fits(names: set[str], wanted: set[str]) -> bool:
    missing = {key for key in wanted - names if not key.endswith("num_batches_tracked")}
    return not missing and not names - wanted


def _check_match(tensors: dict[str, torch.Tensor], own: Mapping[str, Any], name: str) -> None:
    missing = [key for key in own if key not in tensors]
    unexpected = [key for key in tensors if key not in own]
    both = [key for key in tensors if key in own and isinstance(own[key], torch.Tensor)]
    misshaped = [key for key in both if tensors[key].shape != own[key].shape]
    imaginary = [k for k in both if tensors[k].is_complex() and not own[k].is_complex()]
    faults = []
    if missing:
        faults.append(f"{len(missing)} missing (first '{show(missing[0])}')")
    if unexpected:
        faults.append(f"{len(unexpected)} unexpected (first '{show(unexpected[0])}')")
    if misshaped:
        key = misshaped[0]
        shapes = f"{tuple(tensors[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        faults.append(f"{len(misshaped)} of another shape (first '{show(key)}': {shapes})")
    if imaginary:
        faults.append(f"{len(imaginary)} complex for real (first '{show(imaginary[0])}')")
    if faults:
        raise LoadError(f"{name} does not fit the model: weights {', '.join(faults)}; {_ANOTHER}")
