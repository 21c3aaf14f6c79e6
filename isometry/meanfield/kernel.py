"""The dual kernel of an activation: the covariance of two neurons' outputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation, Pointwise
from isometry.meanfield.hermite import coefficients, degrees
from isometry.meanfield.moments import expectation, second_moment, slope_moment
from isometry.meanfield.nested import pair_expectation

PairIntegrand = Callable[[Array, Array], Array]

#: share of E φ², or of q E φ'², that the terms left out of the series may carry
_NEGLIGIBLE = 1e-14
#: how far the double integral of a callable may be from a single one
_UNRESOLVED = 1e-9


class Kernel:
    """E φ(u_1) φ(u_2) and its relatives, for pre-activations of variance q and correlation c.

    By closed form where the activation has one; else by the Hermite series, which is a
    polynomial in c once its coefficients are known; else, where its tail matters (kinks or
    large q, and |c| near 1), by a double integral.

    Parameters
    ----------
    act
        The activation φ.
    q
        Variance of the pre-activations, > 0.
    """

    def __init__(self, act: Activation, q: float) -> None:
        self.act, self.q = act, q
        self._reach: float | None = None

    def value(self, c: float) -> float:
        """E φ(u_1) φ(u_2)."""
        if self.act.closed is not None:
            return self.act.closed.pair(self.q, self.q, c)
        if self.series_reaches(c):
            a = coefficients(self.act, self.q)
            return float(a**2 @ c ** degrees())
        f = self.act.function
        return _double(self.act, f, lambda u1, u2: f(u1) * f(u2), self.q, self.q, c)

    def slope(self, c: float) -> float:
        """E φ'(u_1) φ'(u_2), the derivative of `value` with respect to c, divided by q."""
        if self.act.closed is not None:
            return self.act.closed.slope_pair(self.q, self.q, c)
        if self.series_reaches(c):
            k, a = degrees()[1:], coefficients(self.act, self.q)[1:]
            return float((k * a**2) @ c ** (k - 1.0)) / self.q
        d = self.act.derivative
        return _double(self.act, d, lambda u1, u2: d(u1) * d(u2), self.q, self.q, c)

    def gap(self, apart: float) -> float:
        """½ E (φ(u_1) - φ(u_2))² = E φ² - E φ(u_1) φ(u_2) at c = 1 - apart, exact as apart → 0."""
        c = 1.0 - apart
        if self.act.closed is not None:
            return self.act.closed.gap(self.q, apart)
        if self.series_reaches(c):
            k, a = degrees()[1:], coefficients(self.act, self.q)[1:]
            lost = -np.expm1(k * math.log1p(-apart)) if apart < 0.5 else 1.0 - c**k
            return float(a**2 @ lost) + self._left_out()
        f = self.act.function
        return _double(
            self.act, f, lambda u1, u2: 0.5 * (f(u1) - f(u2)) ** 2, self.q, self.q, c, apart
        )

    def _left_out(self) -> float:
        """Σ a_k² beyond the series, of which c^k leaves nothing where the series is used."""
        if self._reach == 1.0:
            return 0.0
        a = coefficients(self.act, self.q)
        return max(second_moment(self.act, self.q) - float(a @ a), 0.0)

    def series_reaches(self, c: float) -> bool:
        """Whether the terms left out, at most their share of Σ k a_k² times |c|^255, vanish."""
        if self._reach is None:
            a = coefficients(self.act, self.q)
            k = degrees()
            energy = self.q * slope_moment(self.act, self.q)
            # rounding hides a remainder below 1e-14, which the margin then covers
            left = max(energy - float(k @ a**2), 0.0) / energy
            self._reach = 1.0 if left <= _NEGLIGIBLE else (_NEGLIGIBLE / left) ** (1 / (k.size - 1))
        return abs(c) <= self._reach


def output_covariance(act: Activation, q1: float, q2: float, c: float) -> float:
    """E φ(u_1) φ(u_2) for variances q_1, q_2 >= 0 and correlation c."""
    if q1 == 0.0 or q2 == 0.0:
        return expectation(act, q1, lambda z, h: act.function(h)) * expectation(
            act, q2, lambda z, h: act.function(h)
        )
    if act.closed is not None:
        return act.closed.pair(q1, q2, c)
    if Kernel(act, q1).series_reaches(c) and Kernel(act, q2).series_reaches(c):
        return float((coefficients(act, q1) * coefficients(act, q2)) @ c ** degrees())
    f = act.function
    return _double(act, f, lambda u1, u2: f(u1) * f(u2), q1, q2, c)


def _double(
    act: Activation,
    part: Pointwise,
    integrand: PairIntegrand,
    q1: float,
    q2: float,
    c: float,
    apart: float | None = None,
) -> float:
    """E f(u_1, u_2), f made of `part`; for a callable, after a trial whose outcome is known."""
    if act.panels is not None:
        known = expectation(act, q2, lambda z, h: part(h) ** 2)
        found = pair_expectation(lambda u1, u2: part(u2) ** 2, q1, q2, c, act.kinks, apart)
        if not abs(found - known) <= _UNRESOLVED * known:
            raise TheoryError(
                f"the average of {act.name} over pairs of variance {q2:.6g} and correlation "
                f"{c:.6g} did not converge: it bends too fast; try a smaller variance, or give "
                "the activation as an Activation with its closed forms"
            )
    return pair_expectation(integrand, q1, q2, c, act.kinks, apart)
