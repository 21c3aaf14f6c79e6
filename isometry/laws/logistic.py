"""Log-moments of a law from its S-transform, without any density."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from isometry.laws.law import Array

#: half-width and number of nodes of the quadrature over logit p; both errors are below 1e-18
_RANGE = 46.0
_NODES = 401


def log_moments(log_minus_z: Callable[[Array], Array]) -> tuple[float, float]:
    """Mean and variance of log x given x > 0.

    On the negative axis t(z) / r = -E[1 / (1 + exp(log(-z) - log x)) | x > 0], so log(-z) as a
    function of p = -t/r is the quantile function of log x plus an independent logistic
    variable, whose mean is 0 and whose variance is π²/3. The trapezoid rule in logit p
    converges geometrically.

    Parameters
    ----------
    log_minus_z : callable
        log(-z) at t = -r p, as a function of a = logit p; real and decreasing.

    Returns
    -------
    mean, variance : float
        E[log x | x > 0] and Var[log x | x > 0].
    """
    a = np.linspace(-_RANGE, _RANGE, _NODES)
    e = np.exp(-np.abs(a))
    weight = (a[1] - a[0]) * e / (1.0 + e) ** 2
    value = log_minus_z(a)
    mean = float(weight @ value)
    return mean, float(weight @ (value - mean) ** 2) - math.pi**2 / 3.0
