"""Factors in a row: whether their dimensions fit, and what lies between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from isometry.domain import whole
from isometry.errors import TheoryError
from isometry.laws.factors.factor import Factor

#: neighbours' dimensions agree to this fraction
_SAME = 1e-9

Factors = Iterable[Factor | tuple[Factor, int]]


def chained(factors: Factors) -> list[tuple[Factor, int]]:
    """Factors with their powers, in the order in which they are applied.

    Raises
    ------
    TheoryError
        When there is none, something else is among them, a power is not a whole number >= 1 or
        belongs to a factor that is not square, or the dimensions of neighbours differ.
    """
    chain: list[tuple[Factor, int]] = []
    for item in factors:
        factor, power = item if isinstance(item, tuple) and len(item) == 2 else (item, 1)
        if not isinstance(factor, Factor):
            raise TheoryError(f"a factor is {item!r}; expected a Factor or a (Factor, power)")
        power = whole(f"the power of {factor!r}", power, 1)
        if power > 1 and not _equal(factor.rows, factor.columns):
            raise TheoryError(
                f"{factor!r} is {factor.rows:g} × {factor.columns:g} and has the power {power}; "
                "expected a square factor, or each of a rectangular chain by itself"
            )
        if chain and not _equal(factor.columns, chain[-1][0].rows):
            raise TheoryError(
                f"factor {len(chain) + 1}, {factor!r}, takes {factor.columns:g} inputs, and the "
                f"one before it gives {chain[-1][0].rows:g} outputs; expected equal dimensions"
            )
        chain += [(part, power) for part in factor.parts]
    if not chain:
        raise TheoryError("there is no factor; expected at least one")
    return chain


def interfaces(chain: Sequence[tuple[Factor, int]]) -> list[tuple[float, int]]:
    """Dimensions between neighbours, and how often each occurs."""
    inner = [(factor.rows, power - 1) for factor, power in chain]
    return inner + [(factor.rows, 1) for factor, _ in chain[:-1]]


def title(chain: Sequence[tuple[Factor, int]]) -> str:
    """A name for a legend."""
    count = sum(power for _, power in chain)
    rows, columns = chain[-1][0].rows, chain[0][0].columns
    return f"free product of {count} factor{'s' if count > 1 else ''}, {rows:g} × {columns:g}"


def _equal(m: float, n: float) -> bool:
    return abs(m - n) <= _SAME * max(m, n)
