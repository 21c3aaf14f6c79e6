"""Gaussian moments of piecewise linear activations, by Price's theorem."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import erf, ndtr

from isometry.domain import Array
from isometry.meanfield.quadrature import gaussian_density, gaussian_rule

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


@dataclass(frozen=True)
class PiecewiseLinear:
    r"""φ with slopes s_0, s_1, ... between its kinks κ_1 < κ_2 < ..., where they jump by J_i.

    φ'' = Σ J_i δ(h - κ_i), so by Price's theorem ∂²/∂c² E φ(u_1) φ(u_2) is a sum of bivariate
    Gaussian densities at pairs of kinks. With c = sin α and x_i = κ_i/√q_1, y_j = κ_j/√q_2,

        E φ' φ' = E φ'(u_1) E φ'(u_2) + Σ_ij J_i J_j/(2π) ∫_0^α e_ij(θ) dθ,
        e_ij(θ) = exp(-(x_i² - 2 x_i y_j sin θ + y_j²) / (2 cos² θ)),

    and E φ φ follows by one more integration in c: single integrals, smooth up to c = ±1.

    Parameters
    ----------
    kinks, slopes
        κ_i, increasing, and s_i, one more.
    at_zero
        φ(0).

    References
    ----------
    Price 1958, "A useful theorem for nonlinear devices having Gaussian inputs".
    """

    kinks: tuple[float, ...]
    slopes: tuple[float, ...]
    at_zero: float

    def function(self, h: Array) -> Array:
        """φ(h), from 0 on the piece that holds it, else from the kink nearest to 0."""
        if not self.kinks:
            return np.asarray(self.at_zero + self.slopes[0] * h)
        kinks, slopes = np.array(self.kinks), np.array(self.slopes)
        piece, middle = np.searchsorted(kinks, h), int(np.searchsorted(kinks, 0.0))
        places = np.concatenate([kinks[:middle], [0.0], kinks[middle:]])  # an anchor a piece
        values = np.concatenate([self._at_kinks[:middle], [self.at_zero], self._at_kinks[middle:]])
        return np.asarray(values[piece] + slopes[piece] * (h - places[piece]))

    @cached_property
    def _at_kinks(self) -> Array:
        """φ(κ_i)."""
        if not self.kinks:
            return np.empty(0)
        kinks, slopes = np.array(self.kinks), np.array(self.slopes)
        rising = np.concatenate([[0.0], np.cumsum(slopes[1:-1] * np.diff(kinks))])
        nearest = int(np.searchsorted(kinks, 0.0))
        anchor = max(nearest - 1, 0)
        return np.asarray(self.at_zero + rising - rising[anchor] + slopes[nearest] * kinks[anchor])

    @cached_property
    def jumps(self) -> Array:
        """J_i."""
        return np.asarray(np.diff(np.array(self.slopes)), dtype=float)

    def masses(self, q: float) -> Array:
        """Probability of each piece."""
        at = np.array(self.kinks) / math.sqrt(q)
        a, b = np.concatenate([[-np.inf], at]), np.concatenate([at, [np.inf]])
        # from the nearer tail, or from the middle: a difference of close numbers loses digits
        tail = np.where(a > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))
        middle = 0.5 * (erf(b / math.sqrt(2.0)) - erf(a / math.sqrt(2.0)))
        return np.asarray(np.where((a < 0) & (b > 0), middle, tail))

    def second_moment(self, q: float) -> float:
        """E φ(u)², by quadrature that is exact on each piece."""
        z, w = gaussian_rule(math.sqrt(q), self.kinks)
        return float(w @ self.function(math.sqrt(q) * z) ** 2)

    def response(self, q: float) -> float:
        """E[φ'² + φ φ''] = E φ'² + Σ J_i φ(κ_i) times the density of u at κ_i."""
        kinks = np.array(self.kinks)
        density = gaussian_density(kinks / math.sqrt(q)) / math.sqrt(q)
        return self.slope_moment(q, 1) + float((self.jumps * self._at_kinks) @ density)

    def slope_moment(self, q: float, k: int) -> float:
        """Σ s_i^{2k} times the probability of the piece."""
        return float(self.masses(q) @ np.array(self.slopes) ** (2 * k))

    def pair(self, q1: float, q2: float, c: float) -> float:
        """(E φ)(E φ) + √(q_1 q_2) [c (E φ')(E φ') + Σ J_i J_j/(2π) ∫_0^α (c - sin θ) e_ij dθ]."""
        theta, w = _from_zero(math.asin(c))
        bent = self._densities(q1, q2, theta) @ (w * (c - np.sin(theta)))
        straight = c * self._mean_slope(q1) * self._mean_slope(q2)
        return self._mean(q1) * self._mean(q2) + math.sqrt(q1) * math.sqrt(q2) * (
            straight + float(bent)
        )

    def slope_pair(self, q1: float, q2: float, c: float) -> float:
        """The first formula above."""
        theta, w = _from_zero(math.asin(c))
        together = float(self._densities(q1, q2, theta) @ w)
        return self._mean_slope(q1) * self._mean_slope(q2) + together

    def gap(self, q: float, apart: float) -> float:
        """q (1 - c) E φ' φ' + q Σ J_i J_j/(2π) ∫_α^{π/2} (1 - sin θ) e_ij dθ: no cancellation."""
        c = 1.0 - apart
        if c < 0.0:  # nothing cancels there, and the panels below crowd at the other end
            return self.second_moment(q) - self.pair(q, q, c)
        rest, w = _panels(math.atan2(math.sqrt(apart * (2.0 - apart)), c))  # π/2 - θ
        short = self._densities(q, q, 0.5 * math.pi - rest) @ (w * 2.0 * np.sin(0.5 * rest) ** 2)
        return q * (apart * self.slope_pair(q, q, c) + float(short))

    def _mean(self, q: float) -> float:
        z, w = gaussian_rule(math.sqrt(q), self.kinks)
        return float(w @ self.function(math.sqrt(q) * z))

    def _mean_slope(self, q: float) -> float:
        return float(self.masses(q) @ np.array(self.slopes))

    def _densities(self, q1: float, q2: float, theta: Array) -> Array:
        """Σ_ij J_i J_j e_ij(θ) / (2π)."""
        x = np.array(self.kinks)[:, None, None] / math.sqrt(q1)
        y = np.array(self.kinks)[None, :, None] / math.sqrt(q2)
        sine, cosine = np.sin(theta), np.cos(theta)
        # written from the end of [-1, 1] that sin θ is near, where cos θ vanishes
        sign = np.where(theta < 0.0, -1.0, 1.0)
        apart = (x - sign * y) / cosine
        exponent = 0.5 * apart**2 + sign * x * y / (1.0 + np.abs(sine))
        weights = np.multiply.outer(self.jumps, self.jumps) / (2.0 * math.pi)
        # all e_ij tend to 1 as q grows, and the jumps of a φ that levels off cancel
        level = (self.slopes[-1] - self.slopes[0]) ** 2 / (2.0 * math.pi)
        return np.asarray(level + np.einsum("ij,ijk->k", weights, np.expm1(-exponent)))


def _from_zero(alpha: float) -> tuple[Array, Array]:
    """Nodes θ and signed weights of ∫_0^α, crowding towards ±π/2 as far as α reaches."""
    rest, w = _panels(0.5 * math.pi, 0.5 * math.pi - abs(alpha))
    return np.copysign(0.5 * math.pi - rest, alpha), math.copysign(1.0, alpha) * w


def _panels(high: float, low: float = 0.0) -> tuple[Array, Array]:
    """Nodes and weights on [low, high], on panels that halve towards 0."""
    ends = high * np.exp2(-np.arange(0.0, 40.0))
    ends = np.concatenate([[low], ends[ends > low][::-1]])
    half = 0.5 * np.diff(ends)[:, None]
    nodes = 0.5 * (ends[1:] + ends[:-1])[:, None] + half * _NODES
    return nodes.ravel(), (half * _WEIGHTS).ravel()
