"""A few variances that stand for those of many layers."""

from __future__ import annotations

import math

import numpy as np
from scipy.interpolate import CubicSpline

from isometry.domain import Array
from isometry.meanfield.activation import Activation
from isometry.meanfield.moments import slope_law

#: what a group may change in a sum of E log(d + s), in units of the standard deviation of log x
_TOLERANCE = 1e-6
#: the same of P(d > 0), which rounding makes less than 1 far out
_SAME_MASS = 1e-9
#: knots of a spline per factor e of the variance, and at most; the least variance told from 0
_KNOTS, _MOST_KNOTS, _LEAST = 8, 300, 1e-32
_SHIFTS = np.concatenate([[1e-300], np.exp(np.arange(-24.0, 9.0, 3.0))])
_ROUNDING = 1e-14


def representatives(act: Activation, q: Array, more: float = 0.0) -> Array:
    r"""As many variances, few of them different, with which a chain has the same law.

    Layers enter the law of a chain through the sum over layers of E log(d + s), s > 0, with
    d = φ'(√q z)²: smooth functions of log q. So a group of layers may share its mean of log q,
    or be split between two values with the mean, the variance and about the skewness of the
    group. Groups are halved until none changes its sum, at a dozen values of s, by more than 1e-6
    standard deviations of log x, taken as √(Λ + Λ²/12), which is that of the smooth universal
    law. Measured against the exact laws of 10 to 100 different layers of tanh, softsign, gelu, celu
    and sin, both ensembles, and of residual layers, CDFs move by at most 4e-7.

    Parameters
    ----------
    act
        The activation φ, not piecewise linear.
    q : (L,) array
        Variances of layers of one shape: their order does not matter to a law.
    more
        What a layer's weights add to Λ: 1 if they are Gaussian, 0 if orthogonal.
    """
    order = np.argsort(q)
    log_q = np.log(np.maximum(q[order], _LEAST))
    table = _table(act, log_q[0], log_q[-1])
    sums, (alive, spread) = table(log_q)[:, :-2], table(log_q)[:, -2:].T
    total = np.concatenate([np.zeros((1, _SHIFTS.size)), np.cumsum(sums, axis=0)])
    whole = float(spread.sum()) + more * q.size
    allowed = _TOLERANCE * math.sqrt(whole + whole**2 / 12.0) + _ROUNDING * np.abs(total[-1])
    found, groups = np.empty(q.size), [(0, q.size)]
    while groups:
        first, end = groups.pop()
        inside = log_q[first:end]
        for shared in (np.full(inside.size, inside.mean()), _two_values(inside)):
            changed = table(shared)[:, :-2].sum(axis=0) - (total[end] - total[first])
            if np.all(np.abs(changed) <= allowed) and np.ptp(alive[first:end]) <= _SAME_MASS:
                found[order[first:end]] = np.exp(shared)
                break
        else:
            middle = np.searchsorted(inside, 0.5 * (inside[0] + inside[-1]))
            half = first + min(max(int(middle), 1), inside.size - 1)
            groups += [(first, half), (half, end)]
    return found


def _table(act: Activation, low: float, high: float) -> CubicSpline:
    """E log(d + s) for each s, P(d > 0) and μ_2/μ_1² - 1 as functions of log q."""
    count = 2 + min(math.ceil(_KNOTS * (high - low)), _MOST_KNOTS)
    knots = np.linspace(low, high + 1e-3, count)
    rows = []
    for log_q in knots:
        d, p = slope_law(act, math.exp(log_q))
        spread = p @ d**2 / (p @ d) ** 2 - 1.0
        rows.append([*(p @ np.log(d[:, None] + _SHIFTS)), p[d > 0].sum(), spread])
    return CubicSpline(knots, rows)


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
