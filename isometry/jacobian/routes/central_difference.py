"""Columns by central differences, where nothing else is to be had."""

from __future__ import annotations

import torch
from torch import Tensor

from isometry.jacobian.function import PureFunction, call
from isometry.jacobian.routes.route import Route

# Relative to the input: the first suit smooth networks in float64, small ones the
# neighbourhood of a kink, large ones networks that compute in float32 inside.
_STEPS = (1e-4, 1e-5, 1e-3, 1e-6, 1e-2)
_ENOUGH = 1e-8


class CentralDifference(Route):
    """(4 D(h/2) − D(h))/3 with D(h) = (f(x + h v) − f(x − h v))/2h: exact to fourth order in h.

    Nothing checks it: what is measured through it gets no verdict.
    """

    name = "central differences"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        self._f, self._x = f, x

    def __call__(self, v: Tensor) -> Tensor:
        """Return J V."""
        return torch.stack([along(self._f, self._x, one)[0] for one in v])


def along(f: PureFunction, x: Tensor, v: Tensor) -> tuple[Tensor, float]:
    """Return J v, with the largest absolute error that is left.

    The step is the first at which two sizes agree, or else the one where they agree best.
    """
    size = float(v.abs().max())
    if size == 0:
        return torch.zeros_like(call(f, x)).detach(), 0.0
    scale = (float(x.double().square().mean().sqrt()) or 1.0) / size
    best, best_error = torch.zeros(0, device=x.device), float("inf")
    for relative in _STEPS:
        h = relative * scale
        wide, narrow = _slope(f, x, v, h), _slope(f, x, v, h / 2)
        error = float((wide - narrow).abs().max())
        # Below the resolution of a float32 layer, two steps agree on nothing at all.
        vanished = bool(best.any()) and not narrow.any()
        if not best.numel() or (error < best_error and not vanished):
            best, best_error = (4 * narrow - wide) / 3, error
        if error <= _ENOUGH * float(narrow.abs().max()):
            break
    return best, best_error


def _slope(f: PureFunction, x: Tensor, v: Tensor, h: float) -> Tensor:
    with torch.no_grad():
        # A copy, because the output may be a view of an input that is written to.
        ahead = call(f, x + h * v).detach().clone()
        return (ahead - call(f, x - h * v).detach()) / (2 * h)
