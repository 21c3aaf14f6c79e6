"""Rows one by one, the last route of automatic differentiation."""

from __future__ import annotations

import torch
from torch import Tensor

from isometry.jacobian.routes.batched_gradient import BatchedGradient, gradient


class LoopedGradient(BatchedGradient):
    """``torch.autograd.grad``, a cotangent at a time: for what no batch passes through."""

    name = "looped autograd.grad"

    def __call__(self, u: Tensor) -> Tensor:
        """Return UᵀJ."""
        return torch.stack([gradient(self._y, self._x, one, batched=False) for one in u])
