"""What every limiting law of singular values offers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from isometry.domain import Array as Array
from isometry.domain import whole
from isometry.errors import TheoryError
from isometry.laws.atom import Atom
from isometry.laws.monotone import invert
from isometry.laws.variable import Variable, in_log_sigma

#: two successive refinements of the quadrature that agree so well are its value
_SETTLED = 1e-10
_MOST_NODES = 2**15


class Law(ABC):
    """Limiting law of the singular values σ of a random matrix.

    The law is a probability measure on σ >= 0. It is the sum of point masses
    (`atoms`, the one at σ = 0 included) and of an absolutely continuous part whose
    density is given per unit of the natural logarithm of σ. With x = σ² an eigenvalue
    of J Jᵀ, log σ = ½ log x, so a density per unit log σ is twice that per unit log x.
    """

    #: what the law is and what it assumes, for a figure's legend
    name: str

    @property
    @abstractmethod
    def atoms(self) -> tuple[Atom, ...]:
        """Point masses in increasing order of σ; empty when there are none."""

    @property
    def log_atoms(self) -> tuple[tuple[float, float], ...]:
        """Point masses at σ > 0 as (log σ, mass), also where float64 cannot hold σ."""
        return tuple((math.log(atom.sigma), atom.mass) for atom in self.atoms if atom.sigma > 0)

    @property
    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Edges (lowest, highest) of log σ over the continuous part; -inf when it reaches σ = 0.

        For a purely atomic law, the lowest and highest log σ of its atoms with σ > 0.
        """

    @abstractmethod
    def density(self, log_sigma: ArrayLike) -> Array:
        """Density of log σ, atoms excluded; integrates to 1 minus the mass of the atoms."""

    @abstractmethod
    def cdf(self, log_sigma: ArrayLike) -> Array:
        """P(log σ <= log_sigma), atoms included; right-continuous, tends to P(σ = 0) at -inf."""

    @property
    @abstractmethod
    def mean_log_sigma(self) -> float:
        """E[log σ | σ > 0]."""

    @property
    @abstractmethod
    def std_log_sigma(self) -> float:
        """Standard deviation of log σ given σ > 0."""

    @property
    def score(self) -> float:
        """Isometry score I = E[2 / (σ² + σ⁻²)] = E[sech(2 log σ)], zeros contributing 0."""
        log_x, mass = self._quadrature
        # 2 / (x + 1/x), written so that it cannot overflow
        e = np.exp(-np.abs(log_x))
        return float(2.0 * e / (1.0 + e * e) @ mass)

    def quantile(self, probability: ArrayLike) -> Array:
        """Smallest log σ whose CDF reaches `probability`; -inf within the mass at σ = 0.

        Raises
        ------
        TheoryError
            When a probability is not in [0, 1].
        """
        wanted = np.asarray(probability, dtype=float)
        if not bool(np.all((wanted >= 0) & (wanted <= 1))):
            raise TheoryError(f"a probability is {probability!r}; expected numbers in [0, 1]")
        p = wanted.ravel()
        zero = sum(atom.mass for atom in self.atoms if atom.sigma == 0)
        found = np.full(p.shape, -np.inf)
        todo = p > zero
        for here, mass in self.log_atoms:
            right = float(self.cdf(here))
            on_it = todo & (p > right - mass) & (p <= right)
            found[on_it] = here
            todo &= ~on_it
        if np.any(todo):
            found[todo] = self._continuous_quantile(p[todo])
        return found.reshape(wanted.shape)

    def _continuous_quantile(self, p: Array) -> Array:
        """Quantiles that fall on the continuous part."""
        low, high = self._bracket(p)
        return invert(self._cdf_and_density, p, low, high, tolerance=1e-13)

    def _bracket(self, p: Array) -> tuple[Array, Array]:
        """Places below and above each quantile of the continuous part."""
        lowest, highest = self.support
        # one vectorised CDF brackets every quantile within a factor √2 of its depth
        knots = np.maximum(lowest, highest - 2.0 ** np.arange(41.0, -28.0, -0.5))
        reached = np.maximum.accumulate(self.cdf(knots))
        after = np.searchsorted(reached, p)
        if np.isneginf(lowest) and np.any(after == 0):
            raise TheoryError(
                f"the quantile of {p.min():.6g} lies below log σ = {knots[0]:.3g}, or too close to "
                "the mass at σ = 0 to be resolved; expected a larger probability"
            )
        ends = np.concatenate([[lowest], knots, [highest]])
        return ends[after], ends[after + 1]

    def density_of(self, variable: Variable, at: ArrayLike) -> Array:
        """Density per unit of log σ, of σ or of x = σ², atoms excluded; 0 where at <= 0."""
        log_sigma, per_unit = in_log_sigma(variable, at)
        return np.asarray(self.density(log_sigma) * per_unit)

    def cdf_of(self, variable: Variable, at: ArrayLike) -> Array:
        """P(value <= at) for the value log σ, σ or x = σ², atoms included."""
        value = np.asarray(at, dtype=float)
        below = self.cdf(in_log_sigma(variable, value)[0])
        return np.asarray(np.where((variable != "log_sigma") & (value < 0), 0.0, below))

    def moments(self, k: int) -> Array:
        """The first k moments of x: E[x], E[x²], …, E[x^k], zeros included.

        Here by quadrature of the density; laws that know them in closed form say so.
        """
        powers = np.arange(1, whole("the number of moments", k, 1) + 1)
        log_x, mass = self._quadrature
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(powers[:, None] * log_x) @ mass)

    def s_transform(self, m: ArrayLike) -> Array:
        r"""Voiculescu's S-transform, S(m) = (1 + m) / (m z(m)), at -P(σ > 0) < m < 0.

        z(m) is the inverse of m(z) = E[x / (z - x)], here on the negative axis, where both are
        monotone. S is multiplicative over free factors and S(-p) decreases in x.

        Raises
        ------
        TheoryError
            When some m is outside the open interval.
        """
        log_x, mass = self._quadrature
        wanted = self._inside_domain(m, mass.sum())

        def minus_p(s: Array) -> tuple[Array, Array]:
            share = expit(log_x - s[:, None])  # x / (x - z) at z = -exp(s)
            return -share @ mass, (share * (1 - share)) @ mass

        p = -wanted.ravel()
        margin = 1.0 + np.log(mass.sum() / (mass.sum() - p)) + np.log(mass.sum() / p)
        low, high = log_x.min() - margin, log_x.max() + margin
        s = invert(minus_p, -p, low, high, tolerance=1e-15)
        return np.asarray(np.exp(np.log1p(-p) - np.log(p) - s).reshape(wanted.shape))

    @staticmethod
    def _inside_domain(m: ArrayLike, alive: float) -> Array:
        """The m of an S-transform, where all lie between -P(σ > 0) and 0."""
        wanted = np.asarray(m, dtype=float)
        if not bool(np.all((wanted < 0) & (wanted > -alive))):
            raise TheoryError(
                f"the S-transform was asked for at m = {m!r}; expected -{alive:.6g} < m < 0"
            )
        return wanted

    @cached_property
    def _quadrature(self) -> tuple[Array, Array]:
        """Values of log x > -inf with masses that stand for the law, atoms included.

        Midpoints in an angle on which the square roots at the edges are smooth; as many as
        it takes for the mass, E[x] and E[x / (x - z)] on the negative axis to settle.
        """
        at, mass = self._alive_atoms
        if 1.0 - sum(a.mass for a in self.atoms) <= 1e-12:
            return at, mass
        s = 2 * (self.mean_log_sigma + self.std_log_sigma * np.linspace(-2, 2, 9))
        before, nodes = np.full(2 + s.size, np.inf), 64
        while nodes <= _MOST_NODES:
            log_sigma, step = self._nodes(nodes)
            log_x, share = 2 * log_sigma, self.density(log_sigma) * step
            found = np.array([share.sum(), np.exp(log_x - 2 * self.support[1]) @ share])
            found = np.concatenate([found, expit(log_x - s[:, None]) @ share])
            if np.all(np.abs(found - before) <= _SETTLED * np.abs(found)):
                return np.concatenate([at, log_x]), np.concatenate([mass, share])
            before, nodes = found, 2 * nodes
        raise TheoryError(f"the integral over {self.name} did not settle at {_MOST_NODES} nodes")

    @property
    def _alive_atoms(self) -> tuple[Array, Array]:
        """log x and masses of the atoms at σ > 0."""
        at, mass = np.array(self.log_atoms, dtype=float).reshape(-1, 2).T
        return 2 * at, mass

    def _nodes(self, n: int) -> tuple[Array, Array]:
        """Places in log σ and the lengths they stand for."""
        low, high = self.support
        angle = (np.arange(n) + 0.5) * (0.5 * np.pi / n)
        if np.isneginf(low):
            # log σ = high - v², v on a half-line that is mapped from the angle
            v = np.tan(angle)
            return high - v**2, 2 * v * (1 + v**2) * (0.5 * np.pi / n)
        half = high - low
        return low + half * np.sin(angle) ** 2, half * np.sin(2 * angle) * (0.5 * np.pi / n)

    def _cdf_and_density(self, log_sigma: Array) -> tuple[Array, Array]:
        """Both at once, for a law that gets one with the other."""
        return self.cdf(log_sigma), self.density(log_sigma)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """`n` independent draws of log σ, -inf for σ = 0."""
        return self.quantile(rng.random(whole("the number of draws", n, 0)))

    def grid(self, n: int) -> Array:
        """`n` increasing values of log σ inside the continuous part, for figures and tables.

        Chebyshev nodes: the distance to an edge shrinks as 1/n², which resolves the square
        roots there, and no node sits on an edge, where the density may be infinite. Where
        the support reaches σ = 0 the grid starts at the quantile that leaves a thousandth
        of the continuous part below. Empty where less than 1e-9 of the mass is continuous.
        """
        points = whole("the number of grid points", n, 1)
        masses = [atom.mass for atom in self.atoms]
        continuous = 1.0 - sum(masses)
        if continuous <= 1e-9:
            return np.empty(0)
        lowest, highest = self.support
        nodes = (np.arange(points) + 0.5) / points
        least = sum(atom.mass for atom in self.atoms if atom.sigma == 0) + 1e-3 * continuous
        if np.isneginf(lowest):
            lowest = float(self.quantile(least))
            return lowest + (highest - lowest) * np.sin(0.5 * np.pi * nodes)
        if float(self.cdf(lowest + 0.9 * (highest - lowest))) < least:
            lowest = float(self.quantile(least))
        return lowest + (highest - lowest) * np.sin(0.5 * np.pi * nodes) ** 2
