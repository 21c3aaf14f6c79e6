"""Columns by central differences, where nothing else is to be had."""

from __future__ import annotations

import torch
from torch import Tensor

from isometry.jacobian.function import PureFunction, call
from isometry.jacobian.routes.route import Route

# Relative to the input: 1e-3 of it to the fourth order leaves an error of about 1e-12.
_STEP = 1e-3


class CentralDifference(Route):
    """(4 D(h/2) − D(h))/3 with D(h) = (f(x + h v) − f(x − h v))/2h: exact to fourth order in h.

    Good to about 1e-10 in float64 for a smooth network, and wrong across a kink: what is
    measured through it gets no verdict.
    """

    name = "central differences"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        self._f, self._x = f, x

    def __call__(self, v: Tensor) -> Tensor:
        """Return J V."""
        return torch.stack([self._along(one) for one in v])

    def _along(self, v: Tensor) -> Tensor:
        size = float(v.abs().max())
        scale = float(self._x.double().square().mean().sqrt()) or 1.0
        if size == 0:
            return torch.zeros_like(call(self._f, self._x)).detach()
        h = _STEP * scale / size
        return (4 * self._slope(v, h / 2) - self._slope(v, h)) / 3

    def _slope(self, v: Tensor, h: float) -> Tensor:
        with torch.no_grad():
            ahead, behind = call(self._f, self._x + h * v), call(self._f, self._x - h * v)
        return (ahead - behind) / (2 * h)
