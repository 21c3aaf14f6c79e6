"""The arguments of a network's forward, and the one among them to differentiate by."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isometry.errors import InputError
from isometry.jacobian.containers import attributes_of
from isometry.jacobian.placement import dtype_name


@dataclass(frozen=True)
class Arguments:
    """Positional and named arguments of one call.

    Attributes
    ----------
    positional : tuple
    named : dict
    key : int or str
        Which is differentiated by.
    are_tokens : bool
        The chosen one holds token ids, which are differentiated at their embedding.
    notes : tuple of str
        What was chosen where the caller left a choice.
    """

    positional: tuple[Any, ...]
    named: dict[str, Any]
    key: int | str
    are_tokens: bool = False
    notes: tuple[str, ...] = ()

    @property
    def chosen(self) -> Tensor:
        """The tensor differentiated by; for token ids, the ids."""
        key = self.key
        found: Tensor = self.positional[key] if isinstance(key, int) else self.named[key]
        return found

    def cast(self, dtype: torch.dtype, device: torch.device) -> Arguments:
        """Return them on a device, floating tensors in a precision; detached."""
        return Arguments(
            tuple(_cast(v, dtype, device) for v in self.positional),
            {k: _cast(v, dtype, device) for k, v in self.named.items()},
            self.key,
            self.are_tokens,
            self.notes,
        )

    def call(self, model: Callable[..., object], x: Tensor | None) -> object:
        """Call the network on copies, with `x` in the place of the chosen argument."""
        key = self.key
        if x is not None and key == 0 and len(self.positional) == 1:
            return model(x)
        positional = [_copy(v) for v in self.positional]
        named = {k: _copy(v) for k, v in self.named.items()}
        if x is not None:
            if isinstance(key, str):
                named[key] = x
            else:
                positional[key] = x
        return model(*positional, **named)


def read(model: Callable[..., object], x: object, wrt: str | None) -> Arguments:
    """Read a tensor (one argument), a tuple (positional) or a mapping (named arguments)."""
    positional, named = _split(x)
    given: list[tuple[int | str, Any]] = [*enumerate(positional), *named.items()]
    tensors = {k: v for k, v in given if isinstance(v, Tensor)}
    if not tensors:
        raise InputError(f"the input must be a tensor, got {_describe(x)}")
    floating = [k for k, v in tensors.items() if v.is_floating_point()]
    if len(tensors) > 1:
        # Nobody asks for the derivative by a mask; where only masks are floating, ids are meant.
        others = [k for k in floating if "mask" not in _name_of(model, k)]
        floating = others if others or len(tensors) > len(floating) else floating
    notes: tuple[str, ...] = ()
    if wrt is not None:
        key = _named_by(model, wrt, positional, tensors)
    else:
        key = floating[0] if floating else _ids_among(tensors)
        if len(floating) > 1:
            names = [_name_of(model, k) for k in floating]
            notes = (
                f"differentiated by {names[0]} of {', '.join(names)}; another with wrt (--wrt)",
            )
    if not torch.is_floating_point(tensors[key]) and _takes_tokens(model, tensors[key]):
        return Arguments(positional, named, key, True)
    refuse_bad_input(tensors[key])
    return Arguments(positional, named, key, False, notes)


def _ids_among(tensors: dict[int | str, Tensor]) -> int | str:
    whole = (k for k, v in tensors.items() if not v.is_floating_point() and v.dtype != torch.bool)
    return next(whole, next(iter(tensors)))


def refuse_bad_input(x: Tensor) -> None:
    """Refuse what cannot be differentiated by: integers, no elements, no values, NaN."""
    refuse_bad_kind(x)
    if x.numel() == 0:
        raise InputError(
            f"the input has no elements: its shape is {tuple(x.shape)}, expected sizes of at least "
            "1; give one input or more"
        )
    if x.is_meta:
        raise InputError("the input has no values (meta device): give a real tensor")
    if not all_finite(x):
        bad = int((~torch.isfinite(x)).sum())
        raise InputError(
            f"the input has {bad} NaN or infinite values of {math.prod(x.shape)}: clean it first"
        )


def all_finite(t: Tensor) -> bool:
    """Whether a tensor with elements holds neither NaN nor infinite values."""
    return math.isfinite(t.detach().abs().max())  # the maximum passes NaN on


def refuse_bad_kind(x: Tensor) -> None:
    """Refuse tensors of integers and of complex numbers, and those that are not dense."""
    if x.layout is not torch.strided or x.is_nested:
        raise InputError("the input is sparse or nested: give a dense tensor (x.to_dense())")
    known: Any = torch._C._functorch
    level = known.peek_interpreter_stack()
    if level is not None and level.key() == known.TransformType.Vmap:
        raise InputError("the input is inside torch.vmap: measure each input by itself")
    if x.is_floating_point() and x.element_size() > 1:
        return
    cure = "convert it to float32, or give the embedded input if these are token ids"
    if x.is_complex():
        cure = "give real and imaginary parts as entries of their own"
    raise InputError(f"the input is {dtype_name(x.dtype)}, expected floating point: {cure}")


def is_call(x: object) -> bool:
    """Whether `x` holds several arguments rather than one array."""
    if isinstance(x, Mapping):
        return True
    return isinstance(x, (tuple, list)) and any(isinstance(v, (Tensor, np.ndarray)) for v in x)


def _split(x: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(x, Mapping):
        return (), {str(k): _tensor(v) for k, v in x.items()}
    if isinstance(x, (tuple, list)) and is_call(x):
        return tuple(_tensor(v) for v in x), {}
    return (_tensor(x),), {}


def _tensor(v: object) -> object:
    if not isinstance(v, np.ndarray):
        return v
    try:  # PyTorch knows neither negative strides nor foreign byte orders
        v = np.ascontiguousarray(v, dtype=v.dtype.newbyteorder("="))
        return torch.as_tensor(v, device="cpu")  # not where the user's other tensors are made
    except TypeError as e:
        raise InputError(f"the input is an array of {v.dtype}, expected numbers") from e


def _named_by(
    model: Callable[..., object],
    wrt: str,
    positional: tuple[Any, ...],
    tensors: dict[int | str, Tensor],
) -> int | str:
    names: dict[str, int | str] = {_name_of(model, k): k for k in tensors}
    names |= {str(k): k for k in tensors}
    if wrt in names:
        return names[wrt]
    listed = ", ".join(repr(_name_of(model, k)) for k in tensors)
    raise InputError(f"there is no tensor argument {wrt!r} to differentiate by; there is {listed}")


def _name_of(model: Callable[..., object], key: int | str) -> str:
    """Return the name of an argument; its position where the signature does not tell."""
    if isinstance(key, str):
        return key
    try:
        forward = model.forward if isinstance(model, nn.Module) else model
        names = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        return str(key)
    if key < len(names) and names[key].kind is not inspect.Parameter.VAR_POSITIONAL:
        return names[key].name
    return str(key)


def has_embedding(model: Callable[..., object]) -> bool:
    """Whether a network holds a table of embeddings, for which integers are an input."""
    return isinstance(model, nn.Module) and any(
        isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in model.modules()
    )


def _takes_tokens(model: Callable[..., object], ids: Tensor) -> bool:
    return has_embedding(model) and not ids.is_complex() and ids.dtype != torch.bool


def _cast(v: Any, dtype: torch.dtype, device: torch.device) -> Any:
    def cast(t: Tensor) -> Tensor:
        t = t.detach()
        return t.to(device, dtype if t.is_floating_point() else t.dtype, copy=True)

    return _mapped(v, cast)


def _copy(v: Any) -> Any:
    return _mapped(v, Tensor.clone)


def _mapped(v: Any, on_tensor: Callable[[Tensor], Tensor]) -> Any:
    """Return an argument with other tensors in it; forward may change what it is given."""
    if isinstance(v, Tensor):
        return on_tensor(v)
    if isinstance(v, dict):
        return {k: _mapped(item, on_tensor) for k, item in v.items()}
    if isinstance(v, (tuple, list)):
        items = [_mapped(item, on_tensor) for item in v]
        return type(v)(*items) if hasattr(v, "_fields") else type(v)(items)
    if (attributes := attributes_of(v)) is None:
        return v
    other = copy.copy(v)
    vars(other).update({k: _mapped(item, on_tensor) for k, item in attributes.items()})
    return other


def _describe(x: object) -> str:
    empty = isinstance(x, (tuple, list, Mapping)) and not x
    return f"an empty {type(x).__name__}" if empty else type(x).__name__
