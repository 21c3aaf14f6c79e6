"""The inverse moment transform of a product of free factors that have closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from isometry.laws.law import Array

ComplexArray = NDArray[np.complex128]

#: masses and polynomial coefficients below this are rounding of exact zeros, as in 10 (1 - 0.9) - 1
_ROUNDING = 1e-12


def logistic(a: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
    """u = 1 / (1 + exp(-a)) and 1 - u, both to full relative precision."""
    right = a.real >= 0
    e = np.exp(np.where(right, -a, a))
    large, small = 1.0 / (1.0 + e), e / (1.0 + e)
    return np.where(right, large, small), np.where(right, small, large)


def log_logistic(a: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
    """log u and log(1 - u), continuous on 0 <= Im a <= π and never overflowing."""
    right = a.real >= 0
    shared = np.log1p(np.exp(np.where(right, -a, a)))
    return np.where(right, 0.0, a) - shared, np.where(right, -a, 0.0) - shared


@dataclass(frozen=True)
class ExplicitFactors:
    """log(-z) = Σ_k c_k log(n_k + t) - log(-t), the logarithm of the inverse of t(z).

    t(z) = E[x / (z - x)] is the moment generating function of x = σ² normalised by the
    dimension of the chain. Voiculescu's S-transform is multiplicative over free factors,
    so z(t) = ((1 + t) / t) Π 1/S, and here every 1/S is a product of powers of n_k + t.
    The unknown of the solver is a = logit(-t / r), r the rank as a fraction of the
    dimension: the logarithm of minus the eta transform, in which log(-z) is nearly affine
    at any depth. The upper half plane of z is the strip 0 < Im a < π.

    Attributes
    ----------
    powers : tuple of (n_k, c_k)
        Ranks n_k, as fractions of the dimension, and whole powers c_k; none repeats.
    rank : float
        r, the smallest n_k: the mass of x outside zero.

    References
    ----------
    Pennington, Schoenholz and Ganguli, Resurrecting the sigmoid in deep learning through
    dynamical isometry: theory and practice, NeurIPS 2017.
    """

    powers: tuple[tuple[float, int], ...]
    rank: float

    @classmethod
    def square(cls, gaussians: int, masks: int, p: float) -> ExplicitFactors:
        """Square Gaussian weights of entry variance 1/n, and masks that keep a fraction p.

        1/S is 1 + t for a Gaussian weight, (p + t) / (1 + t) for a mask and 1 for an
        orthogonal weight, which therefore is not counted.
        """
        powers = [(1.0, 1 + gaussians - masks), (p, masks)]
        return cls(tuple((n, c) for n, c in powers if c != 0), p if masks else 1.0)

    def t(self, a: ComplexArray) -> ComplexArray:
        """t = -r u with u = logistic(a); Im t keeps its digits also where t is close to -r."""
        return -self.rank * logistic(a)[0]

    def log_minus_z(self, a: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """log(-z) and its derivative with respect to a."""
        u, rest = logistic(a)
        log_u, log_rest = log_logistic(a)
        value = -np.log(self.rank) - log_u
        slope = -rest
        for n, c in self.powers:
            value = value + c * self._log_sum(n, rest, log_rest)
            slope = slope - c * (
                u if n == self.rank else self.rank * u * rest / (n - self.rank + self.rank * rest)
            )
        return value, slope

    def log_determinant(self, a: ComplexArray) -> ComplexArray:
        """E log(1 - x/z), the free log-determinant: its derivative in log z is t.

        On the real axis its imaginary part is π P(x > z), so it gives the CDF exactly.
        """
        _, rest = logistic(a)
        _, log_rest = log_logistic(a)
        value: ComplexArray = (sum(c for _, c in self.powers) - 1) * self.t(a)
        for n, c in self.powers:
            value = value - c * n * (self._log_sum(n, rest, log_rest) - np.log(n))
        return value

    def _log_sum(self, n: float, rest: ComplexArray, log_rest: ComplexArray) -> ComplexArray:
        """log(n + t), continued from the upper half plane of z."""
        if n == self.rank:
            return log_rest + math.log(n)
        w = n - self.rank + self.rank * rest
        # Im t <= 0 there; a rounding error in its sign must not flip the logarithm by 2πi
        folded: ComplexArray = np.log(w.real - 1j * np.abs(w.imag))
        return folded

    def rounding(self, a: ComplexArray) -> Array:
        """Bound on the rounding error of `log_minus_z`."""
        size = 1.0 + sum(abs(c) for _, c in self.powers)
        return np.asarray(4.0 * np.finfo(float).eps * size * (1.0 + np.abs(a)))

    @property
    def top_atom(self) -> float:
        """Mass of x at its largest value, 1; positive only where no factor is Gaussian.

        With Σ c_k = 1, log z = Σ c_k n_k / t + O(t⁻²) as t grows, while a point mass w at
        x = 1 gives t = w / (z - 1): so w = Σ c_k n_k where that is positive. For k masks
        it is 1 - k (1 - p), the rule of Bercovici and Voiculescu (Regularity questions for
        free convolution, 1998; Belinschi 2003 for products).
        """
        if sum(c for _, c in self.powers) != 1:
            return 0.0
        mass = sum(c * n for n, c in self.powers)
        return mass if mass > _ROUNDING else 0.0

    def edges(self) -> tuple[float, float]:
        """Lower and upper edge of log x over the continuous part; -inf if it reaches 0.

        They are critical values of z(t) on the real axis outside the support: roots of
        Σ c_k t / (n_k + t) = 1. The upper one has t > 0, or t < -max n_k under an atom; the
        lower one has t < -r, and exists where z has a simple zero at t = -r.
        """
        roots = self._critical_points()
        above = roots[roots > 0]
        if above.size:
            upper = self._log_abs_z(above.min())
        elif self.top_atom > 0:
            upper = self._log_abs_z(roots.min())
        else:
            upper = 0.0  # t is infinite at the edge: two ReLU masks and orthogonal weights
        below = roots[roots < -self.rank]
        if dict(self.powers).get(self.rank) == 1 and below.size:
            return self._log_abs_z(below.max()), upper
        return -np.inf, upper

    def _critical_points(self) -> Array:
        """Real roots of Σ c_k t / (n_k + t) - 1, as those of a polynomial."""
        sums = [Polynomial([n, 1.0]) for n, _ in self.powers]
        total = -np.prod(np.array(sums, dtype=object))
        for k, (_, c) in enumerate(self.powers):
            others = [s for j, s in enumerate(sums) if j != k]
            total = total + c * Polynomial([0.0, 1.0]) * np.prod(
                np.array([*others, Polynomial([1.0])], dtype=object)
            )
        roots = np.asarray(total.trim(_ROUNDING).roots(), dtype=complex)
        real: Array = roots.real[np.abs(roots.imag) <= 1e-9 * np.abs(roots)]
        return real

    def _log_abs_z(self, t: float) -> float:
        """log |z| at a real t outside the support; at an edge it is flat in t."""
        return float(sum(c * np.log(abs(n + t)) for n, c in self.powers) - np.log(abs(t)))
