"""The law of a chain of square weights and masks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from isometry.errors import TheoryError
from isometry.laws.domain import finite, fraction, location, whole
from isometry.laws.explicit import ExplicitFactors
from isometry.laws.law import Array, Atom, Law
from isometry.laws.polar import solve

#: half-width and number of nodes of the quadrature over logit p; both errors are below 1e-18
_LOGIT_RANGE = 46.0
_LOGIT_NODES = 401
#: two log σ this close, relatively, are one place: exp and log do not undo each other exactly
_SAME_PLACE = 1e-12


class Chain(Law):
    """Singular values of a product of free square weights and 0/1 diagonal masks.

    Weights are Gaussian (entries N(0, σ_w²/n)) or orthogonal (σ_w times Haar); a mask keeps
    a fraction p of the coordinates, as ReLU does with p = 1/2. In the limit n → ∞ all are
    free, and with unit scales

        log(-z) = (1 + g - k) log(1 + t) + k log(p + t) - log(-t)

    for g Gaussian weights and k masks, in any order; orthogonal weights do not appear. The
    density of log x is -Im t / π and P(x > z) is Im E log(1 - x/z) / π, both on the real axis.
    There is an atom of mass 1 - p at σ = 0 and, without Gaussian weights, one of mass
    1 - k (1 - p) at the top where that is positive.

    Parameters
    ----------
    gaussians
        g >= 0. How many orthogonal weights there are does not matter.
    masks
        k >= 0.
    p
        The fraction that a mask keeps, in (0, 1]; 1 means no mask at all.
    log_scale
        Σ_l log σ_w,l, by which log σ is shifted.
    name
        For a legend.

    Raises
    ------
    TheoryError
        When a parameter is outside its domain; when the law is purely atomic (no Gaussian
        weight and fewer than two masks: see `AtomicLaw`); when the equation could not be
        solved.

    References
    ----------
    Pennington, Schoenholz and Ganguli, Resurrecting the sigmoid in deep learning through
    dynamical isometry: theory and practice, NeurIPS 2017.
    """

    def __init__(
        self,
        gaussians: int,
        masks: int,
        p: float = 0.5,
        log_scale: float = 0.0,
        name: str | None = None,
    ) -> None:
        """Check the parameters, and find the atoms and the edges."""
        self.gaussians = whole("the number of Gaussian weights", gaussians, 0)
        self.masks = whole("the number of masks", masks, 0)
        self.p = fraction("p", p)
        self.log_scale = finite("log_scale", log_scale)
        if self.p == 1.0:
            self.masks = 0
        if self.gaussians == 0 and self.masks < 2:
            raise TheoryError(
                f"{self.masks} mask and orthogonal weights have a purely atomic law; expected a "
                "Gaussian weight or at least two masks: use chain_law or AtomicLaw"
            )
        self.name = name or f"{self.gaussians} Gaussian weights, {self.masks} masks, p = {self.p:g}"
        self._factors = ExplicitFactors.square(self.gaussians, self.masks, self.p)
        self._zero = 1.0 - self._factors.rank
        self._top = self._factors.top_atom
        self._edges = self._factors.edges()  # of log x at unit scale
        if self._top > 0:
            location(self.log_scale)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The dead fraction at σ = 0, and the atom at the top where there is one."""
        zero = (Atom(0.0, self._zero),) if self._zero > 0 else ()
        top = (Atom(location(self.log_scale), self._top),) if self._top > 0 else ()
        return zero + top

    @property
    def support(self) -> tuple[float, float]:
        """Edges of log σ, from the critical points of z(t)."""
        low, high = self._edges
        return self.log_scale + 0.5 * low, self.log_scale + 0.5 * high

    def density(self, log_sigma: ArrayLike) -> Array:
        """2/π times -Im t on the real axis."""
        return self._cdf_and_density(np.asarray(log_sigma, dtype=float))[1]

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """From the free log-determinant, which needs no integral of the density."""
        return self._cdf_and_density(np.asarray(log_sigma, dtype=float))[0]

    def _cdf_and_density(self, log_sigma: Array) -> tuple[Array, Array]:
        low, high = self.support
        with np.errstate(invalid="ignore"):
            inside = (log_sigma > low) & (log_sigma < high)
        a = solve(self._factors, 2.0 * (log_sigma[inside] - self.log_scale))

        below_top = 1.0 - self._top
        cdf = np.where(log_sigma >= high, below_top, self._zero)
        survival = self._factors.log_determinant(a).imag / np.pi
        cdf[inside] = np.clip(1.0 - survival, self._zero, below_top)
        if self._top > 0:
            cdf[log_sigma >= self.log_scale - _SAME_PLACE * (1 + abs(self.log_scale))] = 1.0
        density = np.zeros(log_sigma.shape)
        density[inside] = -2.0 / np.pi * self._factors.t(a).imag
        missing = np.isnan(log_sigma)
        cdf[missing], density[missing] = np.nan, np.nan
        return cdf, density

    @property
    def mean_log_sigma(self) -> float:
        """From the real quadrature below."""
        return self.log_scale + 0.5 * self._log_moments()[0]

    @property
    def std_log_sigma(self) -> float:
        """From the real quadrature below."""
        return 0.5 * math.sqrt(max(self._log_moments()[1], 0.0))

    @property
    def score(self) -> float:
        """-2 Im t(i), for Im x / (i - x) = -x / (1 + x²): one point, away from every edge."""
        a = solve(self._factors, np.array([-2.0 * self.log_scale]), 0.5 * math.pi)
        return -2.0 * float(self._factors.t(a).imag[0])

    def _log_moments(self) -> tuple[float, float]:
        """Mean and variance of log x given x > 0, at unit scale.

        On the negative axis t / r = -E[1 / (1 + exp(log(-z) - log x)) | x > 0], so log(-z) as
        a function of p = -t/r is the quantile function of log x plus an independent
        logistic variable, whose mean is 0 and whose variance is π²/3. The trapezoid rule
        in logit p converges geometrically.
        """
        a = np.linspace(-_LOGIT_RANGE, _LOGIT_RANGE, _LOGIT_NODES)
        e = np.exp(-np.abs(a))
        weight = (a[1] - a[0]) * e / (1.0 + e) ** 2
        value = self._factors.log_minus_z(a.astype(complex))[0].real
        mean = float(weight @ value)
        return mean, float(weight @ (value - mean) ** 2) - math.pi**2 / 3.0
