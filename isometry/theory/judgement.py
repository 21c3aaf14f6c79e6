"""How far a measured spectrum is from a predicted one, and whether that is far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from scipy.special import ndtri

from isometry.part import Interface
from isometry.report import Difference, Judgement

#: Of networks of independent layers, how many may be called odd by mistake.
ALARMS = 0.01

# n times the Kolmogorov–Smirnov distance of one network from the free product of its own parts:
# 2.5 ± 0.4 for fresh chains of 256 units and 2 to 10 layers, 4.0 at most in 324; up to 5 at half
# as many layers as units. Beyond these, alignment of neighbours is the likelier reason.
_SHALLOW, _DEEP = 4.5, 6.0
_LAYERS = 10
# √n times the distance of one network from the limit of infinite width: 0.2 to 0.45 for 5 layers.
_SAMPLING = 1.0
# √c times the distance of the mean of many such chains, of c units each, from the product of what
# they have together: 0.26 at most, for 8 to 64 units and 3 to 10 layers.
_POOLED = 0.35
_OUTSIDE = 0.95  # two values or more on one side of all that a law allows are no chance
_MOST = 0.25  # a law that is further off may be within chance, but does not agree
_FEW = "; too few units to judge"
# L/n above which a network's own fluctuations are no longer small beside what the law says.
_NARROW = 0.25
# Of a few units one may stick out, which moves a mean and no distribution.
_VETOES = ("wasserstein", "score")


def of_parts(
    ks: float,
    directions: int,
    layers: int,
    positions: float = 1,
    uncertainty: float = 0.0,
    *,
    apart: int = 1,
    interfaces: Sequence[Interface] = (),
) -> Judgement:
    """Judge the distance from the free product of a network's own parts.

    The singular values of free random matrices are rigid: their distribution is off the limit by
    about 2/n, whatever n is. A weight that acts on P positions alike is a matrix of n/P; P spectra
    of that size average to a distance of about 2 √P / n. Where positions never meet, each is a
    chain of its own with a sample of n/P slopes, which the free product pools. Of few units all
    this is more than a quarter; what is further off than that does not agree, chance or not.

    Parameters
    ----------
    ks : float
        Kolmogorov–Smirnov distance.
    directions : int
        n, over which the spectrum is.
    layers : int
        L, how many parts mix entries.
    positions : float
        P.
    uncertainty : float
        Of the measured CDF, where it is an estimate.
    apart : int
        How many chains there are that never meet.
    interfaces : sequence of Interface
        Between the parts: the one that is furthest from free is the freeness gap's place.
    """
    allowed = (_SHALLOW if layers <= _LAYERS else _DEEP) * math.sqrt(positions)
    chance_of_few = allowed / directions
    if apart > 1:
        chance_of_few += _POOLED / math.sqrt(directions / apart)
    if directions > 1:
        chance_of_few = min(chance_of_few, _OUTSIDE)
    allowed = min(chance_of_few, _MOST) + uncertainty
    figure = f"n·KS = {directions * ks:.1f}, up to {directions * allowed:.1f} is chance"
    if uncertainty:
        figure += f", of which {directions * uncertainty:.1f} the estimate leaves open"
    if chance_of_few > _MOST:
        figure += _FEW
    worst = max(interfaces, key=lambda i: abs(i.z) / chance(i, len(interfaces)), default=None)
    if worst is not None:
        most = chance(worst, len(interfaces))
        place = f"the interface {worst.before} → {worst.after}"
        figure += f"; z = {worst.z:.1f} at {place}, up to {most:.1f} is chance"
        if abs(worst.z) > most:
            figure += ": these two are not free of each other"
            return Judgement("departs", figure, allowed)
    if ks <= allowed:
        return Judgement("agrees", figure, allowed)
    if ks <= chance_of_few + uncertainty:
        return Judgement("finite-width effect", figure, allowed)
    figure += ": neighbouring parts are not free of each other"
    return Judgement("departs", figure, allowed)


def chance(interface: Interface, count: int) -> float:
    """|z| that one of so many free interfaces exceeds in one network of a hundred, at most.

    z is close to Σ λ_k (g_k² − 1) with g_k independent and normal and 2 Σ λ_k² = 1, where the
    λ_k are the products of the eigenvalues of both Grams. Its tail is that of a normal variable up
    to what the largest λ adds, √2 · peak · log 1/p (Laurent and Massart 2000). Two signs and two
    readings of every interface, with and without slopes, share p.
    """
    p = ALARMS / (4 * count)
    return float(-ndtri(p) - math.sqrt(2) * interface.peak * math.log(p))


def beside(
    judged: Judgement, differences: Sequence[Difference], width: float = math.inf
) -> Judgement:
    """Take "agrees" back where the distance is chance, but other numbers are off by more than that.

    The Kolmogorov–Smirnov distance hardly sees a single direction, nor a shift of all by little.

    Parameters
    ----------
    judged : Judgement
    differences : sequence of Difference
        Where rounding or probes hide directions, the score is only a bound and nothing is taken
        back.
    width : float
        L / n of a free product, which has no other effects of finite width; that of infinite width
        has them always.
    """
    off = [d for d in differences if d.name in _VETOES and not d.is_chance]
    if judged.word != "agrees" or not off or all(d.name != _VETOES[0] for d in differences):
        return judged
    reason = f"{judged.reason}, but {' and '.join(d.name for d in off)} off by more than chance"
    if width > _NARROW:
        few = f", L/n {width:.2g}" if math.isfinite(width) else ""
        return replace(judged, word="finite-width effect", reason=reason + few)
    return replace(judged, word="departs", reason=f"{reason}: the parts are not free of each other")


def of_limit(
    ks: float, directions: int, layers: int, positions: float = 1, uncertainty: float = 0.0
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
    sampling = min(_SAMPLING / math.sqrt(units), _MOST)
    width = layers / units + _SAMPLING / math.sqrt(units) - sampling
    figure = f"KS = {ks:.3f}, sampling of n units {sampling:.3f}, L/n {width:.3f}"
    if uncertainty:
        figure += f", the estimate leaves {uncertainty:.3f} open"
    if sampling + width > 2 * _MOST:
        figure += _FEW
    allowed = (
        sampling + width if directions == 1 else min(sampling + width, _OUTSIDE)
    ) + uncertainty
    word = "agrees" if ks <= sampling + uncertainty else "finite-width effect"
    return Judgement(word if ks <= allowed else "departs", figure, allowed)
