"""The σ_w at which gradients neither vanish nor explode."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from isometry import meanfield
from isometry.errors import InputError
from isometry.init import options
from isometry.meanfield.activation import Activation
from isometry.meanfield.custom import ActivationLike

#: log σ_w² among which the least with χ_1 = 1 is searched for
_LOG_WEIGHT = np.linspace(-12.0, 12.0, 49)


def gain(
    activation: ActivationLike,
    *,
    q_star: float | None = None,
    input_variance: float | None = None,
    sigma_b: float = 0.0,
) -> float:
    r"""Return the σ_w of a layer φ(W x + b) for which χ_1 = σ_w² E φ'(√q z)² = 1.

    At a fixed point, q = q*, for the hidden layers of a network; or at the variance that inputs
    of mean square v = `input_variance` really give, q = σ_w² v + σ_b², which determines σ_w
    (the smallest is taken) for any activation, also where there is no critical fixed point, as
    for sigmoid and softplus.

    Parameters
    ----------
    activation
        φ: a name, a callable or an `Activation`; see `isometry.meanfield.activation`.
    q_star : float, optional
        Variance of the pre-activations; biases must then have the σ_b of
        `isometry.meanfield.critical_point`, and the first layer `stem_gain`.
    input_variance : float, optional
        Mean square of the entries of the layer's input. One of the two must be given, but for
        ReLU and its like, where σ_w is the same at every variance.
    sigma_b : float
        Standard deviation of the biases, beside `input_variance`.

    Returns
    -------
    float
        For `orthogonal_`, `delta_orthogonal_`, `gaussian_` and the others.

    Raises
    ------
    InputError
        If the activation is unknown, a number is out of range or there is no such σ_w.

    References
    ----------
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information propagation";
    Pennington, Schoenholz & Ganguli 2017, "Resurrecting the sigmoid in deep learning through
    dynamical isometry".

    Examples
    --------
    >>> round(gain("relu") ** 2, 12)
    2.0
    >>> round(gain("tanh", q_star=0.002), 6)
    1.001992
    >>> round(gain("sigmoid", input_variance=1.0), 3)
    15.082
    """
    sigma_b = options.sigma("sigma_b", sigma_b)
    with options.as_input_error():
        act = meanfield.activation(activation)
        if input_variance is None:
            if sigma_b != 0.0:
                raise InputError(
                    f"sigma_b is {sigma_b:g} without input_variance; q_star has a σ_b of its own: "
                    "see isometry.meanfield.critical_point"
                )
            if q_star is None and act.homogeneous is None:
                raise InputError(
                    f"the gain of {act.name} depends on the variance; expected q_star or "
                    "input_variance, got neither"
                )
            return meanfield.critical_point(act, q_star=q_star).sigma_w
        if q_star is not None:
            raise InputError("both q_star and input_variance are given; expected one of them")
        return _at(act, options.positive("input_variance", input_variance), sigma_b**2)


def stem_gain(activation: ActivationLike, *, q_star: float, input_variance: float) -> float:
    r"""Return the σ_w of a first layer W x + b whose output has the variance q*.

        σ_w² = (q* - σ_b²) / v,    v the mean square of the entries of x,

    with the σ_b of the critical point. Far above q* slopes are smaller than the next layers
    make up for: a deep network learns only if it starts at its fixed point.

    Parameters
    ----------
    activation
        φ of the layers that follow.
    q_star : float
        Their fixed point.
    input_variance : float
        v.

    Raises
    ------
    InputError
        If the activation is unknown, a number is out of range or no critical point has this q*.

    Examples
    --------
    >>> round(stem_gain("tanh", q_star=0.002, input_variance=1.0), 6)
    0.044721
    """
    v = options.positive("input_variance", input_variance)
    with options.as_input_error():
        point = meanfield.critical_point(activation, q_star=q_star)
    return math.sqrt((point.q_star - point.sigma_b**2) / v)


def _at(act: Activation, v: float, bias: float) -> float:
    def log_chi(log_weight: float) -> float:
        weight = math.exp(log_weight)
        slope = meanfield.slope_moment(act, weight * v + bias)
        return math.log(max(weight * slope, 1e-300))

    before = _LOG_WEIGHT[0]
    for after in _LOG_WEIGHT[1:]:
        if log_chi(before) <= 0.0 <= log_chi(after):
            return math.exp(0.5 * float(brentq(log_chi, before, after, xtol=1e-14)))
        before = after
    raise InputError(
        f"no sigma_w from {math.exp(0.5 * _LOG_WEIGHT[0]):.2g} to "
        f"{math.exp(0.5 * _LOG_WEIGHT[-1]):.2g} gives {act.name} at input variance {v:g} χ_1 = 1; "
        "try another input_variance"
    )
