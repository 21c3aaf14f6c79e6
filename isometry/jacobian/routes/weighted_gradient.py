"""Rows by plain autograd through code that asks for gradients of weights."""

from __future__ import annotations

from torch import Tensor

from isometry.jacobian.function import PureFunction
from isometry.jacobian.lent import with_gradients
from isometry.jacobian.routes.looped_gradient import LoopedGradient


class WeightedGradient(LoopedGradient):
    """``torch.autograd.grad``, a cotangent at a time, with weights that require gradients.

    For checkpointing written by hand, whose backward takes the gradients of weights itself and
    fails where these want none.
    """

    name = "looped autograd.grad beside the weights"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        with with_gradients():
            super().__init__(f, x)

    def __call__(self, u: Tensor) -> Tensor:
        """Return UᵀJ."""
        with with_gradients():
            return super().__call__(u)
