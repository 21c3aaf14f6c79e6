"""Where the continuous part of a free product lies, beside its point masses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.laws.edges import gap_end, lower_edge_exists, outermost
from isometry.laws.point_masses import PointMass
from isometry.laws.polar import REAL_AXIS, solve
from isometry.laws.transform import Transform

_EPS = float(np.finfo(float).eps)
#: less continuous mass than this is rounding of a purely atomic law
PURELY_ATOMIC = 1e-14
#: mass that an edge may leave out where no equation gives it, and how often it is sectioned
_NO_MASS = 1e-12
_SECTIONS = 6
#: mass beyond an edge that makes it none, looked for this far out beside the middle's distance
_LEFT_OUT, _BEYOND = 1e-9, 0.05
#: how far from an atom, in log x, the solver is asked at least
_ASIDE = 1e-9


class Support:
    """Edges of the continuous part, and the gaps around the point masses between them.

    All in log x at the unit scale of the transform.

    Parameters
    ----------
    transform, points
        A product and its point masses.
    name
        For messages.
    """

    def __init__(self, transform: Transform, points: Sequence[PointMass], name: str) -> None:
        self._transform, self._points, self._name = transform, points, name

    @property
    def mass(self) -> float:
        """Of the continuous part."""
        return self._transform.rank - sum(point.mass for point in self._points)

    @cached_property
    def edges(self) -> tuple[float, float]:
        """Lowest and highest log x; -inf where the continuous part reaches x = 0."""
        low = self._edge(-1) if lower_edge_exists(self._transform) else -math.inf
        return low, self._edge(1)

    @cached_property
    def resolved(self) -> tuple[float, float]:
        """The edges, or places between them beyond which the mass is less than rounding."""
        low, high = self._within_table(np.array(self.edges)).tolist()
        tail = math.isinf(self.edges[0]) and math.isinf(self._transform.reach)  # digits all along
        return -math.inf if tail else low, high

    def beside_atoms(self, log_x: Array, slack: float) -> tuple[Array, NDArray[np.bool_]]:
        """Points in the gap around an atom moved to the middle of its side; and which they are.

        The CDF is constant there, and t too large to be resolved close to the atom. A point
        within `slack` of an atom is on it.
        """
        moved, in_gap = log_x.copy(), np.zeros(log_x.shape, dtype=bool)
        for at, low, high in self._inner_gaps:
            below = (log_x > low) & (log_x < at - slack)
            above = (log_x >= at - slack) & (log_x < high)
            moved = np.where(below, 0.5 * (low + at), np.where(above, 0.5 * (at + high), moved))
            in_gap |= below | above
        return moved, in_gap

    def most_below(self, log_x: Array) -> Array:
        """Bound on P(0 < x <= z), by Markov's inequality for z / (z + x) on the negative axis.

        It takes over where hidden unknowns, and with them the log-determinant, are less well
        known than the mass below.
        """
        if math.isinf(self._transform.reach):
            return np.ones(log_x.shape)
        states, value, _, _ = self._transform.table
        a = np.interp(log_x, value[::-1], states[0, ::-1])
        # twice the mean is the bound; as much again is what interpolation may miss
        return np.asarray(4.0 * self._transform.rank * expit(-a))

    @cached_property
    def _inner_gaps(self) -> list[tuple[float, float, float]]:
        """Atoms between the edges, with the ends of the gap around each."""
        found = []
        for at, _, places in self._points:
            if self.edges[0] < at < self.edges[1]:
                low = _or(gap_end(self._transform, -1, places), at - _ASIDE)
                high = _or(gap_end(self._transform, 1, places), at + _ASIDE)
                found.append((at, min(low, at - _ASIDE), max(high, at + _ASIDE)))
        return found

    def _edge(self, side: int) -> float:
        """The highest (1) or lowest (-1) edge."""
        found = gap_end(self._transform, side, None)
        if found is None and self._points:
            # the gap ends in the outermost atom: the continuous part begins beyond it
            found = gap_end(self._transform, -side, self._points[-1 if side > 0 else 0].places)
        found = outermost(self._transform, side) if found is None else found
        return found if self._is_last(found, side) else self._end_of_mass(side)

    def _is_last(self, edge: float, side: int) -> bool:
        """Whether no mass is beyond an edge: a narrow band may have been stepped over."""
        if not math.isfinite(edge):
            return False
        aside = _BEYOND * max(abs(edge - self._middle), _ASIDE)
        # beyond the table there is no mass that is more than rounding, and no digit of it
        at = self._within_table(np.array([edge + side * aside]))
        return bool(self._beyond(at, side)[0] <= _LEFT_OUT + REAL_AXIS / aside)

    def _within_table(self, log_x: Array) -> Array:
        known = self._transform.table[1]
        return np.clip(log_x, known[-1], known[0])

    @cached_property
    def _middle(self) -> float:
        """log z of half of E[x / (x - z)]: in the bulk."""
        states, known, _, _ = self._transform.table
        return float(np.interp(0.0, states[0], known))

    def _beyond(self, log_x: Array, side: int) -> Array:
        """Mass of the continuous part above (1) or below (-1)."""
        above = self._transform.log_determinant(solve(self._transform, log_x)).imag / np.pi
        beyond = above if side > 0 else self._transform.rank - above
        for point in self._points:
            beyond = beyond - point.mass * (side * (point.log_x - log_x) > 0)
        return np.asarray(beyond)

    def _end_of_mass(self, side: int) -> float:
        """Where all mass but rounding is passed, for an edge that no equation gives."""
        near = self._middle
        # each factor's logarithm is known to rounding
        nothing = _NO_MASS + _EPS * self._transform.hidden_count
        grid = self._within_table(near + side * 2.0 ** np.arange(-4.0, 32.0))
        grid, found = side * np.unique(side * grid), math.nan
        for _ in range(_SECTIONS):
            # less all that the small angle blurs
            beyond = self._beyond(grid, side) - REAL_AXIS / np.abs(grid - near)
            if not np.any(beyond <= nothing):
                break  # down to rounding
            first = int(np.argmax(beyond <= nothing))
            found = float(grid[first])
            grid = np.linspace(grid[first - 1] if first else near, found, 34)[1:]
        if math.isnan(found):
            raise TheoryError(
                f"no edge of {self._name} was found; please report the product asked for"
            )
        return found


def _or(number: float | None, other: float) -> float:
    return other if number is None or math.isnan(number) else number
