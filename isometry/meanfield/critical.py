"""The critical line: where gradients neither vanish nor explode."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

from isometry.domain import Array, nonnegative, positive
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.fixed_points import FixedPoint, fixed_points
from isometry.meanfield.moments import response, slope_moment, surplus
from isometry.meanfield.operating_point import OperatingPoint, describe

#: variances q* among which the one with the wanted σ_b is searched for
_LOG_Q = np.linspace(math.log(1e-10), math.log(1e6), 81)


def critical_point(
    act: ActivationLike, *, q_star: float | None = None, sigma_b: float | None = None
) -> OperatingPoint:
    r"""The point of the critical line χ_1 = 1 with the given q*, or with the given σ_b.

    The line is known explicitly by its q*:

        σ_w² = 1 / E φ'²,    σ_b² = q* - σ_w² E φ²    at h = √q* z,

    and σ_b is found from it by a search in log q*.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    q_star
        Variance of the pre-activations, > 0. For ReLU and its like, where every variance is
        fixed at the critical point, it may be left out and is then 1.
    sigma_b
        Standard deviation of the biases, >= 0; at 0 the point is the limit q* → 0 where
        φ(0) = 0. Exactly one of q_star and sigma_b must be given, except for ReLU-like φ.

    Returns
    -------
    OperatingPoint
        χ_1 = 1 does not make q* stable: see `stable` and `chi_q`. For gelu and silu, q* is
        "half-stable" over a range of variances, which the notes say.

    Raises
    ------
    TheoryError
        When an argument is outside its domain, or there is no critical point there: χ_1 = 1
        would need σ_b² < 0 (softplus, sigmoid), or no σ_b > 0 at all (ReLU).

    References
    ----------
    Schoenholz et al. 2017, "Deep information propagation"; Pennington, Schoenholz & Ganguli
    2017, "Resurrecting the sigmoid in deep learning through dynamical isometry"; half-stable
    points: Roberts, Yaida & Hanin 2022, "The Principles of Deep Learning Theory".

    Examples
    --------
    >>> point = critical_point("tanh", sigma_b=0.05)
    >>> round(point.sigma_w, 9), round(point.q_star, 9)
    (1.122539005, 0.153691936)
    """
    act = activation(act)
    if q_star is not None and sigma_b is not None:
        raise TheoryError("both q_star and sigma_b are given; each alone fixes a critical point")
    if act.homogeneous is not None:
        return _of_homogeneous(act, q_star, sigma_b)
    if q_star is not None:
        return _at(act, positive("q_star", q_star))
    if sigma_b is None:
        _refuse_where_there_is_none(act)
        raise TheoryError(f"a critical point of {act.name} needs q_star or sigma_b; got neither")
    return _with_bias(act, nonnegative("sigma_b", sigma_b))


def bias_variance(act: Activation, q: float) -> float:
    """σ_b² of the critical point with q* = q; negative where there is none."""
    slope = slope_moment(act, q)
    if slope == 0.0:
        raise _flat(act, q)
    return surplus(act, q) / slope


def _at(act: Activation, q: float, sigma_b: float | None = None) -> OperatingPoint:
    bias = bias_variance(act, q) if sigma_b is None else sigma_b**2
    if bias < 0.0:
        raise TheoryError(
            f"no critical point of {act.name} has q* = {q:.6g}: χ_1 = 1 would need "
            f"σ_b² = {bias:.4g} < 0"
        )
    weight = 1.0 / slope_moment(act, q)
    chi = weight * response(act, q)
    point = FixedPoint(q, chi, "stable" if abs(chi) < 1.0 else "unstable")
    return describe(act, math.sqrt(weight), math.sqrt(bias), point, [])


def _with_bias(act: Activation, sigma_b: float) -> OperatingPoint:
    if sigma_b == 0.0 and act.at_zero == 0.0:
        return _at_the_origin(act)
    found = _searched(act, sigma_b**2)
    if not found:
        _refuse_where_there_is_none(act)
        on_grid = _on_grid(act)
        raise TheoryError(
            f"no critical point of {act.name} has sigma_b = {sigma_b:g}: with χ_1 = 1, σ_b² runs "
            f"from {np.nanmin(on_grid):.4g} to {np.nanmax(on_grid):.4g} for q* from 1e-10 to 1e6"
        )
    points = [_at(act, q, sigma_b) for q in found]
    return next((p for p in points if p.stable), points[0])


def _refuse_where_there_is_none(act: Activation) -> None:
    if not bool(np.any(_on_grid(act) >= 0.0)):
        raise TheoryError(
            f"{act.name} has no critical point: χ_1 = 1 would need σ_b² < 0 at every q*"
        )


def _searched(act: Activation, bias: float) -> list[float]:
    """Every q* on the grid's range whose critical point has this σ_b²."""
    values = _on_grid(act) - bias
    found = []
    for i, (a, b) in enumerate(pairwise(values.tolist())):
        if a * b < 0.0 or b == 0.0:
            zero = brentq(
                lambda s: bias_variance(act, math.exp(s)) - bias,
                _LOG_Q[i],
                _LOG_Q[i + 1],
                xtol=1e-15,
                rtol=1e-15,
            )
            found.append(math.exp(zero))
    return found


@lru_cache(maxsize=64)
def _on_grid(act: Activation) -> Array:
    return np.array([_bias_or_nan(act, q) for q in np.exp(_LOG_Q)])


def _bias_or_nan(act: Activation, q: float) -> float:
    try:
        return bias_variance(act, q)
    except TheoryError:  # flat there, or a callable that quadrature does not resolve
        return math.nan


def _at_the_origin(act: Activation) -> OperatingPoint:
    """The limit q* → 0: σ_w² = 1 / φ'(0)², the mean over both sides at a kink."""
    slope = slope_moment(act, 0.0)
    if slope == 0.0:
        raise _flat(act, 0.0)
    sigma_w = 1.0 / math.sqrt(slope)
    point = fixed_points(act, sigma_w, 0.0)[0]
    return describe(act, sigma_w, 0.0, point, [])


def _of_homogeneous(act: Activation, q_star: float | None, sigma_b: float | None) -> OperatingPoint:
    if sigma_b is not None and nonnegative("sigma_b", sigma_b) > 0.0:
        raise TheoryError(
            f"no critical point of {act.name} has sigma_b = {sigma_b:g}: its q-map is a straight "
            "line, and with χ_1 = 1 any bias makes the variance grow without bound; try sigma_b = 0"
        )
    slope = slope_moment(act, 1.0)
    if slope == 0.0:
        raise _flat(act, 1.0)
    q = 1.0 if q_star is None else positive("q_star", q_star)
    point = FixedPoint(q, 1.0, "neutral")
    note = f"every variance is fixed; q* = {q:g} stands for all of them"
    return describe(act, 1.0 / math.sqrt(slope), 0.0, point, [note])


def _flat(act: Activation, q: float) -> TheoryError:
    return TheoryError(
        f"{act.name} has no critical point at q* = {q:g}: its slope is 0 wherever the signal goes"
    )
