"""The variances that a deep network settles at."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from isometry.domain import Array, nonnegative
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.depth_scale import SAME
from isometry.meanfield.moments import response, second_moment

Stability = Literal["stable", "half-stable", "unstable", "neutral"]

#: variances at which V(q) - q is looked at before its zeros are searched for
_LOG_Q = np.linspace(math.log(1e-12), math.log(1e12), 121)
#: of σ_b²; less than the smallest is none, for products of such numbers have no digits
_LARGEST_BIAS, _SMALLEST_BIAS = 1e10, 1e-300
#: where a map that touches the diagonal at 0 may show on which side it leaves
_NEAR_ZERO = (1e-6, 1e-4, 1e-2, 1.0)


class FixedPoint(NamedTuple):
    """A solution of V(q*) = q*."""

    q: float  # q*, >= 0
    chi_q: float  # V'(q*)
    #: "stable"; "unstable"; "half-stable": attracts from one side only; "neutral": every q is fixed
    stability: Stability


def fixed_points(act: ActivationLike, sigma_w: float, sigma_b: float) -> tuple[FixedPoint, ...]:
    """All solutions of q = σ_w² E φ(√q z)² + σ_b² with 0 <= q <= 1e12, increasing.

    Zeros of log(V(q)/q) are bracketed on a grid of 5 values per decade from 1e-12 on and
    polished to the last digits; places where it touches zero between two of them are found
    too. q = 0 is listed where φ(0) = 0 and σ_b = 0.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    sigma_w, sigma_b
        Standard deviations of weights (times √n) and biases, >= 0.

    Returns
    -------
    tuple of FixedPoint
        Empty where the variance grows without bound. Where V(q) = q for every q (a linear
        or ReLU-like φ at σ_b = 0 and χ_1 = 1), one neutral point at q = 1 stands for all.

    Examples
    --------
    >>> [p.stability for p in fixed_points("tanh", 1.5, 0.0)]
    ['unstable', 'stable']
    """
    act = activation(act)
    weight = nonnegative("sigma_w", sigma_w) ** 2
    bias = nonnegative("sigma_b", sigma_b) ** 2
    if bias > _LARGEST_BIAS:
        raise TheoryError(
            f"sigma_b is {sigma_b:g}; variances are searched up to 1e12: try a smaller one"
        )
    bias = bias if bias > _SMALLEST_BIAS else 0.0
    if act.homogeneous is not None:
        return _of_homogeneous(weight * response(act, 1.0), bias)
    found = [_at_zero(act, weight)] if bias == 0.0 and act.at_zero == 0.0 else []
    for log_q, kind in _zeros(act, weight, bias):
        q = math.exp(log_q)
        chi = weight * response(act, q)
        # V may also fall, where |φ| does not grow with |h|: then it can overshoot
        found.append(FixedPoint(q, chi, "unstable" if chi <= -1.0 else kind))
    return tuple(found)


@lru_cache(maxsize=64)
def _on_grid(act: Activation) -> Array:
    """E φ² at the grid's variances; NaN where quadrature does not reach."""
    return np.array([_moment_or_nan(act, q) for q in np.exp(_LOG_Q)])


def _moment_or_nan(act: Activation, q: float) -> float:
    try:
        return second_moment(act, q)
    except TheoryError:  # only for a callable that quadrature does not resolve there
        return math.nan


def _of_homogeneous(chi: float, bias: float) -> tuple[FixedPoint, ...]:
    """V(q) = χ q + σ_b² is a straight line."""
    if abs(chi - 1.0) <= SAME:
        return (FixedPoint(1.0, chi, "neutral"),) if bias == 0.0 else ()
    if bias == 0.0:
        return (FixedPoint(0.0, chi, "stable" if chi < 1.0 else "unstable"),)
    return (FixedPoint(bias / (1.0 - chi), chi, "stable"),) if chi < 1.0 else ()


def _at_zero(act: Activation, weight: float) -> FixedPoint:
    """q = 0; only values q > 0 exist, so where χ_q = 1 the next order decides."""
    chi = weight * response(act, 0.0)
    if abs(chi - 1.0) > SAME:
        return FixedPoint(0.0, chi, "stable" if chi < 1.0 else "unstable")
    away = (weight * second_moment(act, q) / q - 1.0 for q in _NEAR_ZERO)
    first = next((excess for excess in away if abs(excess) > SAME), -1.0)
    return FixedPoint(0.0, chi, "stable" if first < 0.0 else "unstable")


def _excess(act: Activation, weight: float, bias: float) -> Callable[[float], float]:
    """log(V(q)/q) as a function of log q."""

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        mapped = weight * second_moment(act, q) + bias
        return math.log(mapped / q) if mapped > 0.0 else -math.inf

    return excess


def _zeros(act: Activation, weight: float, bias: float) -> list[tuple[float, Stability]]:
    """Zeros of the excess in log q, increasing, each with how V crosses the diagonal there."""
    excess = _excess(act, weight, bias)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(weight * _on_grid(act) + bias) - _LOG_Q
    # a callable is searched as far as its averages converge
    unresolved = np.flatnonzero(np.isnan(values))
    end = unresolved[0] if unresolved.size else values.size
    log_q, values = _LOG_Q[:end], values[:end]
    if bias > 0.0:  # V(q) >= σ_b², so a zero may lie below the grid but not below this
        lowest = min(_LOG_Q[0], math.log(bias)) - 1.0
        log_q = np.concatenate([[lowest], log_q])
        values = np.concatenate([[excess(lowest)], values])
    # an excess of rounding errors only: the diagonal itself, as far as float64 can tell
    clear = np.flatnonzero(np.abs(values) > 1e-14)
    found: list[tuple[float, Stability]] = []
    for a, b in pairwise(clear.tolist()):
        if values[a] * values[b] < 0.0:
            zero = _zero(excess, log_q[a], log_q[b])
            found.append((zero, "stable" if values[a] > 0.0 else "unstable"))
        elif b > a + 1:
            found.append((0.5 * float(log_q[a] + log_q[b]), "half-stable"))
        elif _nears_zero(values[a - 1 : b + 1]):
            found += _touching(excess, float(np.sign(values[a])), log_q[a - 1], log_q[b])
    return found


def _zero(excess: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(excess, low, high, xtol=1e-15, rtol=1e-15))


def _nears_zero(three: Array) -> bool:
    """Whether the middle one of three values of one sign is the smallest, and small."""
    if three.size < 3:
        return False
    before, here, after = three * np.sign(three[1])
    return bool(here < 0.1 and here < before and here < after)


def _touching(
    excess: Callable[[float], float], sign: float, low: float, high: float
) -> list[tuple[float, Stability]]:
    """Zeros near an extremum of the excess between two grid values: none, one double, or two."""
    best = minimize_scalar(
        lambda s: sign * excess(s), bounds=(low, high), method="bounded", options={"xatol": 1e-9}
    )
    if abs(best.fun) < 1e-13:
        return [(float(best.x), "half-stable")]
    if best.fun > 0.0:
        return []
    first, second = _zero(excess, low, best.x), _zero(excess, best.x, high)
    if sign > 0.0:
        return [(first, "stable"), (second, "unstable")]
    return [(first, "unstable"), (second, "stable")]
