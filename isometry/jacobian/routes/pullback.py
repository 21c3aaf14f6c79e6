"""The first route for rows: the pullback of one forward pass, vectorised."""

from __future__ import annotations

from torch import Tensor
from torch.func import vjp, vmap

from isometry.jacobian.function import PureFunction, call
from isometry.jacobian.routes.route import Route


class Pullback(Route):
    """``vmap(vjp)``, also for a block of one.

    Never the plain pullback: it returns wrong values through batch norm at batch size 1 when
    the output is flattened and transposed, where the vectorised one is right.
    """

    name = "vmap(vjp)"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        self.y, self._pullback = vjp(lambda point: call(f, point), x)[:2]

    def __call__(self, u: Tensor) -> Tensor:
        """Return UᵀJ."""
        rows: Tensor = vmap(lambda one: self._pullback(one)[0], randomness="same")(u)
        return rows
