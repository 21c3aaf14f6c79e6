"""Columns by differentiating the pullback, where forward mode has no rule."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vjp, vmap

from isometry.jacobian.function import PureFunction
from isometry.jacobian.routes.route import Route


class DoublePullback(Route):
    """``vmap(vjp)`` of the pullback.

    The pullback u ↦ Jᵀu is linear, so the pullback *of the pullback* at any u is v ↦ J v.
    """

    name = "vmap(vjp) of the pullback"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        u = any_cotangent(f(x))
        self._second = vjp(lambda w: vjp(f, x)[1](w)[0], u)[1]

    def __call__(self, v: Tensor) -> Tensor:
        """Return J V."""
        columns: Tensor = vmap(lambda one: self._second(one)[0], randomness="same")(v)
        return columns


def any_cotangent(y: Tensor) -> Tensor:
    """Return a random cotangent: some second derivatives are NaN at zero."""
    g = torch.Generator(device="cpu").manual_seed(0)
    return torch.randn(y.shape, generator=g, dtype=torch.float64, device="cpu").to(y)
