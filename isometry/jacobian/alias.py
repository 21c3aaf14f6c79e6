"""Tensors that view one memory, and a copy that they view in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from isometry.errors import InputError
from isometry.jacobian.placement import dtype_name

_ALIGNED = 16  # bytes of the largest element, a complex128


class Alias:
    """A copy of the memory that several tensors view.

    Where all are made of the same real numbers it holds these, in the precision asked for;
    where one reads as integers what another reads as floats, it holds their bytes.

    Parameters
    ----------
    named : sequence of (str, Tensor)
        All that view it, with their names.
    dtype, device
        Of the copy, where it holds floats.

    Attributes
    ----------
    tensors : tuple of Tensor
        Those given.
    base : Tensor
        The copy, flat.

    Raises
    ------
    InputError
        If no copy in that precision can be viewed by all of them.
    """

    def __init__(
        self, named: Sequence[tuple[str, Tensor]], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.tensors = tuple(t for _, t in named)
        reals = {t.dtype.to_real() for t in self.tensors}
        self._bytes = len(reals) > 1
        start = min(_extent(t)[0] for t in self.tensors) // _ALIGNED * _ALIGNED
        starts = {id(t): _extent(t)[0] - start for t in self.tensors}
        converted = self._bytes and any(r.is_floating_point and r != dtype for r in reals)
        if converted or any(starts[id(t)] % t.itemsize for t in self.tensors):
            kinds = " and ".join(f"{k!r} ({dtype_name(t.dtype)})" for k, t in named)
            raise InputError(
                f"{kinds} view one memory, which no copies in {dtype_name(dtype)} can: measure in "
                "the network's own precision (dtype=..., --dtype), or give each its own memory"
            )
        self._offsets = [starts[id(t)] // t.itemsize for t in self.tensors]
        number = torch.uint8 if self._bytes else reals.pop()
        size = max(_extent(t)[1] for t in self.tensors) - start
        kept = dtype if number.is_floating_point else number
        elements = (size + _ALIGNED) // _ALIGNED * _ALIGNED // number.itemsize
        self.base = torch.zeros(elements, dtype=kept, device=device)
        for t in self.tensors:
            numbers = _numbers(t).view(number)
            at = starts[id(t)] // number.itemsize
            self.base[at : at + len(numbers)] = numbers

    def views(self, base: Tensor) -> list[Tensor]:
        """Return the tensors as views of the base, or of a clone of it."""
        return [self._view(base, *pair) for pair in zip(self.tensors, self._offsets, strict=True)]

    def _view(self, base: Tensor, like: Tensor, offset: int) -> Tensor:
        if self._bytes:
            base = base.view(like.dtype)
        elif like.is_complex():
            base = torch.view_as_complex(base.view(-1, 2))
        t = base.as_strided(like.shape, like.stride(), offset)
        t = t.conj() if like.is_conj() else t
        return torch._neg_view(t) if like.is_neg() else t


def overlapping(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return those that view one memory, together; of most networks none do.

    A tensor that views an element of its own twice, as an expanded one, counts too.
    """
    known = list(tensors)
    extents = sorted([(*_extent(t), i) for i, t in enumerate(known)])
    together: list[list[int]] = []
    end = 0
    for first, last, i in extents:
        if first < end:
            together[-1].append(i)
            end = max(end, last)
        elif last:
            together.append([i])
            end = last
    found = [[known[i] for i in several] for several in together if several[1:]]
    return found + [[known[i]] for i, *more in together if not more and _folded(known[i])]


def _extent(t: Tensor) -> tuple[int, int]:
    """Return the addresses of its first byte and behind its last; zeros where it has none."""
    try:
        first = t.data_ptr() if t.layout is torch.strided else 0
    except RuntimeError:  # a tensor that wraps others
        return 0, 0
    if not first:
        return 0, 0
    return first, first + (t.nbytes if t.is_contiguous() else _reach(t) * t.itemsize)


def _reach(t: Tensor) -> int:
    return 1 + sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True))


def _folded(t: Tensor) -> bool:
    return not t.is_contiguous() and _reach(t) < t.numel()


def _numbers(t: Tensor) -> Tensor:
    """Return all real numbers in its extent, flat, as they are in memory."""
    t = t.detach()
    t = t.conj() if t.is_conj() else t
    t = torch._neg_view(t) if t.is_neg() else t
    t = t.as_strided((_reach(t),), (1,))
    return torch.view_as_real(t).flatten() if t.is_complex() else t
