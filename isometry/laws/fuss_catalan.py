"""The Fuss–Catalan law: a product of square Gaussian weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from isometry.domain import Array, finite, whole
from isometry.laws.atom import Atom
from isometry.laws.factors.gaussian import Gaussian
from isometry.laws.law import Law
from isometry.laws.monotone import invert
from isometry.laws.polar import solve
from isometry.laws.transform import Transform


class FussCatalan(Law):
    r"""Singular values of W_L ... W_1, each square with entries N(0, σ_w²/n), n → ∞.

    With unit scales and x = σ², z = (1 + t)^{L+1} / t, which the angle ψ in (0, π) solves,
    φ = ψ / (L + 1):

        x                 = sin^{L+1} ψ / (sin φ sin^L Lφ)
        density of log x  = sin φ sin ψ / (π sin Lφ) =: ρ
        P(log x <= ·)     = 1 - ψ/π + L ρ

    The largest x is (L + 1)^{L+1} / L^L, the smallest 0; E log x = -L and
    Var log x = L² + L π²/3. L = 1 is the Marchenko–Pastur law of a square matrix.

    Parameters
    ----------
    depth
        L >= 1.
    log_scale
        Σ_l log σ_w,l, by which log σ is shifted.
    name
        For a legend.

    Raises
    ------
    TheoryError
        When the depth is not a whole number >= 1 or the scale is not finite.

    References
    ----------
    Penson and Życzkowski, Product of Ginibre matrices: Fuss–Catalan and Raney
    distributions, Phys. Rev. E 83, 2011. Haagerup and Möller, The law of large numbers for
    the free multiplicative convolution, 2013. The parametrisation: Forrester and Liu, Raney
    distributions and random matrix theory, J. Stat. Phys. 158, 2015, Proposition 2.1.
    The CDF is the free log-determinant, as in `Transform.log_determinant`.
    """

    def __init__(self, depth: int, log_scale: float = 0.0, name: str | None = None) -> None:
        """Check the parameters."""
        self.depth = whole("depth", depth, 1)
        self.log_scale = finite("log_scale", log_scale)
        self.name = name or f"Fuss–Catalan: {self.depth} Gaussian weights, infinite width"

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """None."""
        return ()

    @property
    def support(self) -> tuple[float, float]:
        """From -inf to half the logarithm of (L + 1)^{L+1} / L^L."""
        return -np.inf, self.log_scale + 0.5 * self._log_x_max

    @property
    def _log_x_max(self) -> float:
        # (L + 1) log(L + 1) - L log L without its cancellation
        return math.log(self.depth + 1) + self.depth * math.log1p(1 / self.depth)

    def density(self, log_sigma: ArrayLike) -> Array:
        """Twice the density ρ of log x."""
        s = np.asarray(log_sigma, dtype=float)
        inside, b = self._parameter(s)
        out = np.where(np.isnan(s), np.nan, 0.0)
        out[inside] = 2.0 * self._density_log_x(b)
        return out

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """1 - ψ/π + L ρ."""
        s = np.asarray(log_sigma, dtype=float)
        inside, b = self._parameter(s)
        out = np.where(np.isnan(s), np.nan, np.where(s >= self.support[1], 1.0, 0.0))
        # 1 - ψ/π = 1 / (1 + exp b): a sum of positive terms, exact in the lower tail too
        out[inside] = 1.0 / (1.0 + np.exp(b)) + self.depth * self._density_log_x(b)
        return out

    @property
    def mean_log_sigma(self) -> float:
        """Half of -L, shifted by the scale."""
        return self.log_scale - 0.5 * self.depth

    @property
    def std_log_sigma(self) -> float:
        """Half of √(L² + L π²/3)."""
        return 0.5 * math.sqrt(self.depth**2 + self.depth * math.pi**2 / 3.0)

    @property
    def score(self) -> float:
        """-2 Im t(i), for Im x / (i - x) = -x / (1 + x²)."""
        transform = Transform([(Gaussian(1.0, 1.0), self.depth)], [(1.0, self.depth - 1)])
        state = solve(transform, np.array([-2.0 * self.log_scale]), 0.5 * math.pi)
        return -2.0 * float(transform.t(state[0]).imag[0])

    def moments(self, k: int) -> Array:
        """The Fuss–Catalan numbers binom(k L + k, k) / (k L + 1), times the scale."""
        order = np.arange(1.0, whole("the number of moments", k, 1) + 1)
        rest = self.depth * order  # of order + rest things, order are chosen
        log_choices = -np.log(order + rest + 1) - betaln(order + 1, rest + 1)
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(log_choices - np.log1p(rest) + 2 * order * self.log_scale))

    def s_transform(self, m: ArrayLike) -> Array:
        """S(m) = (1 + m)^-L, over the scale."""
        m = self._inside_domain(m, 1.0)
        return np.asarray(np.exp(-self.depth * np.log1p(m) - 2 * self.log_scale))

    def _angles(self, b: Array) -> tuple[Array, Array, Array, Array]:
        """ψ, φ, and ψ and Lφ folded into (0, π/2] by y → π - y, for ψ = π logistic(b)."""
        order = self.depth + 1
        e = np.exp(-np.abs(b))
        near, far = np.pi / (1.0 + e), np.pi * e / (1.0 + e)
        psi, rest = np.where(b > 0, near, far), np.where(b > 0, far, near)
        l_phi = self.depth * psi / order
        l_phi = np.where(l_phi > 0.5 * np.pi, (np.pi + self.depth * rest) / order, l_phi)
        return psi, psi / order, np.minimum(psi, rest), l_phi

    def _density_log_x(self, b: Array) -> Array:
        _, phi, psi, l_phi = self._angles(b)
        return np.sin(phi) * np.sin(psi) / (np.pi * np.sin(l_phi))

    def _minus_log_x(self, b: Array) -> tuple[Array, Array]:
        """-log x and its derivative with respect to b; increasing."""
        n = self.depth
        whole_psi, phi, psi, l_phi = self._angles(b)
        value = np.log(np.sin(phi)) + n * np.log(np.sin(l_phi)) - (n + 1) * np.log(np.sin(psi))
        cot_psi = np.cos(whole_psi) / np.sin(psi)
        cot_l_phi = np.cos(n * phi) / np.sin(l_phi)
        slope = 1.0 / np.tan(phi) + n**2 * cot_l_phi - (n + 1) ** 2 * cot_psi
        e = np.exp(-np.abs(b))
        return value, slope * np.pi / (n + 1) * e / (1.0 + e) ** 2

    def _parameter(self, log_sigma: Array) -> tuple[np.ndarray, Array]:
        """Which points lie inside the support, and b = logit(ψ/π) there."""
        order = self.depth + 1
        # farther down than 300 (L + 1), density and CDF are below 1e-250: they count as 0
        with np.errstate(invalid="ignore"):
            inside = log_sigma < self.support[1]
            inside &= log_sigma > self.log_scale - 300.0 * order
        log_x = 2.0 * (log_sigma[inside] - self.log_scale)
        low = np.full(log_x.shape, -40.0)
        high = 40.0 + math.log(order) + np.maximum(-log_x, 0.0) / order
        tolerance = np.finfo(float).eps * (order + np.abs(log_x))
        return inside, invert(self._minus_log_x, -log_x, low, high, tolerance=tolerance)
