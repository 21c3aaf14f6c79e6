"""The maps that carry variances and correlations from one layer to the next, and their slopes."""

from __future__ import annotations

import numpy as np

from isometry.domain import Array, correlation, nonnegative, positive, whole
from isometry.errors import TheoryError
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.kernel import Kernel
from isometry.meanfield.moments import response, second_moment, slope_moment


def q_map(act: ActivationLike, q: float, sigma_w: float, sigma_b: float) -> float:
    """V(q) = σ_w² E φ(√q z)² + σ_b²: the variance of the next layer's pre-activations.

    Layers are h^l = W^l φ(h^{l-1}) + b^l with W_ij ~ N(0, σ_w²/n), or σ_w times a Haar
    orthogonal matrix, and b_i ~ N(0, σ_b²); n → ∞ with the depth fixed.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    q
        Variance of a pre-activation, >= 0.
    sigma_w, sigma_b
        Standard deviations of weights (times √n) and biases, >= 0.

    Raises
    ------
    TheoryError
        When a number is negative or not finite.

    References
    ----------
    Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli 2016, "Exponential expressivity in deep
    neural networks through transient chaos".

    Examples
    --------
    >>> q_map("relu", 1.0, sigma_w=2.0**0.5, sigma_b=0.0)
    1.0000000000000002
    """
    act, q = activation(act), nonnegative("q", q)
    sigma_w, sigma_b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    return sigma_w**2 * second_moment(act, q) + sigma_b**2


def q_profile(act: ActivationLike, q0: float, sigma_w: float, sigma_b: float, depth: int) -> Array:
    """Variances q^1, ..., q^L of the pre-activations, from any variance of the input.

    The input is not passed through φ: q^1 = σ_w² q^0 + σ_b², then q^{l+1} = V(q^l). An input
    far from q* changes the spectrum of the Jacobian: take D^l at q^l, not at q*.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    q0
        Mean square of the entries of the input, >= 0.
    sigma_w, sigma_b
        Standard deviations of weights (times √n) and biases, >= 0.
    depth
        Number of layers L, >= 1.

    Raises
    ------
    TheoryError
        When an argument is outside its domain, or the variance overflows.
    """
    act, q, depth = activation(act), nonnegative("q0", q0), whole("depth", depth, 1)
    sigma_w, sigma_b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    profile = np.empty(depth)
    for layer in range(depth):
        moment = q if layer == 0 else second_moment(act, q)
        before, q = q, sigma_w**2 * moment + sigma_b**2
        if not np.isfinite(q) or q > 1e150:
            raise TheoryError(
                f"the variance of {act.name} passes 1e150 at layer {layer + 1} of {depth} with "
                f"sigma_w = {sigma_w:g}; try a smaller sigma_w"
            )
        profile[layer:] = q
        if layer > 0 and q == before:
            break
    return profile


def chi_1(act: ActivationLike, q: float, sigma_w: float) -> float:
    """χ_1 = σ_w² E φ'(√q z)²: growth of a gradient, and of a small difference, per layer.

    Below 1 the network is ordered, above 1 chaotic. At q = 0 the limit.

    References
    ----------
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information propagation".
    """
    return nonnegative("sigma_w", sigma_w) ** 2 * slope_moment(act, q)


def chi_q(act: ActivationLike, q: float, sigma_w: float) -> float:
    """χ_q = V'(q) = σ_w² E z φ φ' / √q = σ_w² E[φ'² + φ φ'']: the stability of a variance.

    The first form follows from Stein's lemma and needs no second derivative, so kinks are
    no obstacle. |χ_q| < 1 makes q* stable. At q = 0 the limit.

    References
    ----------
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information propagation".
    """
    moment = response(activation(act), nonnegative("q", q))
    return nonnegative("sigma_w", sigma_w) ** 2 * moment


def c_map(act: ActivationLike, c: float, q: float, sigma_w: float, sigma_b: float) -> float:
    """C(c) = (σ_w² E φ(u_1) φ(u_2) + σ_b²) / V(q): the correlation of two inputs, one layer on.

    u_1, u_2 have variance q and correlation c. V(q) = q at a fixed point.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    c
        Correlation of the pre-activations, in [-1, 1].
    q
        Their variance, > 0.
    sigma_w, sigma_b
        Standard deviations of weights (times √n) and biases, >= 0, not both 0.

    References
    ----------
    Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli 2016, "Exponential expressivity in deep
    neural networks through transient chaos".

    Examples
    --------
    >>> round(c_map("relu", 0.0, 1.0, sigma_w=2.0**0.5, sigma_b=0.0), 12)  # 1/π
    0.318309886184
    """
    act, c, q = activation(act), correlation("c", c), positive("q", q)
    variance = q_map(act, q, sigma_w, sigma_b)
    if variance == 0.0:
        raise TheoryError(f"the next layer of {act.name} has variance 0, so no correlation exists")
    value = sigma_w**2 * Kernel(act, q).value(c) + sigma_b**2
    return min(1.0, max(-1.0, value / variance))


def chi_c(act: ActivationLike, c: float, q: float, sigma_w: float) -> float:
    """χ_c = σ_w² E φ'(u_1) φ'(u_2) = C'(c) at a fixed point q; χ_1 at c = 1.

    References
    ----------
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information propagation".
    """
    act, c, q = activation(act), correlation("c", c), positive("q", q)
    return nonnegative("sigma_w", sigma_w) ** 2 * Kernel(act, q).slope(c)
