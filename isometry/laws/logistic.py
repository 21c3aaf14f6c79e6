"""Log-moments of a law from its S-transform, without any density."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from isometry.domain import Array
from isometry.errors import TheoryError

Function = Callable[[Array], Array]

#: nodes of the trapezoid rule over logit p, an even number on either side; its error is below
#: 1e-12 where log(-z) is analytic in a strip of half-width π, as for laws with smooth factors
_SPACING, _NODES = 0.65, 72
#: the error of the trapezoid rule is the square of its change from half as many nodes
_SETTLED = 3e-6
#: beyond ±26 a function that is straight to 1e-6, at places up to ±47, is taken to be
_OUTER, _STRAIGHT = np.array([26.0, 36.5, 47.0]), 1e-6
#: panels whose Gauss and Kronrod rules agree to this are done: the latter is far closer
_TOLERANCE = 1e-9
_PANELS = np.array([-46.0, -20.0, -8.0, -3.0, 0.0, 3.0, 8.0, 20.0, 46.0])
_HALVINGS = 40
#: Kronrod's nodes >= 0, their weights, and the weights of Gauss's among them
_RULE = np.array(
    [
        [0.0, 0.2094821410847278, 0.4179591836734694],
        [0.2077849550078985, 0.2044329400752989, 0.0],
        [0.4058451513773972, 0.1903505780647854, 0.3818300505051189],
        [0.5860872354676911, 0.1690047266392679, 0.0],
        [0.7415311855993944, 0.1406532597155259, 0.2797053914892767],
        [0.8648644233597691, 0.1047900103222502, 0.0],
        [0.9491079123427585, 0.0630920926299786, 0.1294849661688697],
        [0.9914553711208126, 0.0229353220105292, 0.0],
    ]
)
_PLACES, _KRONROD, _GAUSS = np.concatenate([_RULE[:0:-1] * [-1.0, 1.0, 1.0], _RULE]).T


def log_moments(log_minus_z: Function) -> tuple[float, float]:
    """Mean and variance of log x given x > 0.

    On the negative axis t(z) / r = -E[1 / (1 + exp(log(-z) - log x)) | x > 0], so log(-z) as a
    function of p = -t/r is the quantile function of log x plus an independent logistic
    variable, whose mean is 0 and whose variance is π²/3. The trapezoid rule in logit p
    converges geometrically; where x has masses far apart it does so too slowly, and panels are
    halved instead.

    Parameters
    ----------
    log_minus_z : callable
        log(-z) at t = -r p, as a function of a = logit p; real and decreasing.

    Returns
    -------
    mean, variance : float
        E[log x | x > 0] and Var[log x | x > 0].

    Raises
    ------
    TheoryError
        When the integrals do not settle.
    """
    function = _straight_far_out(log_minus_z)
    a: Array = _SPACING * np.arange(-_NODES, _NODES + 1, dtype=float)
    mass, value = _SPACING * _density(a), function(a)
    middle = float(mass @ value)
    powers = np.stack([value - middle, (value - middle) ** 2], axis=1)
    found, half = mass @ powers, 2.0 * mass[::2] @ powers[::2]
    if np.any(np.abs(found - half) > _SETTLED * np.array([1.0 + math.sqrt(found[1]), found[1]])):
        found = _by_panels(lambda b: function(b) - middle, math.sqrt(found[1]))
    mean, square = map(float, found)
    return middle + mean, square - mean**2 - math.pi**2 / 3.0


def _density(a: Array) -> Array:
    """Of a logistic variable."""
    e = np.exp(-np.abs(a))
    return np.asarray(e / (1.0 + e) ** 2)


def _straight_far_out(function: Function) -> Function:
    """The same function, solved far out at a few places where it is a straight line between."""
    known = np.concatenate([-_OUTER[::-1], _OUTER])
    value = function(known)
    bend = np.abs(value[[0, 3]] - 2.0 * value[[1, 4]] + value[[2, 5]])
    if np.any(bend > _STRAIGHT * np.abs(np.diff(value[[0, 2, 3, 5]])[::2])):
        return function

    def shorter(a: Array) -> Array:
        found, inner = np.interp(a, known, value), np.abs(a) < _OUTER[0]
        found[inner] = function(a[inner])
        return found

    return shorter


def _by_panels(function: Function, scale: float) -> Array:
    """E f and E f² of a logistic variable, by Gauss–Kronrod panels that are halved."""
    total, edges = np.zeros(2), np.stack([_PANELS[:-1], _PANELS[1:]], axis=1)
    for _ in range(_HALVINGS):
        half = 0.5 * np.diff(edges, axis=1)
        middle = edges[:, :1] + half
        a = middle + half * _PLACES
        value, mass = function(a.ravel()).reshape(a.shape), _density(a) * half
        powers = np.stack([mass * value / scale, mass * (value / scale) ** 2])
        found = powers @ _KRONROD
        rough = np.any(np.abs(found - powers @ _GAUSS) > _TOLERANCE, axis=0)
        total += found[:, ~rough].sum(axis=1)
        if not np.any(rough):
            return np.asarray(total * [scale, scale**2])
        ends = edges[rough]
        edges = np.concatenate(
            [
                np.stack([ends[:, 0], middle[rough, 0]], axis=1),
                np.stack([middle[rough, 0], ends[:, 1]], axis=1),
            ]
        )
    raise TheoryError("the log-moments did not settle; please report the law that was asked for")
