"""The Marchenko–Pastur law: one Gaussian matrix of any shape."""

from __future__ import annotations

import cmath
import math
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_expit

from isometry.domain import Array, finite, location
from isometry.errors import TheoryError
from isometry.laws.atom import Atom
from isometry.laws.law import Law
from isometry.laws.logistic import log_moments


class MarchenkoPastur(Law):
    r"""Singular values of an n_out × n_in matrix of entries N(0, σ_w²/n_in), as both grow.

    With c = n_out / n_in, λ = min(c, 1/c) and x = σ² in units of σ_w² max(c, 1), the non-zero x
    lie between a, b = (1 ∓ √λ)² with density √((b - x)(x - a)) / (2 π λ x), and
    S(m) = 1 / (σ_w² (1 + c m)) for the dimension n_out. Any matrix of independent, centred
    entries of that variance has this law.

    The law is over min(n_out, n_in) directions, those that the shape allows; `over` = "outputs"
    counts all n_out of them, with an atom of mass 1 - 1/c at σ = 0 where c > 1.

    Parameters
    ----------
    ratio
        c = n_out / n_in, positive.
    sigma_w
        σ_w, positive.
    over
        "directions" or "outputs": what the law is normalised by.
    name
        For a legend.

    Raises
    ------
    TheoryError
        When a parameter is outside its domain.

    References
    ----------
    Marchenko and Pastur, Distribution of eigenvalues for some sets of random matrices,
    Math. USSR Sbornik 1, 1967.
    """

    def __init__(
        self,
        ratio: float,
        sigma_w: float = 1.0,
        *,
        over: str = "directions",
        name: str | None = None,
    ) -> None:
        """Check the parameters."""
        self.ratio, self.sigma_w = finite("the ratio", ratio), finite("sigma_w", sigma_w)
        if self.ratio <= 0 or self.sigma_w <= 0:
            raise TheoryError(f"ratio and sigma_w are {ratio!r}, {sigma_w!r}; expected both > 0")
        if over not in ("directions", "outputs"):
            raise TheoryError(f'over is {over!r}; expected "directions" or "outputs"')
        self.name = name or f"Marchenko–Pastur, n_out/n_in = {self.ratio:g}"
        self._shape = min(self.ratio, 1.0 / self.ratio)  # λ
        self._alive = self._shape if over == "outputs" and self.ratio > 1 else 1.0
        self._log_unit = 2.0 * math.log(self.sigma_w) + max(math.log(self.ratio), 0.0)
        location(0.5 * self._log_unit)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The zeros that a tall matrix has, where outputs are counted."""
        return (Atom(0.0, 1.0 - self._alive),) if self._alive < 1 else ()

    @property
    def support(self) -> tuple[float, float]:
        """log(1 ∓ √λ), shifted by the scale; -inf for a square matrix."""
        root, shift = math.sqrt(self._shape), 0.5 * self._log_unit
        return (math.log1p(-root) if root < 1 else -math.inf) + shift, math.log1p(root) + shift

    def density(self, log_sigma: ArrayLike) -> Array:
        """√((b - x)(x - a)) / (π λ), times the share of x > 0."""
        x, below, above = self._distances(log_sigma)
        density = self._alive * np.sqrt(below * above) / (np.pi * self._shape)
        return np.asarray(np.where(np.isnan(x), np.nan, density))

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """From angles: the integral of the density in closed form."""
        x, below, above = self._distances(log_sigma)
        shape, root = self._shape, math.sqrt(self._shape)
        # x = 1 + λ - 2 √λ cos θ runs through the support once as θ runs from 0 to π
        theta = 2.0 * np.arctan2(np.sqrt(below), np.sqrt(above))
        seen = np.arctan2((1 + root) * np.sqrt(below), (1 - root) * np.sqrt(above))
        inside = np.sqrt(below * above) + (1 + shape) * theta - 2 * (1 - shape) * seen
        cdf = 1.0 - self._alive + self._alive * inside / (2 * np.pi * shape)
        cdf = np.where(above == 0, 1.0, np.where(below == 0, 1.0 - self._alive, cdf))
        return np.asarray(np.where(np.isnan(x), np.nan, cdf))

    @property
    def mean_log_sigma(self) -> float:
        """½ (log of the scale - 1 - (1 - λ)/λ log(1 - λ))."""
        bend = (1 - self._shape) * math.log1p(-self._shape) / self._shape if self._shape < 1 else 0
        return 0.5 * (self._log_unit - 1.0 - bend)

    @cached_property
    def std_log_sigma(self) -> float:
        """From log(-z) at t = -p: log(1 - λ p) + log((1 - p) / p)."""

        def log_minus_z(a: Array) -> Array:
            one_minus = (1 - self._shape) + self._shape * np.exp(log_expit(-a))
            return np.asarray(np.log(one_minus) - a)

        return 0.5 * math.sqrt(log_moments(log_minus_z)[1])

    @property
    def score(self) -> float:
        """-2 Im t(i) for the smaller root of λ t² + (1 + λ - z) t + 1 = 0, in units of x."""
        z = 1j * math.exp(-self._log_unit)
        middle = 1.0 + self._shape - z
        root = cmath.sqrt(middle**2 - 4.0 * self._shape)
        largest = max(-middle + root, -middle - root, key=abs)
        return -2.0 * self._alive * (2.0 / largest).imag

    def _distances(self, log_sigma: ArrayLike) -> tuple[Array, Array, Array]:
        """x in units of the scale, x - a and b - x, both cut off at 0."""
        low, high = self.support
        s = np.minimum(np.asarray(log_sigma, dtype=float), high)
        root = math.sqrt(self._shape)
        x = np.exp(2.0 * s - self._log_unit)
        # differences by expm1, which keeps their digits beside the edges
        from_low = (1 - root) ** 2 * np.expm1(2.0 * (s - low)) if root < 1 else x
        to_high = -((1 + root) ** 2) * np.expm1(2.0 * (s - high))
        return x, np.maximum(from_low, 0.0), np.maximum(to_high, 0.0)
