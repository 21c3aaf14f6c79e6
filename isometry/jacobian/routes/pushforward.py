"""The first route for columns: forward mode, vectorised."""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor
from torch.func import jvp, vmap

from isometry.jacobian.function import PureFunction
from isometry.jacobian.routes.route import Route


class Pushforward(Route):
    """``vmap(jvp)``: the primal is computed once a block, tangents are batched."""

    name = "vmap(jvp)"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        _load_forward_rules()
        self._f, self._x = f, x

    def __call__(self, v: Tensor) -> Tensor:
        """Return J V."""

        def one(tangent: Tensor) -> Tensor:
            column: Tensor = jvp(self._f, (self._x,), (tangent,))[1]
            return column

        columns: Tensor = vmap(one, randomness="same")(v)
        return columns


@functools.cache
def _load_forward_rules() -> None:
    # At its first forward-mode product PyTorch imports rules of its own that use a deprecated
    # function; where warnings are errors that would look like a network without such rules.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        one = torch.ones((), device="cpu")
        jvp(torch.neg, (one,), (one,))
