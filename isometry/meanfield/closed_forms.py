"""Gaussian moments in closed form, for the activations that have them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Homogeneous:
    """φ(h) = s_+ h for h > 0 and s_- h for h < 0: linear, ReLU and its leaky relatives.

    With c = cos θ, E relu(u_1) relu(u_2) = √(q_1 q_2) (sin θ + (π - θ) cos θ) / (2π).

    References
    ----------
    Cho & Saul 2009, "Kernel methods for deep learning".
    """

    left: float
    right: float

    def second_moment(self, q: float) -> float:
        """½ (s_-² + s_+²) q."""
        return self.response(q) * q

    def response(self, q: float) -> float:
        """½ (s_-² + s_+²)."""
        return 0.5 * (self.left**2 + self.right**2)

    def slope_moment(self, q: float, k: int) -> float:
        """½ (s_-^{2k} + s_+^{2k})."""
        return 0.5 * (abs(self.left) ** (2 * k) + abs(self.right) ** (2 * k))

    def pair(self, q1: float, q2: float, c: float) -> float:
        """The arc-cosine kernel of order 1, of both signs."""
        sine, theta = _angle(c, 1.0 - c)
        same = (sine + (math.pi - theta) * c) / (2.0 * math.pi)
        opposite = (sine - theta * c) / (2.0 * math.pi)
        return math.sqrt(q1) * math.sqrt(q2) * self._mixed(same, -opposite)

    def slope_pair(self, q1: float, q2: float, c: float) -> float:
        """The arc-cosine kernel of order 0, of both signs."""
        theta = _angle(c, 1.0 - c)[1] / (2.0 * math.pi)
        return self._mixed(0.5 - theta, theta)

    def gap(self, q: float, apart: float) -> float:
        """½ (s_-² + s_+²) q (1 - c) - (s_+ - s_-)² q (sin θ - θ c) / (2π)."""
        c = 1.0 - apart
        sine, theta = _angle(c, apart)
        bent = (self.right - self.left) ** 2 * (sine - theta * c) / (2.0 * math.pi)
        return q * (self.response(q) * apart - bent)

    def _mixed(self, same: float, opposite: float) -> float:
        return (self.left**2 + self.right**2) * same + 2.0 * self.left * self.right * opposite


@dataclass(frozen=True)
class ErrorFunction:
    """φ(h) = erf(b h); b = 1 is erf, b = √π/2 has slope 1 at the origin.

    References
    ----------
    Williams 1997, "Computing with infinite networks", for the pair moment.
    """

    b: float

    def second_moment(self, q: float) -> float:
        """(2/π) asin(2 b² q / (1 + 2 b² q))."""
        return self.pair(q, q, 1.0)

    def response(self, q: float) -> float:
        """(4 b²/π) / ((1 + 2 b² q) √(1 + 4 b² q))."""
        r = self.b**2 * q
        return 4.0 * self.b**2 / (math.pi * (1.0 + 2.0 * r) * math.sqrt(1.0 + 4.0 * r))

    def slope_moment(self, q: float, k: int) -> float:
        """(4 b²/π)^k / √(1 + 4 k b² q)."""
        return float((4.0 * self.b**2 / math.pi) ** k / math.sqrt(1.0 + 4.0 * k * self.b**2 * q))

    def pair(self, q1: float, q2: float, c: float) -> float:
        """(2/π) asin(2 b² c √(q_1 q_2) / √((1 + 2 b² q_1)(1 + 2 b² q_2)))."""
        r1, r2 = 2.0 * self.b**2 * q1, 2.0 * self.b**2 * q2
        # atan, not asin: the argument of asin tends to 1 as q grows
        x = c * math.sqrt(r1 * r2)
        return 2.0 / math.pi * math.atan2(x, math.sqrt(self._determinant(r1, r2, c)))

    def slope_pair(self, q1: float, q2: float, c: float) -> float:
        """(4 b²/π) / √((1 + 2 b² q_1)(1 + 2 b² q_2) - 4 b⁴ c² q_1 q_2)."""
        r1, r2 = 2.0 * self.b**2 * q1, 2.0 * self.b**2 * q2
        return 4.0 * self.b**2 / (math.pi * math.sqrt(self._determinant(r1, r2, c)))

    def gap(self, q: float, apart: float) -> float:
        """The difference of two arcs, taken by the tangent of the difference."""
        r, c = 2.0 * self.b**2 * q, 1.0 - apart
        open_ = r * r * apart * (2.0 - apart)  # r² (1 - c²)
        one, other = math.sqrt(1.0 + 2.0 * r), math.sqrt(1.0 + 2.0 * r + open_)
        sine = r * apart * one + r * open_ / (one + other)
        return 2.0 / math.pi * math.atan2(sine, one * other + r * r * c)

    @staticmethod
    def _determinant(r1: float, r2: float, c: float) -> float:
        return 1.0 + r1 + r2 + r1 * r2 * (1.0 - c) * (1.0 + c)


@dataclass(frozen=True)
class Sine:
    """φ(h) = sin h."""

    def second_moment(self, q: float) -> float:
        """½ (1 - e^{-2q})."""
        return -0.5 * math.expm1(-2.0 * q)

    def response(self, q: float) -> float:
        """e^{-2q}."""
        return math.exp(-2.0 * q)

    def slope_moment(self, q: float, k: int) -> float:
        """E cos^{2k} = 4^{-k} Σ_j C(2k, j) e^{-2 (k - j)² q}."""
        terms = (math.comb(2 * k, j) * math.exp(-2.0 * (k - j) ** 2 * q) for j in range(2 * k + 1))
        return math.fsum(terms) / 4.0**k

    def pair(self, q1: float, q2: float, c: float) -> float:
        """e^{-(q_1 + q_2)/2} sinh(c √(q_1 q_2))."""
        mean, product = 0.5 * (q1 + q2), c * math.sqrt(q1) * math.sqrt(q2)
        size = -0.5 * math.exp(abs(product) - mean) * math.expm1(-2.0 * abs(product))
        return math.copysign(size, c)

    def slope_pair(self, q1: float, q2: float, c: float) -> float:
        """e^{-(q_1 + q_2)/2} cosh(c √(q_1 q_2))."""
        mean, product = 0.5 * (q1 + q2), c * math.sqrt(q1) * math.sqrt(q2)
        return 0.5 * (math.exp(product - mean) + math.exp(-product - mean))

    def gap(self, q: float, apart: float) -> float:
        """2 e^{-q} cosh(q (1 + c)/2) sinh(q (1 - c)/2)."""
        near, far = q * apart, q * (2.0 - apart)
        return -0.5 * math.expm1(-near) * (1.0 + math.exp(-far))


def _angle(c: float, apart: float) -> tuple[float, float]:
    """The sine of θ and θ itself for c = cos θ = 1 - apart, both exact as θ → 0."""
    sine = math.sqrt(apart * (2.0 - apart))
    return sine, math.atan2(sine, c)
