"""The network as a pure function of its input, its weights held fixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy
from torch.nn.utils import get_total_norm

from isometry.errors import InputError, MeasurementError

PureFunction = Callable[[Tensor], Tensor]


def pure_function(
    model: Callable[..., object], dtype: torch.dtype, device: torch.device
) -> PureFunction:
    """Return ``x ↦ model(x)`` with detached weights in the given dtype, on the given device.

    The model's own tensors are never touched: weights are detached copies or aliases,
    buffers are cloned at every call so that a forward which updates them updates a copy,
    and the input is cloned so that an in-place operation on it cannot reach the caller's.
    """
    if not isinstance(model, nn.Module):
        return lambda x: _tensor(model(x.clone()))
    weights = {k: _fixed(k, p, dtype, device) for k, p in model.named_parameters()}
    buffers = {k: _fixed(k, b, dtype, device) for k, b in model.named_buffers()}
    _refuse_not_finite({**weights, **buffers})

    def f(x: Tensor) -> Tensor:
        state = {**weights, **{k: b.clone() for k, b in buffers.items()}}
        return _tensor(functional_call(model, state, (x.clone(),)))

    return f


def call(f: PureFunction, x: Tensor) -> Tensor:
    """Evaluate the network once, turning whatever its code raises into an `InputError`."""
    try:
        return f(x)
    except (InputError, MeasurementError):
        raise
    except RecursionError as e:
        raise InputError("the network's forward recurses without end") from e
    except Exception as e:  # the user's own code may raise anything
        text = (str(e).strip().splitlines() or ["no message"])[0]
        raise InputError(
            f"the network raised {type(e).__name__} on an input of shape {tuple(x.shape)}: {text}"
        ) from e


def count_bad(t: Tensor) -> int:
    """Count the NaN and infinite values of a tensor."""
    return int(t.numel() - torch.isfinite(t.detach()).sum())


def _fixed(name: str, t: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if is_lazy(t):
        raise InputError(f"{name!r} has no shape yet (lazy layer): call the model once first")
    if t.is_meta:
        raise InputError(f"{name!r} has no values (meta device): load the model's weights first")
    t = t.detach().to(device=device, dtype=dtype if t.is_floating_point() else t.dtype)
    # A tensor made in inference mode cannot be saved for the backward pass.
    return t.clone() if t.is_inference() else t


def _refuse_not_finite(tensors: Mapping[str, Tensor]) -> None:
    floating = {k: t for k, t in tensors.items() if t.is_floating_point()}
    # One fused pass over all weights; which one is bad matters only if one is.
    if not floating or get_total_norm(list(floating.values()), norm_type=math.inf).isfinite():
        return
    for name, t in floating.items():
        if bad := count_bad(t):
            raise MeasurementError(
                f"{name!r} has {bad} NaN or infinite values of {t.numel()}: "
                "the file is damaged or training has diverged"
            )


def _tensor(y: object) -> Tensor:
    if not isinstance(y, Tensor):
        raise InputError(
            f"the network returned {_describe(y)}, expected one tensor: "
            "wrap it so that forward returns the tensor to be measured"
        )
    if y.is_complex():
        raise MeasurementError("the output is complex: only real outputs can be measured")
    if not y.is_floating_point():
        raise MeasurementError(
            f"the output is {str(y.dtype).removeprefix('torch.')}, which has no derivative: "
            "return the logits instead of their argmax"
        )
    return y


def _describe(y: object) -> str:
    kind = type(y).__name__
    if isinstance(y, Mapping):
        items = [f"{k}: {_shape(v)}" for k, v in y.items()]
    elif isinstance(y, (tuple, list)):
        items = [_shape(v) for v in y]
    else:
        return "None" if y is None else f"a value of type {kind}"
    return f"a {kind} holding " + (", ".join(items[:6]) or "nothing")


def _shape(v: object) -> str:
    return f"a tensor {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
