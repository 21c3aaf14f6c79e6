"""The truth: a Jacobian by differences alone, and the inputs grammar at its most naive."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# A large step for functions that compute in float32 somewhere, a small one beside a kink.
_STEPS = (1e-4, 1e-5, 1e-3, 1e-6, 1e-2)
_ENOUGH = 1e-8


def central_difference(
    f: Callable[[Tensor], Tensor], x: Tensor, tangents: Tensor | None = None
) -> tuple[Tensor, float]:
    """Return J V (m, k) of f at a float64 `x` for `tangents` (k, n), and an estimate of its error.

    Without tangents J itself.

    Central differences with Richardson extrapolation, one column at a time. The step is the first
    of several at which two step sizes agree, or else the one at which they agree best. The
    estimate is the largest disagreement left, relative to the largest entry; it is an upper
    bound in practice, since the extrapolated value is better than either.
    """
    if x.dtype != torch.float64:
        raise TypeError(f"differences need float64, got {x.dtype}")
    columns, errors = [], []
    for v in torch.eye(x.numel(), dtype=x.dtype) if tangents is None else tangents:
        column, error = directional_difference(f, x, v.reshape(x.shape))
        columns.append(column.flatten())
        errors.append(error)
    jac = torch.stack(columns, dim=1)
    largest = float(jac.abs().max())
    return jac, max(errors) / largest if largest > 0 else max(errors)


def directional_difference(
    f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor
) -> tuple[Tensor, float]:
    """Return J v by differences, with the largest absolute error that is left."""
    best, best_error = None, float("inf")
    for h in _STEPS:
        wide, narrow = _slope(f, x, v, h), _slope(f, x, v, h / 2)
        error = float((wide - narrow).abs().max())
        # Below the resolution of a float32 layer, two steps agree on nothing at all.
        vanished = best is not None and best.any() and not narrow.any()
        if best is None or (error < best_error and not vanished):
            best, best_error = (4 * narrow - wide) / 3, error
        if error <= _ENOUGH * float(narrow.abs().max()):
            break
    return best, best_error


class AllInDouble(TorchFunctionMode):
    """Turns a network's own conversions to float32 into conversions to float64.

    A difference of float32 numbers is good to four digits; so read, it is good to nine.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call `func` with float64 in the place of float32."""
        if func is Tensor.float:
            func = Tensor.double
        args = [torch.float64 if a is torch.float32 else a for a in args]
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return func(*args, **kwargs)


def _slope(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, h: float) -> Tensor:
    with torch.no_grad():
        return (_value(f, x + h * v) - _value(f, x - h * v)) / (2 * h)


def _value(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    # A clone, because the output may be a view of an input that is written to.
    return f(x).detach().to(torch.float64, copy=True)
