"""The tensor that an initialiser fills: what it may be, and how it is written."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from isometry.errors import InputError

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def checked(tensor: Tensor, what: str = "weight", dimensions: int = 2) -> Tensor:
    """Return the tensor, where it can be filled in place.

    Raises
    ------
    InputError
        If it is no tensor, is lazy, sparse, quantised, complex or of integers, has fewer
        dimensions or no entries, shares its memory with itself, or is computed from others.
    """
    if not isinstance(tensor, Tensor):
        raise InputError(
            f"the {what} is a {type(tensor).__name__}; expected a tensor, such as layer.{what}"
        )
    if isinstance(tensor, UninitializedBuffer | UninitializedParameter):
        raise InputError(f"the {what} is lazy and has no shape yet; run its network once first")
    if tensor.is_quantized or tensor.dtype not in _DTYPES or tensor.layout is not torch.strided:
        raise InputError(
            f"the {what} is a {_kind(tensor)} tensor of {tensor.dtype}; expected a dense one of "
            "float16, bfloat16, float32 or float64: initialise before quantising"
        )
    shape = tuple(tensor.shape)
    if tensor.ndim < dimensions:
        raise InputError(
            f"the {what} has shape {shape}; expected at least {dimensions} dimensions: "
            "(out, in), or (out, in, *kernel)"
        )
    if 0 in shape:
        raise InputError(f"the {what} has shape {shape}; expected at least one entry a dimension")
    if any(step == 0 and size > 1 for step, size in zip(tensor.stride(), shape, strict=True)):
        raise InputError(f"the {what} is expanded: its entries share memory; give a clone of it")
    _refuse_computed(tensor, what)
    return tensor


def _kind(tensor: Tensor) -> str:
    if tensor.is_quantized:
        return "quantised"
    return "dense" if tensor.layout is torch.strided else "sparse"


def _refuse_computed(tensor: Tensor, what: str) -> None:
    source = tensor if tensor._base is None else tensor._base
    if source.grad_fn is not None:
        raise InputError(
            f"the {what} is computed from other parameters, as by weight_norm, and would be "
            "computed anew; remove the parametrisation first"
        )
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise InputError(
            f"the {what} was made in inference mode and cannot be changed outside; give a clone"
        )


def write(tensor: Tensor, value: Tensor) -> Tensor:
    """Round the values to the tensor's precision, put them there, and return it."""
    rounded = rounded_as(tensor, value)
    with torch.no_grad():  # on the meta device this does nothing
        tensor.copy_(rounded)
    return tensor


def rounded_as(tensor: Tensor, value: Tensor) -> Tensor:
    """Return the values in the tensor's precision.

    Raises
    ------
    InputError
        If that precision cannot hold them.
    """
    rounded = value.to(tensor.dtype)
    if not (tensor.is_meta or bool(rounded.isfinite().all())):
        raise InputError(
            f"values of up to {float(value.abs().max()):.4g} do not fit into {tensor.dtype}; "
            "try a smaller scale"
        )
    return rounded
