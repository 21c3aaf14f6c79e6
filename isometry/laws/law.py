"""What every limiting law of singular values offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isometry.errors import TheoryError

Array = NDArray[np.float64]


class Atom(NamedTuple):
    """A point mass of a law of singular values."""

    sigma: float  # location, σ >= 0
    mass: float  # in (0, 1]


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
    @abstractmethod
    def score(self) -> float:
        """Isometry score I = E[2 / (σ² + σ⁻²)] = E[sech(2 log σ)], zeros contributing 0."""

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
        for atom in self.atoms:
            if atom.sigma > 0:
                here = np.log(atom.sigma)
                right = float(self.cdf(here))
                on_it = todo & (p > right - atom.mass) & (p <= right)
                found[on_it] = here
                todo &= ~on_it
        if np.any(todo):
            found[todo] = self._continuous_quantile(p[todo])
        return found.reshape(wanted.shape)

    def _continuous_quantile(self, p: Array) -> Array:
        """Quantiles that fall on the continuous part."""
        # here, because that module needs `Array` from this one
        from isometry.laws.monotone import invert

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
        low, high = ends[after], ends[after + 1]
        return invert(self._cdf_and_density, p, low, high, tolerance=1e-13)

    def _cdf_and_density(self, log_sigma: Array) -> tuple[Array, Array]:
        """Both at once, for a law that gets one with the other."""
        return self.cdf(log_sigma), self.density(log_sigma)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """`n` independent draws of log σ, -inf for σ = 0."""
        return self.quantile(rng.random(n))

    def grid(self, n: int) -> Array:
        """`n` increasing values of log σ inside the continuous part, for figures and tables.

        Chebyshev nodes: the distance to an edge shrinks as 1/n², which resolves the square
        roots there, and no node sits on an edge, where the density may be infinite. Where
        the support reaches σ = 0 the grid starts at the quantile that leaves a thousandth
        of the continuous part below. Empty where less than 1e-9 of the mass is continuous.
        """
        masses = [atom.mass for atom in self.atoms]
        continuous = 1.0 - sum(masses)
        if continuous <= 1e-9:
            return np.empty(0)
        lowest, highest = self.support
        nodes = (np.arange(n) + 0.5) / n
        if np.isneginf(lowest):
            zero = sum(atom.mass for atom in self.atoms if atom.sigma == 0)
            lowest = float(self.quantile(zero + 1e-3 * continuous))
            return lowest + (highest - lowest) * np.sin(0.5 * np.pi * nodes)
        return lowest + (highest - lowest) * np.sin(0.5 * np.pi * nodes) ** 2
