"""Free multiplicative products of any factors."""

from __future__ import annotations

import math
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isometry.domain import Array, finite, whole
from isometry.errors import TheoryError
from isometry.laws import polar, real_axis
from isometry.laws.atom import Atom
from isometry.laws.chain import Factors, chained, interfaces, title
from isometry.laws.law import Law
from isometry.laws.logistic import log_moments
from isometry.laws.point_masses import places, point_masses
from isometry.laws.support import PURELY_ATOMIC, Support
from isometry.laws.transform import Transform

#: two log σ this close, relatively, are one place: exp and log do not undo each other exactly
_SAME_PLACE = 1e-12
#: less mass than this below a quantile is rounding of the mass at σ = 0
_UNRESOLVED = 1e-15
#: of hidden unknowns on the negative axis: log(-z) is known to the square; and for log-moments
_CLOSE, _ROUGH = 1e-8, 1e-5
#: places between two bounds on quantiles, and |a| beyond which there is no mass
_KNOTS, _FARTHEST = 34, 80.0


class FreeProduct(Law):
    r"""Singular values of a product of free factors: weights, masks, activations, skips.

    In the limit of large dimensions at fixed ratios the factors are free, and by the
    multiplicativity of Voiculescu's S-transform the moment transform t(z) = E[x / (z - x)] of
    x = σ² has the inverse

        z(t) = Π_l χ_l(t) Π_j t / (n_j + t),

    with χ_l the inverse of each factor's own (unnormalised) transform and n_j the dimensions
    between neighbours, in units of the smallest dimension of all: the law is over those
    directions that the shape allows. On the real axis the density of log x is -Im t / π, and
    P(x > z) is Im E log(1 - x/z) / π, which the factors give without an integral. Atoms are
    listed by counting dimensions; the continuous part may have gaps around them.

    Parameters
    ----------
    factors
        Factors, or (factor, power) for a square factor repeated, in the order in which they are
        applied: the columns of each are the rows of the one before. Equal factors cost as
        much as one.
    log_scale
        By how much log σ is shifted: Σ_l log σ_w,l, where that is not in the factors.
    name
        For a legend; one is made up when it is None.

    Raises
    ------
    TheoryError
        When there is no factor, dimensions do not chain, a power is not a whole number >= 1,
        or the law is purely atomic (see `free_product`); later when an equation could not be
        solved.

    References
    ----------
    Voiculescu, Multiplication of certain noncommuting random variables, J. Operator Theory
    1987. Pennington, Schoenholz and Ganguli, Resurrecting the sigmoid in deep learning through
    dynamical isometry: theory and practice, NeurIPS 2017.

    Examples
    --------
    >>> from isometry.laws.factors import Gaussian, Isometry
    >>> relu = FreeProduct([Gaussian(784, 300), (Isometry.mask(784, 0.5), 1)])
    >>> [round(edge, 6) for edge in relu.support]
    [-1.944245, 0.762251]
    """

    def __init__(
        self, factors: Factors, *, log_scale: float = 0.0, name: str | None = None
    ) -> None:
        chain = chained(factors)
        self.name = name or title(chain)
        self._transform = Transform(chain, interfaces(chain))
        #: what log σ gains over the unit scale of the transform
        self._shift = finite("log_scale", log_scale) + 0.5 * self._transform.log_scale
        self._points = point_masses(self._transform)
        self._continuous = Support(self._transform, self._points, self.name)
        self._zero = 1.0 - self._transform.rank
        self._last: tuple[Array, Array, Array] | None = None  # log σ, CDF and density there
        if self._continuous.mass <= PURELY_ATOMIC:
            raise TheoryError(
                f"the law of {self.name} is purely atomic: nothing smooths it; use free_product, "
                "AtomicLaw, or PushforwardLaw where the atoms stand for a continuous law"
            )

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The zeros that factors make, and eigenspaces that meet."""
        dead = (Atom(0.0, self._zero),) if self._zero > 0 else ()
        return dead + tuple(Atom.at(*place) for place in self.log_atoms)

    @property
    def log_atoms(self) -> tuple[tuple[float, float], ...]:
        """The latter by log σ."""
        return places(self._points, self._shift)

    @cached_property
    def support(self) -> tuple[float, float]:
        """Edges of log σ, from the critical points of z(t)."""
        low, high = self._continuous.edges
        return self._shift + 0.5 * low, self._shift + 0.5 * high

    def density(self, log_sigma: ArrayLike) -> Array:
        """2/π times -Im t on the real axis."""
        return self._cdf_and_density(np.asarray(log_sigma, dtype=float))[1]

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """From the free log-determinant, which needs no integral of the density."""
        return self._cdf_and_density(np.asarray(log_sigma, dtype=float))[0]

    @property
    def mean_log_sigma(self) -> float:
        """From the logistic quantile identity, without a density."""
        return self._shift + 0.5 * self._log_moments[0]

    @property
    def std_log_sigma(self) -> float:
        """From the logistic quantile identity, without a density."""
        return 0.5 * math.sqrt(max(self._log_moments[1], 0.0))

    @cached_property
    def score(self) -> float:
        """-2 Im t(i), for Im x / (i - x) = -x / (1 + x²): one point, away from every edge."""
        state = polar.solve(self._transform, np.array([-2.0 * self._shift]), 0.5 * math.pi)
        return max(0.0, -2.0 * float(self._transform.t(state[0]).imag[0]))

    def moments(self, k: int) -> Array:
        """The first k moments of x, exactly: coefficients of the inverse of z(t)."""
        order = whole("the number of moments", k, 1)
        logs = self._transform.log_moments(order)
        with np.errstate(over="ignore"):
            return np.exp(logs + 2.0 * self._shift * np.arange(1, order + 1))

    def s_transform(self, m: ArrayLike) -> Array:
        """S(m) = (1 + m) / (m z(m)) at -P(σ > 0) < m < 0, a product over the factors."""
        wanted = self._inside_domain(m, self._transform.rank)
        m = wanted.ravel()
        a = np.log(-m) - np.log(self._transform.rank + m)
        log_s = np.log1p(m) - np.log(-m) - self._log_minus_z(a) - 2.0 * self._shift
        with np.errstate(over="ignore"):
            return np.exp(log_s).reshape(wanted.shape)

    def moment_transform(self, z: ArrayLike) -> NDArray[np.complex128]:
        """t(z) = E[x / (z - x)]; on the positive axis its limit from above.

        Raises
        ------
        TheoryError
            When some z is 0, not finite, or on a point mass.
        """
        at = np.asarray(z, dtype=complex)
        flat = np.where(at.imag < 0, at.conj(), at).ravel()
        if not np.all(np.isfinite(flat) & (flat != 0)):
            raise TheoryError(f"the moment transform was asked for at z = {z!r}; expected z != 0")
        log_z = np.log(flat) - 2.0 * self._shift
        for point in self._points:
            near = np.abs(log_z - point.log_x) <= self._slack
            if np.any(near):
                raise TheoryError(
                    f"z = {complex(flat[near][0]):.6g} is on a point mass, where the moment "
                    "transform is infinite; expected z beside it or off the real axis"
                )
        t = np.empty(flat.shape, dtype=complex)
        for angle in np.unique(log_z.imag):
            here = log_z.imag == angle
            above = max(float(angle), polar.REAL_AXIS)
            state = polar.solve(self._transform, log_z.real[here], above)
            t[here] = self._transform.t(state[0])
        t = np.where(at.ravel().imag < 0, t.conj(), t)
        return t.reshape(at.shape)

    def _cdf_and_density(self, log_sigma: Array) -> tuple[Array, Array]:
        """Both from one solution, which is kept: who asks for one mostly asks for the other."""
        last = self._last
        if last is None or not np.array_equal(last[0], log_sigma, equal_nan=True):
            last = self._last = (log_sigma.copy(), *self._solved(log_sigma))
        return last[1].copy(), last[2].copy()

    def _solved(self, log_sigma: Array) -> tuple[Array, Array]:
        log_x = 2.0 * (log_sigma - self._shift)
        low, high = self._continuous.resolved
        cdf = np.asarray(self._zero + np.where(log_x >= high, self._continuous.mass, 0.0))
        for point in self._points:
            cdf = np.asarray(cdf + np.where(log_x >= point.log_x - self._slack, point.mass, 0.0))
        density = np.zeros(log_sigma.shape)

        with np.errstate(invalid="ignore"):
            inside = (log_x > low) & (log_x < high)
        asked, in_gap = self._continuous.beside_atoms(log_x[inside], self._slack)
        state = real_axis.solve(self._transform, asked)
        survival = self._transform.log_determinant(state).imag / np.pi
        most = self._zero + self._continuous.most_below(asked)
        cdf[inside] = np.clip(1.0 - survival, self._zero, np.minimum(most, 1.0))
        slope = -2.0 / np.pi * self._transform.t(state[0]).imag
        density[inside] = np.where(in_gap, 0.0, slope)
        missing = np.isnan(log_sigma)
        cdf[missing], density[missing] = np.nan, np.nan
        return cdf, density

    def _bracket(self, p: Array) -> tuple[Array, Array]:
        """By Markov's inequality for x / (x + z) and z / (x + z) on the negative axis.

        Half of E[x / (x + z)] is less than P(x > z), and the same below; then knots between.
        """
        above, below = (1.0 - p) / self._transform.rank, (p - self._zero) / self._transform.rank
        if np.any(below <= _UNRESOLVED):
            raise TheoryError(
                f"the quantile of {p.min():.6g} is too close to the mass at σ = 0 to be resolved; "
                "expected a larger probability"
            )
        with np.errstate(divide="ignore"):
            a = np.log([2.0 - below, above]) - np.log([below, 2.0 - above])
        bounds = self._shift + 0.5 * self._log_minus_z(np.maximum(a, -_FARTHEST).ravel())
        low, high = np.clip(bounds.reshape(a.shape), *self.support)
        ends = np.linspace(low.min(), high.max(), _KNOTS)
        after = np.searchsorted(np.maximum.accumulate(self.cdf(ends[1:-1])), p)
        return np.maximum(low, ends[after]), np.minimum(high, ends[after + 1])

    @property
    def _slack(self) -> float:
        """How far log x may be from an atom that was asked for."""
        largest = max((abs(point.log_x) for point in self._points), default=0.0)
        return _SAME_PLACE * (1.0 + largest + 2.0 * abs(self._shift))

    @cached_property
    def _log_moments(self) -> tuple[float, float]:
        return log_moments(partial(self._log_minus_z, close=_ROUGH))

    def _log_minus_z(self, a: Array, close: float = _CLOSE) -> Array:
        """log(-z) on the negative axis, with hidden unknowns that are `close`."""
        near = np.minimum(a, self._transform.reach)
        value, slope = self._transform.log_minus_z(near, close)
        # farther out it is affine, or below rounding in everything that depends on it
        return np.asarray(value + (a - near) * slope)
