"""Columns by differentiating plain autograd's gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from isometry.jacobian.function import PureFunction, call
from isometry.jacobian.routes.batched_gradient import contiguous_gradients, gradient
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

        if self._pulled is not None and not self._pulled.requires_grad:
            raise NotImplementedError("the gradient has no gradient of its own")

    def __call__(self, v: Tensor) -> Tensor:
        """Return J V."""
        if self._pulled is None:
            return self._zero.expand(len(v), *self._zero.shape)
        return torch.stack([gradient(self._pulled, self._u, one, batched=False) for one in v])
