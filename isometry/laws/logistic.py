"""Log-moments of a law from its S-transform, without any density."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from isometry.domain import Array
from isometry.errors import TheoryError

#: half-width and number of nodes of the quadrature over logit p; both errors are below 1e-18
#: where log(-z) is analytic in a strip of half-width π, as it is for laws with smooth factors
_RANGE = 46.0
_NODES = 201
#: the error of the trapezoid rule is the square of its change from half as many nodes
_SETTLED = 1e-7
#: panels that agree with their halves to this are done
_TOLERANCE = 1e-12
_PANELS = np.array([-46.0, -20.0, -10.0, -6.0, -3.0, 0.0, 3.0, 6.0, 10.0, 20.0, 46.0])
_HALVINGS = 40
_GAUSS, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def log_moments(log_minus_z: Callable[[Array], Array]) -> tuple[float, float]:
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
    a = np.linspace(-_RANGE, _RANGE, _NODES)
    mass, value = (a[1] - a[0]) * _density(a), log_minus_z(a)
    middle = float(mass @ value)
    found = mass @ np.stack([value - middle, (value - middle) ** 2], axis=1)
    half = 2.0 * mass[::2] @ np.stack([value - middle, (value - middle) ** 2], axis=1)[::2]
    if np.any(np.abs(found - half) > _SETTLED * np.array([1.0 + math.sqrt(found[1]), found[1]])):
        found = _by_panels(lambda b: log_minus_z(b) - middle, math.sqrt(found[1]))
    mean, square = map(float, found)
    return middle + mean, square - mean**2 - math.pi**2 / 3.0


def _density(a: Array) -> Array:
    """Of a logistic variable."""
    e = np.exp(-np.abs(a))
    return np.asarray(e / (1.0 + e) ** 2)


def _by_panels(function: Callable[[Array], Array], scale: float) -> Array:
    """E f and E f² of a logistic variable, by Gauss–Legendre panels that are halved."""

    def integrals(edges: Array) -> Array:
        centre, half = edges.mean(axis=1), 0.5 * np.diff(edges, axis=1)
        a = centre[:, None] + half * _GAUSS
        value, mass = function(a.ravel()).reshape(a.shape), _density(a) * half * _WEIGHTS
        return np.stack([np.sum(mass * value, axis=1), np.sum(mass * value**2, axis=1)], axis=1)

    edges = np.stack([_PANELS[:-1], _PANELS[1:]], axis=1)
    total, coarse = np.zeros(2), integrals(edges)
    for _ in range(_HALVINGS):
        middle = edges.mean(axis=1)
        left = np.stack([edges[:, 0], middle], axis=1)
        right = np.stack([middle, edges[:, 1]], axis=1)
        fine = np.stack([integrals(left), integrals(right)])
        rough = np.any(
            np.abs(fine.sum(axis=0) - coarse) > _TOLERANCE * np.array([scale, scale**2]), axis=1
        )
        total = total + fine.sum(axis=0)[~rough].sum(axis=0)
        if not np.any(rough):
            return np.asarray(total)
        edges = np.concatenate([left[rough], right[rough]])
        coarse = fine[:, rough].reshape(-1, 2)
    raise TheoryError("the log-moments did not settle; please report the law that was asked for")
