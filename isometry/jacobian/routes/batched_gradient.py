"""Rows by plain autograd, where the function transforms do not apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from isometry.jacobian.function import PureFunction, call
from isometry.jacobian.routes.route import Route
from isometry.jacobian.undo import Undo


class BatchedGradient(Route):
    """``torch.autograd.grad`` with a batch of cotangents.

    The way through autograd functions of the old kind, which know no function transforms.
    """

    name = "batched autograd.grad"

    def __init__(self, f: PureFunction, x: Tensor) -> None:
        self._x = x.detach().requires_grad_()
        with contiguous_gradients():
            self._y = call(f, self._x)
        self.y = self._y.detach()

    @property
    def graph(self) -> tuple[Tensor, Tensor]:
        """Return x and f(x), joined by the graph of the forward pass."""
        return self._x, self._y

    def __call__(self, u: Tensor) -> Tensor:
        """Return UᵀJ."""
        return gradient(self._y, self._x, u, batched=True)


def gradient(y: Tensor, x: Tensor, u: Tensor, *, batched: bool) -> Tensor:
    """Return the gradient of ⟨u, y⟩ by x, zero where y does not depend on it."""
    found = None
    if y.requires_grad:
        found = torch.autograd.grad(
            y, x, u, retain_graph=True, allow_unused=True, is_grads_batched=batched
        )[0]
    return x.new_zeros((*u.shape[: int(batched)], *x.shape)) if found is None else found


def _contiguous(g: Tensor) -> Tensor:
    return g.clone(memory_format=torch.contiguous_format)


@contextmanager
def contiguous_gradients() -> Iterator[None]:
    """Let gradients reach normalisation layers in contiguous memory.

    Through batch norm at batch size 1 PyTorch's backward misreads a gradient that arrives
    transposed. Global functions are exchanged, and put back on leaving.
    """

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def norm(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            if isinstance(out, Tensor) and out.requires_grad:
                hooked: Any = out
                hooked.register_hook(_contiguous)
            return out

        return norm

    with Undo() as undo, undo:
        for name in ("batch_norm", "instance_norm"):
            undo.set(F, name, wrapped(getattr(F, name)))
        yield
