"""Blocks of vectors: as a caller lays them out, and as many as memory allows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from isometry.errors import InputError, MemoryBudgetError
from isometry.jacobian.attention import AttentionTables
from isometry.jacobian.placement import dtype_name
from isometry.jacobian.products import Products
from isometry.memory import default_budget, format_size, way_out

# One vector of a block holds a few intermediate tensors of the network at a time.
_TENSORS_ALIVE = 4
_WIDEST = 1024
# Intermediate tensors do not exceed input and output by more: where this much would not fit,
# they are measured.
_USUAL_GROWTH = 4096


class Blocks:
    """How many vectors of one network's products fit into memory together.

    Parameters
    ----------
    memory : int or None
        Bytes that may be used; by default half of the device's memory.
    device : torch.device
    tables : AttentionTables
        What attention takes beside them.
    """

    def __init__(self, memory: int | None, device: torch.device, tables: AttentionTables) -> None:
        self._memory, self._device, self._tables = memory, device, tables
        self._largest: int | None = None
        self._fit = 0  # vectors that are known to fit together

    @cached_property
    def budget(self) -> int:
        """Bytes that may be used; asked for once, since small networks feel it."""
        return default_budget(self._device) if self._memory is None else self._memory

    def reserve_attention(self, itemsize: int) -> str:
        """Look before leaping: on the plain kernel attention takes positions² memory a head.

        Returns a note where it takes much, and refuses what would not fit.
        """
        if not self._tables.elements:
            return ""
        needed, budget = (
            self._tables.fixed(itemsize) + self._tables.per_vector(itemsize),
            self.budget,
        )
        if needed > budget:
            raise MemoryBudgetError(
                f"attention needs {format_size(needed)} on the plain kernel, the one that can be "
                f"differentiated, more than the {format_size(budget)} allowed: give a shorter "
                f"sequence, {way_out(needed, self._device)}"
            )
        large = needed > budget / 4
        return f"attention takes {format_size(needed)} on the plain kernel" if large else ""

    def reserve_dense(self, shape: tuple[int, int], dtype: torch.dtype, memory: int | None) -> int:
        """Return the bytes that are left beside J and the copy that its SVD overwrites."""
        budget = self.budget if memory is None else memory
        m, n = shape
        needed = 2 * m * n * dtype.itemsize
        if needed > budget:
            raise MemoryBudgetError(
                f"the dense Jacobian is {m} x {n} in {dtype_name(dtype)} and needs "
                f"{format_size(needed)}, more than the {format_size(budget)} allowed: give a "
                "smaller input, measure a part of it (--start, --stop, --output, --at), "
                f"{way_out(needed, self._device)}"
            )
        return budget - needed

    def width(self, s: Products, total: int, budget: int | None = None) -> int:
        """Return how many of `total` vectors go through the network together."""
        budget = self.budget if budget is None else budget
        itemsize = s.x.element_size()
        vectors = min(total, _WIDEST)
        if tables := self._tables.per_vector(itemsize):
            vectors = max(1, min(vectors, (budget - self._tables.fixed(itemsize)) // tables))
        per_element = _TENSORS_ALIVE * itemsize
        if vectors * per_element * _USUAL_GROWTH * max(s.shape) <= budget:
            return vectors
        if self._largest is None:
            self._largest = s.largest_intermediate()
        return min(max(1, int(budget // (per_element * self._largest))), vectors)

    def products(self, s: Products, route: Callable[[Tensor], Tensor], block: Tensor) -> Tensor:
        """Return the products of a block, taken as few at a time as memory asks for."""
        if len(block) > self._fit:
            width = self.width(s, len(block))
            if width < len(block):
                return torch.cat([route(part) for part in torch.split(block, width)])
            self._fit = width
        return route(block)

    def of_identity(
        self, s: Products, route: Callable[[Tensor], Tensor], shape: torch.Size, budget: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Give the products of all unit vectors of a shape, block after block, flattened."""
        total = shape.numel()
        width = self.width(s, total, budget)
        for start in range(0, total, width):
            k = min(width, total - start)
            basis = torch.zeros(k, total, dtype=s.x.dtype, device=s.x.device)
            basis.diagonal(start).fill_(1)
            yield start, route(basis.reshape(k, *shape)).reshape(k, -1)


def as_rows(v: Tensor, size: int, like: Tensor, product: str) -> Tensor:
    """Return a caller's vectors as rows: (size,) or (..., size, k) to (..., k, size).

    Parameters
    ----------
    v : Tensor
    size : int
    like : Tensor
        Whose precision and device the rows get.
    product : str
        What was asked for, for the message.
    """
    if isinstance(v, Tensor) and (v.is_nested or v.layout is not torch.strided or v.is_meta):
        raise InputError(f"{product} takes dense tensors with values, got one that is not")
    if not isinstance(v, Tensor) or v.ndim < 1 or v.shape[-2 if v.ndim > 1 else 0] != size:
        came = f"a tensor {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
        raise InputError(
            f"{product} needs a tensor of shape ({size},) or (..., {size}, k), got {came}"
        )
    if v.is_complex():
        raise InputError(f"{product} takes real vectors, of a complex one each part in turn")
    v = v.detach().to(like)
    return v if v.ndim == 1 else v.transpose(-2, -1)


def as_given(rows: Tensor, size: int, given: Tensor) -> Tensor:
    """Lay products of length `size` out as the vectors they are of; undoes `as_rows`."""
    if given.ndim == 1:
        return rows.reshape(size)
    return rows.reshape(*given.shape[:-2], given.shape[-1], size).transpose(-2, -1)
