"""The correlation that two different inputs settle at."""

from __future__ import annotations

from scipy.optimize import brentq

from isometry.meanfield.depth_scale import SAME
from isometry.meanfield.kernel import Kernel


def fixed_correlation(kernel: Kernel, weight: float, bias: float, chi: float) -> float:
    """c*: the stable solution of C(c) = c in [0, 1], at a fixed point q* = V(q*).

    C is a power series in c with coefficients >= 0, so it is convex on [0, 1]: c* = 1 when
    χ_1 <= 1, and otherwise there is exactly one c* < 1. It solves

        σ_w² (E φ² - E φ(u_1) φ(u_2)) = q* (1 - c),

    whose two sides, divided by 1 - c, increase to χ_1 and stay 1; √(1 - c) is the unknown,
    in which a kink of φ does no harm.

    Parameters
    ----------
    kernel
        The dual kernel at q*.
    weight, bias
        σ_w² and σ_b².
    chi
        χ_1 at q*.
    """
    if chi <= 1.0 + SAME:
        return 1.0
    at_zero = (weight * kernel.value(0.0) + bias) / kernel.q
    if at_zero <= 1e-15:  # φ of average 0 and no bias: uncorrelated stays uncorrelated
        return 0.0

    def excess(root: float) -> float:
        if root == 0.0:
            return chi - 1.0
        if root == 1.0:
            return -at_zero
        apart = root * root
        return weight * kernel.gap(apart) / (kernel.q * apart) - 1.0

    root = brentq(excess, 0.0, 1.0, xtol=1e-13, rtol=1e-14)
    return 1.0 - float(root) ** 2
