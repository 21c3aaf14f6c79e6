"""Signals under dropout: two copies of one input are never carried alike."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.optimize import brentq

from isometry.domain import finite, nonnegative
from isometry.errors import TheoryError
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.depth_scale import depth_scale
from isometry.meanfield.kernel import Kernel
from isometry.meanfield.moments import second_moment
from isometry.meanfield.operating_point import operating_point


@dataclass(frozen=True)
class DropoutPoint:
    """The fixed point of a network with dropout."""

    activation: str
    sigma_w: float
    sigma_b: float
    keep: float  # ρ, the probability that a unit is kept (and divided by ρ)
    q_star: float  # variance of the pre-activations
    chi_1: float  # σ_w² E φ'² / ρ: growth of a gradient under one draw of the masks
    chi_q: float
    c_star: float  # correlation of two inputs, or of one input under two draws; < 1
    chi_c: float  # σ_w² E φ'(u_1) φ'(u_2) at c*
    xi_q: float
    xi_c: float  # finite for every σ_w and σ_b when ρ < 1


def dropout_point(act: ActivationLike, sigma_w: float, sigma_b: float, keep: float) -> DropoutPoint:
    """Fixed point and depth scales with units kept with probability ρ and divided by it.

        V(q) = σ_w² E φ²/ρ + σ_b²,    C(1) = 1 - (1 - ρ) σ_w² E φ² / (ρ q*) < 1.

    Fresh masks for every input decorrelate even equal inputs: c* < 1 whatever σ_w and σ_b,
    so there is no critical line and ξ_c stays finite; 6 ξ_c then bounds the depth that
    trains. Valid at infinite width; the masks of the two inputs are independent.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    sigma_w, sigma_b
        Standard deviations of weights (times √n) and biases, >= 0.
    keep
        ρ in (0, 1]; 1 is no dropout.

    Raises
    ------
    TheoryError
        When an argument is outside its domain, or the variance dies out or grows without
        bound.

    References
    ----------
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information propagation".

    Examples
    --------
    >>> dropout_point("tanh", 1.1225, 0.05, keep=0.9).c_star < 1
    True
    """
    act, rho = activation(act), finite("keep", keep)
    if not 0.0 < rho <= 1.0:
        raise TheoryError(f"keep is {rho!r}; expected a probability in (0, 1]")
    weight = nonnegative("sigma_w", sigma_w) ** 2
    bias = nonnegative("sigma_b", sigma_b) ** 2
    # one input sees the network of σ_w²/ρ
    single = operating_point(act, sigma_w / rho**0.5, sigma_b)
    q = single.q_star
    if rho == 1.0:
        c_star, chi_c = single.c_star, single.chi_c
    elif q == 0.0:
        raise TheoryError(
            f"the signal of {act.name} dies out at sigma_w = {sigma_w:g}, sigma_b = {sigma_b:g}; "
            "expected a fixed point with q* > 0"
        )
    else:
        kernel = Kernel(act, q)
        lost = (1.0 - rho) / rho * weight * second_moment(act, q) / q
        c_star = _fixed_correlation(kernel, weight, bias, lost)
        chi_c = weight * kernel.slope(c_star)
    return DropoutPoint(
        activation=act.name,
        sigma_w=float(sigma_w),
        sigma_b=float(sigma_b),
        keep=rho,
        q_star=q,
        chi_1=single.chi_1,
        chi_q=single.chi_q,
        c_star=c_star,
        chi_c=chi_c,
        xi_q=single.xi_q,
        xi_c=depth_scale(chi_c),
    )


def _fixed_correlation(kernel: Kernel, weight: float, bias: float, lost: float) -> float:
    """The one solution of C(c) = c in [0, 1): C is convex, C(0) >= 0 and C(1) = 1 - lost < 1."""
    at_zero = (weight * kernel.value(0.0) + bias) / kernel.q
    if at_zero <= 1e-15:
        return 0.0

    def excess(root: float) -> float:
        if root == 0.0:
            return lost
        if root == 1.0:
            return -at_zero
        apart = root * root
        return lost + weight * kernel.gap(apart) / kernel.q - apart

    root = brentq(excess, 0.0, 1.0, xtol=1e-13, rtol=1e-14)
    return 1.0 - float(root) ** 2
