"""Signals in networks with skip connections."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isometry.domain import Array, finite, nonnegative, whole
from isometry.errors import TheoryError
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.moments import second_moment, slope_moment


@dataclass(frozen=True)
class ResidualProfile:
    """Variance of the stream and growth of gradients, layer by layer."""

    q: Array  # (L,) variance of x^1 ... x^L, the stream after each block
    growth: Array  # (L,) a² + b² χ_1 of each block: mean squared singular value of its Jacobian

    @property
    def log_growth(self) -> float:
        """log of the mean squared singular value of the whole Jacobian: Σ log growth."""
        return float(np.log(self.growth).sum())


def residual_profile(
    act: ActivationLike,
    q0: float,
    sigma_w: float,
    sigma_b: float,
    depth: int,
    *,
    skip: float = 1.0,
    branch: float = 1.0,
) -> ResidualProfile:
    """Blocks x^{l+1} = a x^l + b (W^l φ(x^l) + bias^l), from a stream of variance q^0.

        q^{l+1} = a² q^l + b² (σ_w² E φ² + σ_b²),    E|J|² per direction = Π (a² + b² χ_1(q^l)).

    With a = 1 and a fixed b the variance grows linearly for a bounded φ, where slopes decay
    and gradients grow slower than any exponential, and exponentially for ReLU. With
    b² = O(1/L) everything stays O(1); see `branch_strength`.

    Valid at infinite width for weights that are fresh in every block. The mean square of J
    is then exact, because the cross term of skip and branch averages to zero; its spectrum is
    not simply that of a product of free factors, because the masks of neighbouring blocks
    are correlated through the skip.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    q0
        Variance of the stream before the first block, >= 0.
    sigma_w, sigma_b
        Standard deviations of the branch's weights (times √n) and biases, >= 0.
    depth
        Number of blocks L, >= 1.
    skip, branch
        a and b.

    Raises
    ------
    TheoryError
        When an argument is outside its domain, or the variance overflows.

    References
    ----------
    Yang & Schoenholz 2017, "Mean field residual networks: on the edge of chaos".
    """
    act, q, depth = activation(act), nonnegative("q0", q0), whole("depth", depth, 1)
    weight = nonnegative("sigma_w", sigma_w) ** 2
    bias = nonnegative("sigma_b", sigma_b) ** 2
    kept, added = finite("skip", skip) ** 2, finite("branch", branch) ** 2
    variance, growth = np.empty(depth), np.empty(depth)
    for block in range(depth):
        growth[block] = kept + added * weight * slope_moment(act, q)
        q = kept * q + added * (weight * second_moment(act, q) + bias)
        if not np.isfinite(q) or q > 1e150:
            raise TheoryError(
                f"the variance of the residual stream passes 1e150 at block {block + 1} of "
                f"{depth}; try a branch of about 1/sqrt(depth) = {depth**-0.5:.3g}"
            )
        variance[block] = q
    return ResidualProfile(variance, growth)


@dataclass(frozen=True)
class BranchStrength:
    """What a small branch does to the Jacobian in the limit of many blocks."""

    c: float  # b² χ_1 L, held fixed as L → ∞
    mean_square: float  # E σ² = e^c
    mean_log_sigma: float  # 0: half the directions grow
    std_log_sigma: float  # ½ √(2 c + c²/3)


def branch_strength(branch: float, chi_1: float, depth: int) -> BranchStrength:
    """c = b² χ_1 L of blocks x + b F(x), which alone fixes the limiting spectrum.

    Valid for L → ∞ at fixed c, and for branches whose slopes are independent from block to
    block: shared masks draw the spectrum's ends out and lower its standard deviation by up to
    7 %, while E log σ = 0 and E σ² = e^c remain. c = 1 gives a standard deviation of log σ of
    0.76; c of order L, an unscaled branch, gives one of order L.

    References
    ----------
    Tarnowski, Warchoł, Jastrzębski, Tabor & Nowak 2019, "Dynamical isometry is achieved in
    residual networks in a universal way for any activation function".

    Examples
    --------
    >>> round(branch_strength(branch=0.1, chi_1=1.0, depth=100).std_log_sigma, 6)
    0.763763
    """
    size = finite("branch", branch) ** 2 * nonnegative("chi_1", chi_1)
    c = size * whole("depth", depth, 1)
    try:
        mean_square = math.exp(c)
    except OverflowError:
        mean_square = math.inf
    return BranchStrength(c, mean_square, 0.0, 0.5 * math.sqrt(2.0 * c + c * c / 3.0))
