"""The pullback of a network of plain layers, on the graph of an ordinary forward pass."""

from __future__ import annotations

from torch import Tensor
from torch.func import vmap

from isometry.jacobian.function import PureFunction, call
from isometry.jacobian.routes.batched_gradient import BatchedGradient, gradient


class GraphPullback(BatchedGradient):
    """``vmap`` of ``autograd.grad``: the rows of `Pullback`, with less around them.

    Where tensors are small, a forward pass under ``vjp`` costs twice an ordinary one; and the
    first ``vjp`` of a process imports PyTorch's compiler, which takes seconds. For plain layers
    alone, whose derivatives are known one by one.
    """

    name = "vmap(vjp)"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        self._x = x.detach().requires_grad_()
        self._y = call(f, self._x)  # under vmap, batch norm reads transposed gradients rightly
        self.y = self._y.detach()

    def __call__(self, u: Tensor) -> Tensor:
        """Return UᵀJ."""

        def row(one: Tensor) -> Tensor:
            return gradient(self._y, self._x, one, batched=False)

        rows: Tensor = vmap(row, randomness="same")(u)
        return rows
