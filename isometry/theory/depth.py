"""What theory expects behind every block of a network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from isometry.errors import TheoryError
from isometry.laws import Factor, free_product
from isometry.part import Part
from isometry.score import QUANTILES
from isometry.theory.free_product import measured
from isometry.theory.mean_field import grouped, limit_factors

_LAWS = 12  # at most so many laws of cumulative products


@dataclass(frozen=True)
class ByDepth:
    """Expectations of J from the input to behind a block, by the number of that block.

    Attributes
    ----------
    name : str
        What they assume.
    log_gain : tuple of float
        log √E[σ²] behind every block.
    drift : mapping of int to float
        E[log σ | σ > 0], behind a few blocks.
    quantiles : mapping of int to tuple of float
        log σ_p, behind the same.
    """

    name: str
    log_gain: tuple[float, ...]
    drift: Mapping[int, float]
    quantiles: Mapping[int, tuple[float, ...]]


def by_depth(parts: Sequence[Part], looks: Iterable[int]) -> tuple[ByDepth | None, list[str]]:
    """Multiply the laws of the blocks, one after the other.

    Each block has its law at infinite width, at the variance q_l that was measured there, so that
    log √E[σ²] grows by ½ log χ₁(q_l) per square layer. A block without such a law enters as it was
    measured, free of its neighbours; where most have none all do.

    Parameters
    ----------
    parts : sequence of Part
    looks : iterable of int
        Numbers of the blocks behind which there is a spectrum to compare with.

    Returns
    -------
    ByDepth or None
        None where a block lets nothing through, or an equation could not be solved.
    notes : list of str
    """
    notes = list[str]()
    try:
        factors, why = limit_factors(parts, own=True)
        name = "mean field at the measured variances"
        notes = [f"mean field: {reason}" for reason in grouped(why)]
        if 2 * len(why) > len(parts):
            factors, name = [measured(p) for p in parts], "free product of the blocks as measured"
        elif why:
            name += f", {len(why)} block{'s' * (len(why) > 1)} as measured"
        chosen = _spread(
            [i for i in sorted(looks) if parts[i].kind not in ("activation", "routing")]
        )
        laws = {i: free_product(factors[: i + 1]) for i in sorted({*chosen, *sorted(looks)[-1:]})}
        return ByDepth(
            name,
            _log_gains(factors),
            {i: law.mean_log_sigma for i, law in laws.items()},
            {i: tuple(map(float, law.quantile(QUANTILES))) for i, law in laws.items()},
        ), notes
    except TheoryError as e:
        return None, [f"no theory: {e}"]


def _spread(numbers: Sequence[int]) -> set[int]:
    """Choose a few, first and last among them, at even distances."""
    steps = min(_LAWS, len(numbers)) - 1
    return {numbers[round(i * (len(numbers) - 1) / max(steps, 1))] for i in range(steps + 1)}


def _log_gains(factors: Sequence[Factor]) -> tuple[float, ...]:
    """E ‖J‖_F² = n Π_l g_l for free factors, where g_l = E ‖A_l v‖² / ‖v‖² for a random v."""
    ranks = [min(factor.rows, factor.columns) for factor in factors]
    grown = accumulate(
        math.log(free_product([factor]).moments(1)[0] * rank / factor.columns)
        for factor, rank in zip(factors, ranks, strict=True)
    )
    n = factors[0].columns
    widths = accumulate(ranks, min)
    return tuple(0.5 * (g + math.log(n / width)) for g, width in zip(grown, widths, strict=True))
