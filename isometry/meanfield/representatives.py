"""A few variances that stand for those of many layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.interpolate import BSpline, CubicSpline, make_interp_spline

from isometry.domain import Array
from isometry.meanfield.activation import Activation
from isometry.meanfield.moments import slope_law

Moments = Callable[[float, float], tuple[float, float]]

#: what a group may change in a sum of E log(d + s), in units of the standard deviation of log x
_TOLERANCE = 1e-6
#: the same of P(d > 0), which rounding makes less than 1 far out
_SAME_MASS = 1e-9
#: knots of a spline per factor e of the variance, and at most; the least variance told from 0
_KNOTS, _MOST_KNOTS, _LEAST = 8, 300, 1e-32
_SHIFTS = np.concatenate([[1e-300], np.exp(np.arange(-24.0, 9.0, 3.0))])
_ROUNDING = 1e-14
#: of the spline of two moments, good to 1e-12
_DEGREE = 9
#: what groups may change in both sums, tried in turn until Newton's method makes them exact
_ALLOWED, _EXACT = (1e-6, 1e-8, 1e-10), 1e-10
_CORRECTIONS, _LONGEST = 8, 0.5


def representatives(act: Activation, q: Array, moments: Moments) -> Array:
    r"""As many variances, few of them different, with which a chain has the same law.

    Layers enter the law of a chain through the sum over layers of E log(d + s), s > 0, with
    d = φ'(√q z)²: smooth functions of log q. So a group of layers may share its mean of log q,
    or be split between two values with the mean, the variance and about the skewness of the
    group. Groups are halved until none changes its sum, at a dozen values of s, by more than 1e-6
    standard deviations of log x, taken as √(Λ + Λ²/12), which is that of the smooth universal
    law. Measured against the exact laws of 10 to 100 different layers of tanh, softsign, gelu, celu
    and sin, both ensembles, and of residual layers, CDFs move by at most 4e-7. Last, all values
    move a little so that E x and E x² of the chain are those of its own layers to rounding.

    Layers of a piecewise linear φ, whose laws are in closed form, share only what has settled.

    Parameters
    ----------
    act
        The activation φ.
    q : (L,) array
        Variances of layers of one shape: their order does not matter to a law.
    moments
        (E d, E d²) to (log E x, E x² / (E x)²) of one layer: their sums are kept.
    """
    order = np.argsort(q)
    log_q = np.log(np.maximum(q[order], _LEAST))
    sums, first_two = _tables(act, moments, log_q[0], log_q[-1])
    for allowed in _ALLOWED:
        groups = _settled(log_q) if act.slopes else _grouped(log_q, sums, allowed)
        values, miss = _corrected(groups, log_q, first_two)
        if miss <= _EXACT:
            break
    found = np.empty(q.size)
    found[order] = np.exp(values)
    return found


def _settled(log_q: Array) -> Array:
    """Means of what is the same to nine digits."""
    _, group = np.unique(np.round(log_q, 9), return_inverse=True)
    return np.asarray((np.bincount(group, log_q) / np.bincount(group))[group])


def _grouped(log_q: Array, table: CubicSpline, off: float) -> Array:
    """Means and pairs of values that stand for neighbours."""
    sums, alive, spread = np.split(table(log_q), [-2, -1], axis=1)
    total = np.concatenate([np.zeros((1, sums.shape[1])), np.cumsum(sums, axis=0)])
    whole = float(spread.sum())
    allowed = _TOLERANCE * math.sqrt(whole + whole**2 / 12.0) + _ROUNDING * np.abs(total[-1])
    allowed[-2:] = off
    found, groups = np.empty(log_q.size), [(0, log_q.size)]
    while groups:
        first, end = groups.pop()
        inside = log_q[first:end]
        choices = [np.full(inside.size, inside.mean()), _two_values(inside)]
        if inside.size == log_q.size:  # one value for all layers could not keep two moments
            del choices[0]
        for shared in choices:
            changed = table(shared)[:, :-2].sum(axis=0) - (total[end] - total[first])
            if np.all(np.abs(changed) <= allowed) and np.ptp(alive[first:end]) <= _SAME_MASS:
                found[first:end] = shared
                break
        else:
            middle = np.searchsorted(inside, 0.5 * (inside[0] + inside[-1]))
            half = first + min(max(int(middle), 1), inside.size - 1)
            groups += [(first, half), (half, end)]
    return found


def _corrected(found: Array, log_q: Array, first_two: BSpline) -> tuple[Array, float]:
    """The nearest values with both sums over `log_q`, by Newton's method; and what is missed."""
    wanted = [math.fsum(column) for column in first_two(log_q).T]
    values, place, times = np.unique(found, return_inverse=True, return_counts=True)
    for _ in range(_CORRECTIONS):
        slopes = first_two(values, 1).T * np.sqrt(times)
        miss = wanted - times @ first_two(values)
        step = np.linalg.lstsq(slopes, miss)[0] / np.sqrt(times)
        if np.max(np.abs(miss)) <= _EXACT or not np.all(np.abs(step) < _LONGEST):
            break
        values = values + step
    return np.asarray(values[place]), float(np.max(np.abs(miss)))


def _tables(
    act: Activation, moments: Moments, low: float, high: float
) -> tuple[CubicSpline, BSpline]:
    """Functions of log q: E log(d + s) for each s, both moments, P(d > 0), spread of d.

    And both moments once more, to rounding.
    """
    count = _DEGREE + 1 + min(math.ceil(_KNOTS * (high - low)), _MOST_KNOTS)
    knots = np.linspace(low, high + 1e-3, count)
    rows = []
    for log_q in knots:
        d, p = slope_law(act, math.exp(log_q))
        first, second = float(p @ d), float(p @ d**2)
        sums = p @ np.log(d[:, None] + _SHIFTS)
        rows.append([*sums, *moments(first, second), p[d > 0].sum(), second / first**2 - 1.0])
    columns = np.array(rows)
    return CubicSpline(knots, columns), make_interp_spline(knots, columns[:, -4:-2], _DEGREE)


def _two_values(log_q: Array) -> Array:
    """The two values, the lower one first, that have the moments of all."""
    n, mean, deviation = log_q.size, log_q.mean(), log_q.std()
    if n < 3 or deviation == 0.0:
        return log_q
    skew = float(np.mean((log_q - mean) ** 3)) / deviation**3
    lower = round(0.5 * n * (1.0 + skew / math.sqrt(4.0 + skew**2)))
    lower = min(max(lower, 1), n - 1)
    ratio = math.sqrt((n - lower) / lower)
    below, above = mean - deviation * ratio, mean + deviation / ratio
    return np.asarray(np.where(np.arange(n) < lower, below, above))
