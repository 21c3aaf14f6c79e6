"""Columns by differentiating plain autograd's gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from isometry.jacobian.function import PureFunction, call
from isometry.jacobian.routes.batched_gradient import contiguous_gradients
from isometry.jacobian.routes.double_pullback import any_cotangent
from isometry.jacobian.routes.route import Route


class DoubleGradient(Route):
    """``autograd.grad`` of ``autograd.grad``: u ↦ Jᵀu is linear, and its gradient is v ↦ J v."""

    name = "autograd.grad of the gradient"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        point = x.detach().requires_grad_()
        with contiguous_gradients():
            y = call(f, point)
        self._u = any_cotangent(y).requires_grad_()
        self._zero = torch.zeros_like(y)
        self._pulled = (
            torch.autograd.grad(y, point, self._u, create_graph=True, allow_unused=True)[0]
            if y.requires_grad
            else None
        )

    def __call__(self, v: Tensor) -> Tensor:
        """Return J V."""
        if self._pulled is None:
            return self._zero.expand(len(v), *self._zero.shape)
        # Where the gradient is cut off from u, as in functions differentiable once, this raises.
        columns = [torch.autograd.grad(self._pulled, self._u, w, retain_graph=True)[0] for w in v]
        return torch.stack(columns)
