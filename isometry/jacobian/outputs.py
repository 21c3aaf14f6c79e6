"""The one tensor of a network's output that is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from isometry.errors import InputError, MeasurementError
from isometry.jacobian.placement import dtype_name

# What the field calls the result, where an output holds several tensors.
_USUAL = ("logits", "last_hidden_state", "output", "out")


def chosen_output(y: object, path: str | None) -> tuple[Tensor, str]:
    """Return the tensor to be measured and its name; an empty name for a lone tensor.

    Without a path: the tensor itself, the logits, the last hidden state, or the first
    floating tensor of a tuple, a mapping or a dataclass.
    """
    name = ""
    if path is not None:
        y, name = _follow(y, path), path
    whole = y
    while not isinstance(y, Tensor):
        key, y = _default(y, whole)
        name = f"{name}.{key}" if name else key
    refuse_unmeasurable(y)
    return y, name


def _follow(y: object, path: str) -> object:
    found: list[str] = []
    for key in path.split("."):
        items = _items(y)
        if key.startswith("-") and key[1:].isdecimal():  # counted from the end
            key = str(len(items) + int(key)) if isinstance(y, (tuple, list)) else key
        if key not in items:
            inside = f"{'.'.join(found)!r} is" if found else "the network returned"
            cure = "name one of them with --output (output=...)" if items else "leave --output out"
            raise InputError(f"the output has no part {path!r}: {inside} {describe(y)}; {cure}")
        y = items[key]
        found.append(key)
    return y


def _default(y: object, whole: object) -> tuple[str, object]:
    items = _items(y)
    usual = [k for k in _USUAL if isinstance(items.get(k), Tensor)]
    floating = [k for k, v in items.items() if isinstance(v, Tensor) and v.is_floating_point()]
    others = [k for k, v in items.items() if isinstance(v, Tensor) or (_items(v) and v is not y)]
    for key in (*usual, *floating, *others):
        return key, items[key]
    raise InputError(
        f"the network returned {describe(whole)}, expected a tensor: "
        "wrap it so that forward returns the tensor to be measured"
    )


def _items(y: object) -> dict[str, object]:
    """Name the parts of an output: keys, fields or positions; empty for what has none."""
    if isinstance(y, Mapping):
        return {str(k): v for k, v in y.items()}
    if isinstance(y, (tuple, list)):
        names = getattr(y, "_fields", None)  # of a named tuple
        by_name = dict(zip(names, y, strict=True)) if names else {}
        return {**{str(i): v for i, v in enumerate(y)}, **by_name}
    if dataclasses.is_dataclass(y) and not isinstance(y, type):
        return {f.name: getattr(y, f.name) for f in dataclasses.fields(y)}
    return {}


def refuse_unmeasurable(y: Tensor) -> None:
    """Refuse outputs that are no dense tensor of real numbers with a derivative."""
    if y.is_complex():
        raise MeasurementError(
            "the output is complex: only real outputs can be measured; "
            "return torch.view_as_real of it"
        )
    if y.is_nested:
        raise MeasurementError(
            "the output is a nested tensor: return a dense one (to_padded_tensor), or one of its "
            "parts"
        )
    if y.layout is not torch.strided:
        raise MeasurementError("the output is a sparse tensor: return a dense one (to_dense)")
    if y.element_size() == 1 and y.is_floating_point():
        raise MeasurementError(
            f"the output is {dtype_name(y.dtype)}, too coarse for a derivative: return it before "
            "it is rounded"
        )
    if not y.is_floating_point():
        raise MeasurementError(
            f"the output is {dtype_name(y.dtype)}, which has no derivative: "
            "return the logits instead of their argmax"
        )


def describe(y: object) -> str:
    """Describe an output in words: its type and what it holds."""
    if y is None:
        return "None"
    if isinstance(y, Tensor):
        return _shape(y)
    items = _items(y)
    kind = type(y).__name__
    if not items:
        empty = isinstance(y, (tuple, list, Mapping))
        return f"an empty {kind}" if empty else f"a value of type {kind}"
    return f"a {kind} holding " + ", ".join(f"{k}: {_shape(v)}" for k, v in list(items.items())[:8])


def _shape(v: object) -> str:
    return f"a tensor {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
