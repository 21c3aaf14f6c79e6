"""A function that is known only by its values, as polynomials on panels."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.meanfield.activation import Pointwise

#: φ is a polynomial of this degree on a panel, to this share of its largest value so far out
DEGREE, _CLOSE = 15, 3e-14
#: where a panel is cut: an irrational share keeps round numbers, which kinks are, off its ends
_CUT = 0.5 + 0.0432 / np.pi
#: panels and kinks that a stretch of the line may have, and how often a panel may be cut
_MOST, _MOST_KINKS, _DEEPEST = 512, 64, 90
#: around a jump of the m-th derivative the misfit is 16^m times as large on a window of 16 cells,
#: so less than this; where φ is smooth but steep, above 2^26
_WINDOW, _KINKED = 8.0, 2.0**15
#: an underflow
_TINY = 1e-290
_EPS = float(np.finfo(float).eps)

_POINTS = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))[::-1]
_TO_SERIES = np.linalg.inv(chebyshev.chebvander(_POINTS, DEGREE))
#: where the polynomial is compared with φ, the ends among them
_PROBES = np.linspace(-1.0, 1.0, 65)
_AT_PROBES = chebyshev.chebvander(_PROBES, DEGREE) @ _TO_SERIES
_ALL = np.concatenate([_POINTS, _PROBES])
_ORDER = np.argsort(_ALL)


Cell: TypeAlias = tuple[float, float]


class Split(NamedTuple):
    """What cutting a stretch of the line into panels gives."""

    ends: Array  # of the panels, increasing
    cells: list[Cell]  # that a kink is in, each as narrow as rounding allows
    size: float  # the largest |φ| seen


def split(function: Pointwise, ends: Array, size: float) -> Split:
    """Cut the panels between `ends` until φ is a polynomial on each of them.

    Parameters
    ----------
    function
        φ, from an array to an array of its shape.
    ends
        Increasing.
    size
        The largest |φ| nearer to the origin: what is small beside it is rounding.

    Raises
    ------
    TheoryError
        When φ takes too many panels.
    """
    left, right = ends[:-1], ends[1:]
    misfit, resolved, size = compare(function, left, right, size)
    every: list[Array] = [ends]
    cells: list[Cell] = []
    for _ in range(_DEEPEST):
        left, right, misfit = left[~resolved], right[~resolved], misfit[~resolved]
        if left.size == 0:
            break
        if left.size > _MOST or len(cells) > _MOST_KINKS:
            raise TheoryError(
                f"the activation varies too fast near {float(left[0]):.3g}, or its values are good "
                "to fewer than 13 digits; expected one in float64 that is smooth between its kinks"
            )
        middle = left + _CUT * (right - left)
        every.append(middle)
        halves = np.stack([left, middle], axis=1).ravel(), np.stack([middle, right], axis=1).ravel()
        after, resolved, _ = compare(function, *halves, size)
        resolved |= halves[1] - halves[0] <= 4.0 * _EPS * np.abs(halves).max(axis=0)
        last = resolved.reshape(-1, 2).all(axis=1)
        if last.any():
            cells += _kinked(function, left[last], right[last], misfit[last], ends[[0, -1]])
        (left, right), misfit = halves, after
    else:
        cells += zip(left[~resolved].tolist(), right[~resolved].tolist(), strict=True)
    return Split(np.unique(np.concatenate(every)), sorted(cells), size)


def _kinked(
    function: Pointwise, left: Array, right: Array, misfit: Array, bounds: Array
) -> list[Cell]:
    """Those of the last cells to be cut whose misfit is due to a kink."""
    margin = (_WINDOW - 0.5) * (right - left)
    window = np.maximum(left - margin, bounds[0]), np.minimum(right + margin, bounds[1])
    around = compare(function, *window, 0.0)[0]
    wide = window[1] - window[0] > _WINDOW * (right - left)
    kinked = wide & (around < _KINKED * misfit)
    return list(zip(left[kinked].tolist(), right[kinked].tolist(), strict=True))


def compare(
    function: Pointwise, left: Array, right: Array, size: float
) -> tuple[Array, NDArray[np.bool_], float]:
    """Distance of φ from its polynomials, whether rounding explains it, and the largest |φ|."""
    half = 0.5 * (right - left)[:, None]
    x = 0.5 * (left + right)[:, None] + half * _ALL
    y = function(x.ravel()).reshape(x.shape)
    misfit = np.abs(y[:, _POINTS.size :] - y[:, : _POINTS.size] @ _AT_PROBES.T).max(axis=1)
    largest = np.maximum(np.abs(y).max(axis=1), size)
    steepest = (np.abs(np.diff(y[:, _ORDER])) / (half * np.diff(_ALL[_ORDER]))).max(axis=1)
    rounding = _CLOSE * largest + _TINY + 2.0 * _EPS * np.abs(x).max(axis=1) * steepest
    return misfit, np.asarray(misfit <= rounding), float(largest.max())


def slope(function: Pointwise, ends: Array) -> Pointwise:
    """φ' from the polynomials on the panels between `ends`."""
    half, middle = 0.5 * np.diff(ends), 0.5 * (ends[1:] + ends[:-1])
    values = function(middle + np.multiply.outer(_POINTS, half))
    table = chebyshev.chebder(_TO_SERIES @ values, axis=0) / half

    def derivative(h: Array) -> Array:
        flat = h.ravel()
        panel = np.clip(np.searchsorted(ends, flat) - 1, 0, half.size - 1)
        x = (flat - middle[panel]) / half[panel]
        value = chebyshev.chebval(x, table[:, panel], tensor=False)
        return np.asarray(value, dtype=float).reshape(h.shape)

    return derivative
