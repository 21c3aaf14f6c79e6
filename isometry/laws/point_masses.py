"""Point masses of a free product, by counting dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from isometry.laws.factors.factor import Factor
from isometry.laws.transform import Transform

#: masses below this are rounding of exact zeros, as in 10 (1 - 0.9) - 1
_ROUNDING = 1e-12


class PointMass(NamedTuple):
    """A point mass of a product, and the eigenspaces that meet in it."""

    log_x: float  # at the unit scale of the transform
    mass: float
    places: dict[Factor, int]


def point_masses(transform: Transform) -> list[PointMass]:
    """All point masses at x > 0, in increasing order.

    Eigenspaces of dimensions k_l in general position, in spaces of dimensions n_j, meet in
    Σ k_l - Σ n_j dimensions where that is positive: for two square factors Bercovici and
    Voiculescu's rule μ{a} + ν{b} - 1. (Regularity questions for free convolution, 1998; for
    products Belinschi 2003.) Two spaces of one factor make up at most all of it, so a second
    choice fits into at most one factor, and only into one that occurs once.
    """
    times = transform.factors
    spaces = {factor: factor.largest_eigenspace for factor in times}
    largest = {factor: space for factor, space in spaces.items() if space}
    if len(largest) < len(times):
        return []
    dimension = sum(times[f] * space.dimension for f, space in largest.items())
    dimension -= sum(count * n for n, count in transform.interfaces.items())
    if dimension <= _ROUNDING * transform.unit:
        return []
    log_x = sum(times[f] * (space.log_x - f.log_scale) for f, space in largest.items())
    places = {f: space.place for f, space in largest.items()}

    found = [PointMass(log_x, dimension / transform.unit, places)]
    for factor, first in largest.items():
        for space in factor.eigenspaces if times[factor] == 1 else ():
            mass = (dimension + space.dimension - first.dimension) / transform.unit
            if space != first and mass > _ROUNDING:
                moved = log_x + space.log_x - first.log_x
                found.append(PointMass(moved, mass, {**places, factor: space.place}))
    return sorted((p for p in found if p.mass > _ROUNDING), key=lambda p: p.log_x)


def places(points: Sequence[PointMass], shift: float) -> tuple[tuple[float, float], ...]:
    """Their (log σ, mass), `shift` beyond the unit scale of the transform."""
    return tuple((shift + 0.5 * point.log_x, float(point.mass)) for point in points)
