"""Which factors of a product are solved together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from isometry.laws.factors.diagonal import Diagonal
from isometry.laws.factors.diagonals import Diagonals
from isometry.laws.factors.factor import Factor, Hidden
from isometry.laws.factors.residual import Residual
from isometry.laws.factors.residuals import Residuals

Item = TypeVar("Item", bound=Hashable)


class Group(NamedTuple):
    """Hidden factors of one rank."""

    rows: slice  # of the unknowns
    rank: float
    hidden: Hidden


def groups(factors: Mapping[Factor, int], rank: Callable[[Factor], float]) -> list[Group]:
    """All hidden factors with their multiplicities, rows of about one length together."""
    diagonals: dict[tuple[float, int], list[tuple[Diagonal, int]]] = {}
    residuals: dict[tuple[float, int, str], list[tuple[Residual, int]]] = {}
    for factor, times in factors.items():
        if isinstance(factor, Residual):
            alike = rank(factor), factor.values.size.bit_length(), factor.kind
            residuals.setdefault(alike, []).append((factor, times))
        elif isinstance(factor, Diagonal) and not factor.powers:
            size = factor.values.size.bit_length()
            diagonals.setdefault((rank(factor), size), []).append((factor, times))
    found: list[tuple[float, Hidden]] = [(key[0], Diagonals(f)) for key, f in diagonals.items()]
    found += [(key[0], Residuals(f)) for key, f in residuals.items()]
    placed, first = [], 0
    for n, hidden in found:
        end = first + len(hidden.strips)
        placed.append(Group(slice(first, end), n, hidden))
        first = end
    return placed


def counted(items: Iterable[tuple[Item, int]]) -> dict[Item, int]:
    """Items with the sums of their multiplicities."""
    total: Counter[Item] = Counter()
    for item, times in items:
        total[item] += times
    return dict(total)
