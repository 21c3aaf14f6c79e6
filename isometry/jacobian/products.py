"""Products with a Jacobian at one point, by the first routes that serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from isometry.errors import MeasurementError, MemoryBudgetError
from isometry.jacobian.function import call
from isometry.jacobian.routes import CentralDifference, Ladder, LoopedGradient, Route

if TYPE_CHECKING:
    from isometry.jacobian.operator import Jacobian

_LONGEST = 120  # characters of PyTorch's own words in a note


class Products:
    """Rows and columns of J at one point, made inside an open measurement context.

    Routes are made when first needed and kept in `made`; which of them serve is remembered by
    the operator's ladders.
    """

    def __init__(self, jacobian: Jacobian, at: Tensor, made: dict[type[Route], Route]) -> None:
        self.f, self.x, self._jacobian = jacobian.f, at, jacobian
        self._made = made
        self.shape = jacobian.shape

    def pull(self, u: Tensor) -> Tensor:
        """Rows: (k, *output) cotangents to (k, *input)."""
        return self._product(self._jacobian.reverse, u, "reverse-mode")

    def push(self, v: Tensor) -> Tensor:
        """Columns: (k, *input) tangents to (k, *output)."""
        return self._product(self._jacobian.forward, v, "forward-mode")

    def loop(self, u: Tensor) -> Tensor:
        """Rows one by one, through plain autograd."""
        with self._lending():
            return LoopedGradient(self.f, self.x)(u.clone()).detach()

    def pushes_exactly(self) -> bool:
        """Whether columns come from automatic differentiation, not from differences."""
        self.push(torch.zeros((1, *self.x.shape), dtype=self.x.dtype, device=self.x.device))
        return self._jacobian.forward.route is not CentralDifference

    def largest_intermediate(self) -> int:
        """Elements of the largest tensor that the backward pass keeps, output included."""
        sizes = [*self.shape]

        def record(t: Tensor) -> Tensor:
            sizes.append(t.numel())
            return t

        saved = torch.autograd.graph.saved_tensors_hooks(record, lambda t: t)
        with self._jacobian.session(), saved:
            call(self.f, self.x.detach().requires_grad_())
        return max(sizes)

    def _product(self, ladder: Ladder, block: Tensor, mode: str) -> Tensor:
        if ladder.exhausted:
            raise MeasurementError(f"{mode} differentiation failed: {ladder.reasons[-1]}")
        while True:
            route = ladder.route
            try:
                if route not in self._made:
                    # Also where only a graph was to be run.
                    with self._jacobian.session(), self._lending():
                        self._made[route] = self._jacobian.kind_of(route)(self.f, self.x)
                given = block if self._jacobian.stock else block.clone()
                with self._lending():
                    return self._made[route](given).detach()
            except (Exception, SystemExit) as e:  # whatever is raised where it does not apply
                reason = first_line(e.__cause__ or e)
                if out_of_memory(e):
                    raise MemoryBudgetError(
                        f"memory ran out in a block of {len(block)} products ({reason}): allow "
                        "less with memory (--memory), which makes the blocks smaller"
                    ) from e
                if not ladder.descend(f"failed ({reason})"):
                    raise MeasurementError(f"{mode} differentiation failed: {reason}") from e

    def _lending(self) -> AbstractContextManager[None]:
        """A backward of the user's own may run modules; or write to what it is given."""
        stock = self._jacobian.stock
        return nullcontext() if stock else self._jacobian.network.lending(self.f)


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, cut where it is long."""
    if isinstance(error, SystemExit):
        return "the network called sys.exit"
    text = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn a failed allocation into the project's own error."""
    try:
        yield
    except RuntimeError as e:
        if not out_of_memory(e):
            raise
        raise MemoryBudgetError(
            f"memory ran out for {what} ({first_line(e)}): give a smaller input"
        ) from e


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception is a failed allocation, on the CPU or on a GPU."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
