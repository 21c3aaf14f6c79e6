"""Edges of the spectrum: critical points of z(t) on the real axis outside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from isometry.domain import Array
from isometry.laws.factors.factor import Factor
from isometry.laws.share import Numbers, share_of_rank
from isometry.laws.transform import Transform

Places = Mapping[Factor, int] | None

#: log |t / r| for t > 0 and log(-1 - t / r) for t < -r, from z = ∞ or z = 0 towards an atom;
#: closer to that the unknowns lose the digits of the slope, and z is what it is at t = ∞
_TAU = np.arange(-34.0, 14.1, 0.5)
_FAR = 11.0  # the cube of 1/t is rounding there, and t has lost no digits that matter
_LINEAR = 0.75  # of the slopes at 2t and at t, between 1/2 and 1, where there is a linear term
_PASS = -6.0  # of log |t / r|, or log |1 + t / r|, when t passes 0 or -r
_AT_ONCE = 27  # of these: the end is mostly found before the last
_REFINEMENTS = 8
_PARTS, _CLOSELY = np.linspace(0.0, 1.0, 9), np.linspace(0.0, 1.0, 33)
_NEAR_MISS = -0.1  # a maximum of the slope that may be a crossing between two samples
_NARROW = 1e-5  # so close the slope is a straight line


def gap_end(transform: Transform, side: int, atom: Places) -> float | None:
    """Where a gap of the spectrum ends, in log x at unit scale; None where it does not.

    In a gap t is real, and decreases as z grows; the gap ends where dz/dt = 0. NaN where the way
    there cannot be resolved: masses of a quadrature may be too small to be told from 0.

    Parameters
    ----------
    side
        1 for the gap above the whole spectrum, followed down from z = ∞ through t > 0, or the one
        above an atom, followed up from it. -1 for the gap below the whole spectrum, followed
        up from z = 0 through t < -r, or the one below an atom, followed down.
    atom
        The eigenspaces that meet in the atom; None for the outer gaps.
    """
    path = _Path(transform, side, atom)
    if atom is None or not transform.hidden_count:
        tau = _TAU if atom is None else _TAU[::-1]
        return path.end(-side * np.log1p(np.exp(-tau)) + 1j * np.pi)
    # hidden factors let t pass 0, or -r, where logarithms of shares have no digits: on both sides
    tau = _TAU[_TAU >= _PASS][::-1]
    before = -side * np.log1p(np.exp(-tau)) + 1j * np.pi
    end = path.end(before)
    if end is not None:
        return end
    behind = path._replace(sign=-1.0)
    after = side * np.arange(_PASS, -_TAU[0], 0.5).astype(complex)
    value, falls = path.derivative(before[-1])
    _, rises = behind.derivative(after[0])
    if not rises >= 0:
        return behind.end(after)
    # it ends between: the parabola through both derivatives
    width = float((transform.t(after[0]) - transform.t(before[-1])).real)
    return value + 0.5 * width * falls**2 / (falls - rises)


def outermost(transform: Transform, side: int) -> float:
    """log z at an edge where t is infinite and log z a series in 1/t without a linear term.

    NaN where there is one: t is finite at the edge, and larger than all that were looked at.
    """
    alpha = -side * np.log1p(np.exp(-_FAR - np.array([0.0, math.log(2.0)])))
    (once, twice), slope = _Path(transform, side, None).along(alpha + 1j * np.pi)
    return float(twice + (twice - once) / 3.0) if slope[1] > _LINEAR * slope[0] else math.nan


def lower_edge_exists(transform: Transform) -> bool:
    """Whether z has a simple zero at t = -r; one of higher order leaves no gap at σ = 0."""
    return bool(transform.table[2][-1] > -1.25)


class _Bracket(NamedTuple):
    """Two neighbouring a, with log z and its slope there.

    All from one evaluation: where the slope is down to rounding another has other signs.
    """

    a: Numbers
    value: Array
    slope: Array

    @classmethod
    def before(cls, end: int, a: Numbers, value: Array, slope: Array) -> _Bracket:
        """The sample `end` and the one before it."""
        here = slice(end - 1, end + 1)
        return cls(a[here], value[here], slope[here])

    @property
    def step(self) -> float:
        """From the first to the last."""
        return float((self.a[1] - self.a[0]).real)


class _Path(NamedTuple):
    """A way through a gap along which a keeps its imaginary part and log z its direction."""

    transform: Transform
    side: int
    atom: Places
    sign: float = 1.0  # of the derivative of t in a

    def end(self, a: Numbers) -> float | None:
        """log z where its slope first vanishes, on samples of the way."""
        parts = (self._bracket(a[max(i - 2, 0) : i + _AT_ONCE]) for i in range(0, a.size, _AT_ONCE))
        found = next((part for part in parts if part is not None), None)
        for _ in range(_REFINEMENTS):
            if found is None or abs(found.step) <= _NARROW * min(1.0, abs(found.a[0].real)):
                break
            closer = self._bracket(found.a[0] + (found.a[1] - found.a[0]) * _PARTS)
            if closer is None:  # it sits on an end, to rounding error
                break
            found = closer
        return None if found is None else self._flat(found)

    def along(self, a: Numbers) -> tuple[Array, Array]:
        """log z and its slope, negative in the gap; NaN where there is no solution."""
        with np.errstate(all="ignore"):
            value, slope = self.transform.in_gap(a, self.side, self.atom)
        return value, self.sign * slope

    def derivative(self, a: complex) -> tuple[float, float]:
        """log z at one a, and its derivative in t, negative in the gap."""
        value, slope = self.along(np.array([a]))
        share = share_of_rank(np.array([a]))
        along_t = -self.transform.rank * float((share.mu * share.rest).real[0])
        return float(value[0]), self.sign * float(slope[0]) / along_t

    def _bracket(self, a: Numbers) -> _Bracket | None:
        """Two neighbours between which the slope first ceases to be negative, or to exist."""
        value, slope = self.along(a)
        first = int(np.argmax(np.isfinite(slope)))
        ends = np.flatnonzero(~(slope[first:] < 0))
        end = first + int(ends[0]) if ends.size else a.size
        for peak in range(first + 1, end - 1):
            if _may_touch(*slope[peak - 1 : peak + 2]):
                closer = a[peak - 1] + (a[peak + 1] - a[peak - 1]) * _CLOSELY
                near, slopes = self.along(closer)
                positive = slopes >= 0
                if np.any(positive[1:]):
                    crossing = 1 + int(np.argmax(positive[1:]))
                    return _Bracket.before(crossing, closer, near, slopes)
        return _Bracket.before(end, a, value, slope) if first < end < a.size else None

    def _flat(self, ends: _Bracket) -> float:
        """log z where the slope, a straight line between two a, vanishes."""
        first, last = ends.slope
        if not last >= 0:
            return math.nan
        return float(ends.value[0] + 0.5 * self.sign * ends.step * first**2 / (first - last))


def _may_touch(before: float, peak: float, after: float) -> bool:
    """Whether a maximum below 0 is so close to it that the slope may be positive beside it."""
    return before <= peak >= after and peak > _NEAR_MISS * (abs(before) + abs(after))
