"""Where a deep network of given weights and biases settles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isometry.domain import nonnegative
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation
from isometry.meanfield.correlation import fixed_correlation
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.depth_scale import SAME, depth_scale, gradient_scale
from isometry.meanfield.fixed_points import FixedPoint, fixed_points
from isometry.meanfield.kernel import Kernel
from isometry.meanfield.moments import slope_moment

Phase = Literal["ordered", "critical", "chaotic"]


@dataclass(frozen=True)
class OperatingPoint:
    """A fixed point of signal propagation, with all that linear theory says about it."""

    activation: str
    sigma_w: float  # W_ij ~ N(0, σ_w²/n), or σ_w times a Haar orthogonal matrix
    sigma_b: float  # b_i ~ N(0, σ_b²)
    q_star: float  # variance of the pre-activations, V(q*) = q*
    chi_1: float  # σ_w² E φ'²
    chi_q: float  # V'(q*)
    c_star: float  # correlation of two inputs, C(c*) = c*
    chi_c: float  # C'(c*); χ_1 where c* = 1
    xi_q: float  # layers, -1 / log |χ_q|
    xi_c: float  # layers, -1 / log χ_c; infinite at criticality
    xi_gradient: float  # layers, 1 / log χ_1; negative where gradients vanish
    phase: Phase
    stable: bool  # whether variances near q* return to it
    notes: tuple[str, ...]  # what the numbers do not say

    @property
    def mu_1(self) -> float:
        """E φ'², from χ_1."""
        return self.chi_1 / self.sigma_w**2


def operating_point(act: ActivationLike, sigma_w: float, sigma_b: float) -> OperatingPoint:
    """The fixed point that a signal of variance 1 is drawn to, and its depth scales.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    sigma_w, sigma_b
        Standard deviations of weights (times √n) and biases, >= 0.

    Returns
    -------
    OperatingPoint
        The notes name other stable fixed points, where there are any.

    Raises
    ------
    TheoryError
        When an argument is outside its domain, or no fixed point is stable: the variance
        then grows without bound.

    References
    ----------
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information propagation".

    Examples
    --------
    >>> point = operating_point("tanh", sigma_w=1.5, sigma_b=0.05)
    >>> point.phase, round(point.q_star, 6), round(point.xi_c, 3)
    ('chaotic', 0.798387, 16.201)
    """
    act = activation(act)
    sigma_w, sigma_b = nonnegative("sigma_w", sigma_w), nonnegative("sigma_b", sigma_b)
    points = fixed_points(act, sigma_w, sigma_b)
    chosen, notes = _reached(act, points, sigma_w, sigma_b)
    return describe(act, sigma_w, sigma_b, chosen, notes)


def _reached(
    act: Activation, points: tuple[FixedPoint, ...], sigma_w: float, sigma_b: float
) -> tuple[FixedPoint, list[str]]:
    """The fixed point whose basin holds q = 1: V increases wherever |φ| grows with |h|."""
    attracting = [p for p in points if p.stability in ("stable", "neutral")]
    if not attracting:
        saying = ", ".join(f"{p.q:.6g} ({p.stability})" for p in points) or "none"
        raise TheoryError(
            f"no stable variance exists for {act.name} at sigma_w = {sigma_w:g}, sigma_b = "
            f"{sigma_b:g}: it grows without bound, or oscillates (fixed points: {saying}); "
            "try a smaller sigma_w"
        )
    above = [p.q for p in points if p.stability == "unstable" and p.q >= 1.0]
    below = [p.q for p in points if p.stability == "unstable" and p.q < 1.0]
    low, high = max(below, default=-1.0), min(above, default=float("inf"))
    within = [p for p in attracting if low < p.q < high]
    notes = []
    if not within:
        notes.append("a variance of 1 is not drawn here: it grows without bound, or dies out")
    chosen = (within or attracting)[0]
    others = [p for p in attracting if p is not chosen]
    if others:
        notes.append("also stable: q* = " + ", ".join(f"{p.q:.6g}" for p in others))
    if chosen.stability == "neutral":
        notes.append(f"every variance is fixed; q* = {chosen.q:g} stands for all of them")
    return chosen, notes


def describe(
    act: Activation, sigma_w: float, sigma_b: float, point: FixedPoint, notes: list[str]
) -> OperatingPoint:
    """All that linear theory says about one fixed point."""
    weight, bias, q = sigma_w**2, sigma_b**2, point.q
    slope = weight * slope_moment(act, q)
    c_star, chi_c = 1.0, slope
    if q > 0.0 and slope > 1.0 + SAME:
        kernel = Kernel(act, q)
        c_star = fixed_correlation(kernel, weight, bias, slope)
        chi_c = weight * kernel.slope(c_star)
    notes = [*notes, *_remarks(act, point, slope)]
    return OperatingPoint(
        activation=act.name,
        sigma_w=sigma_w,
        sigma_b=sigma_b,
        q_star=q,
        chi_1=slope,
        chi_q=point.chi_q,
        c_star=c_star,
        chi_c=chi_c,
        xi_q=depth_scale(point.chi_q),
        xi_c=depth_scale(chi_c),
        xi_gradient=gradient_scale(slope),
        phase=_phase(slope),
        stable=point.stability in ("stable", "neutral"),
        notes=tuple(notes),
    )


def _phase(slope: float) -> Phase:
    if abs(slope - 1.0) <= SAME:
        return "critical"
    return "ordered" if slope < 1.0 else "chaotic"


def _remarks(act: Activation, point: FixedPoint, slope: float) -> list[str]:
    remarks = []
    if point.q == 0.0 and point.stability != "neutral":
        remarks.append("q* = 0: the signal dies out; slopes are those of φ at the origin")
    if point.q > 0.0 and point.stability != "neutral" and abs(point.chi_q - 1.0) < 1e-9:
        remarks.append("V(q) = q to rounding around q*: the digits of q* are not all reliable")
    if point.chi_q > 1.0 + SAME and abs(slope - 1.0) <= SAME:
        remarks.append(
            f"half-stable: χ_1 = 1 but χ_q = {point.chi_q:.4f} > 1, so correlations keep but "
            "variances leave q*"
        )
    return remarks
