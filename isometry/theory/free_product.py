"""The free product of a network's own parts, and the same with skips added freely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isometry.errors import TheoryError
from isometry.laws import Diagonal, Factor, Isometry, Law, Residual, free_product
from isometry.part import Part
from isometry.spectrum import Spectrum
from isometry.theory.ensemble import ORTHOGONAL

Array = NDArray[np.float64]

# Behind these an entry still stands where it stood, beside other terms.
_CARRIERS = {"activation", "routing", "normalisation"}
# (floor / σ_max)² of rounding in float32, and less: probes resolve nothing like it.
_ROUNDING = 1e-10
_BELOW = 32  # values in the place of those that probes leave unresolved


def of_parts(parts: Sequence[Part]) -> Law:
    """Law of J if its parts were free of each other: every one enters as it was measured."""
    _require(parts)
    return free_product([measured(p) for p in parts], name=f"{_count(parts)} as measured")


def with_skips(parts: Sequence[Part]) -> Law:
    """The same, but what stands beside a skip is added to it freely.

    A sum a x + F(x) becomes a I + X, where X has the singular values of the Jacobian of F and is
    free of everything else (symmetrised free addition).

    Raises
    ------
    TheoryError
        If there is no skip.
    """
    _require(parts)
    skips = sum(p.branch is not None for p in parts)
    if not skips:
        raise TheoryError(_no_skip([p.name for p in parts if p.kind == "sum"]))
    factors = [measured(p) if p.branch is None else _residual(p, p.branch) for p in parts]
    return free_product(factors, name=f"{_count(parts)} as measured, {skips} skips")


def measured(part: Part) -> Factor:
    """A factor with the singular values that were measured."""
    values, weights = squares(part.spectrum)
    rows, columns = part.shape
    known = not part.spectrum.dead + part.spectrum.unresolved
    if known and np.ptp(part.spectrum.log_sigma) < ORTHOGONAL:
        return Isometry(rows, columns, scale=float(np.sqrt(values.mean())))
    return Diagonal(values, weights, rows, columns)


def squares(spectrum: Spectrum) -> tuple[Array, Array]:
    """σ² and their masses.

    What rounding hides counts as zero. What probes leave unresolved is spread evenly in σ up to
    their floor, as at the hard edge of a square matrix of independent entries.
    """
    values, weights = np.exp(2 * spectrum.log_sigma), spectrum.weights
    zero, floor = spectrum.dead, float(np.exp(spectrum.log_floor))
    if floor**2 <= _ROUNDING * values.max(initial=0.0):
        zero += spectrum.unresolved
    elif spectrum.unresolved > 0:
        below = floor * (np.arange(_BELOW) + 0.5) / _BELOW
        values = np.append(values, below**2)
        weights = np.append(weights, np.full(_BELOW, spectrum.unresolved / _BELOW))
    if zero > 0:
        values, weights = np.append(values, 0.0), np.append(weights, zero)
    return values, weights


def _residual(part: Part, branch: Spectrum) -> Factor:
    scale = 1.0 if part.slopes is None else float(part.slopes[0])
    if len(branch.log_sigma) == 0:
        return Isometry(*part.shape, scale=abs(scale))
    values, weights = squares(branch)
    return Residual(scale, 1.0, values, weights, "orthogonal", 1.0, part.shape[0])


def what_meets(parts: Sequence[Part]) -> str | None:
    """Say which entries are filled in and, where they stand, selected again, if any are.

    The class token of a transformer is put beside the positions, and alone read out: what is filled
    in and what is selected are coordinates, and skips between them turn none of these.
    """
    filling: Part | None = None
    for part in parts:
        if part.kind not in _CARRIERS and part.branch is None:
            filling = None
        elif part.kind == "normalisation" or part.shape[0] == part.shape[1]:
            continue
        elif part.shape[0] > part.shape[1]:
            filling = part
        elif filling:
            return (
                f"{part.name} selects among the entries that {filling.name} fills up, and skips "
                "between them leave entries in place: the two are not free of each other"
            )
    return None


def _no_skip(sums: Sequence[str]) -> str:
    if not sums:
        return "it has no skip"
    names = ", ".join(sums[:3]) + (f" and {len(sums) - 3} more" if len(sums) > 3 else "")
    return (
        f"{names} {'adds' if len(sums) == 1 else 'add'} two ways neither of which is the input "
        "itself; measured as a block instead"
    )


def _require(parts: Sequence[Part]) -> None:
    if not parts:
        raise TheoryError("it has no part that changes anything")
    if any(len(p.spectrum.log_sigma) == 0 for p in parts):
        dead = next(p.name for p in parts if len(p.spectrum.log_sigma) == 0)
        raise TheoryError(f"{dead} lets nothing through")


def _count(parts: Sequence[Part]) -> str:
    return f"{len(parts)} part{'s' if len(parts) > 1 else ''}"
