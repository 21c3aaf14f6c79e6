"""How far a measured spectrum is from a predicted one, and whether that is far."""

from __future__ import annotations

import math

from isometry.report import Judgement

# n times the Kolmogorov–Smirnov distance of one network from the free product of its own parts:
# 2.5 ± 0.4 for fresh chains of 256 units and 2 to 10 layers, 4.0 at most in 324; up to 5 at half
# as many layers as units. Beyond these, alignment of neighbours is the likelier reason.
_SHALLOW, _DEEP = 4.5, 6.0
_LAYERS = 10
# √n times the distance of one network from the limit of infinite width: 0.2 to 0.45 for 5 layers.
_SAMPLING = 1.0


def of_parts(
    ks: float, directions: int, layers: int, positions: int = 1, uncertainty: float = 0.0
) -> Judgement:
    """Judge the distance from the free product of a network's own parts.

    The singular values of free random matrices are rigid: their distribution is off the limit by
    about 2/n, whatever n is. A weight that acts on P positions alike is a matrix of n/P; P spectra
    of that size average to a distance of about 2 √P / n.

    Parameters
    ----------
    ks : float
        Kolmogorov–Smirnov distance.
    directions : int
        n, over which the spectrum is.
    layers : int
        L, how many parts mix entries.
    positions : int
        P.
    uncertainty : float
        Of the measured CDF, where it is an estimate.
    """
    chance = (_SHALLOW if layers <= _LAYERS else _DEEP) * math.sqrt(positions)
    allowed = chance / directions + uncertainty
    figure = f"n·KS = {directions * ks:.1f}, up to {directions * allowed:.1f} is chance"
    if ks <= allowed:
        return Judgement("agrees", figure)
    return Judgement("departs", f"{figure}: neighbouring parts are not free of each other")


def of_limit(
    ks: float, directions: int, layers: int, positions: int = 1, uncertainty: float = 0.0
) -> Judgement:
    """Judge the distance from the limit of infinite width.

    The slopes of n units are a sample, which moves the CDF by order 1/√n, and the variance of the
    signal of a network of L layers by order L/n. P positions make n/P units of each layer.

    Parameters
    ----------
    ks, directions, layers, positions, uncertainty
        As for `of_parts`.
    """
    units = directions / positions
    sampling = _SAMPLING / math.sqrt(units)
    width = layers / units
    figure = f"KS = {ks:.3f}, sampling of n units {sampling:.3f}, L/n {width:.3f}"
    if ks <= sampling + uncertainty:
        return Judgement("agrees", figure)
    if ks <= sampling + width + uncertainty:
        return Judgement("finite-width effect", figure)
    return Judgement("departs", figure)
