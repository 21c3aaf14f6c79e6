"""Laws made of point masses only."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import finite, fraction, location
from isometry.errors import TheoryError
from isometry.laws.law import Array, Atom, Law

#: exp and log do not undo each other exactly: two log σ this close are one place
_SAME_PLACE = 1e-12


class AtomicLaw(Law):
    """A finite number of point masses.

    Two chains of orthogonal weights have such a law: without any mask all σ equal the
    product of the scales, and with exactly one mask of rank fraction p the law is
    (1 - p) δ_0 + p δ_c. A second mask smooths it (see `FreeProduct`).

    Parameters
    ----------
    atoms
        Point masses at distinct σ >= 0; their masses add up to 1.
    name
        What the law is, for a legend.

    Raises
    ------
    TheoryError
        When there is no atom at σ > 0, a location repeats or is negative, or the masses
        do not add up to 1.
    """

    def __init__(self, atoms: Iterable[Atom], name: str = "point masses") -> None:
        """Check and sort the atoms."""
        self.name = name
        self._atoms = tuple(
            sorted(
                Atom(finite("a location σ", s), fraction("the mass of an atom", m))
                for s, m in atoms
            )
        )
        sigma = np.array([atom.sigma for atom in self._atoms])
        mass = np.array([atom.mass for atom in self._atoms])
        if abs(mass.sum() - 1.0) > 1e-12:
            raise TheoryError(f"the masses of the atoms add up to {mass.sum():.17g}; expected 1")
        if sigma[0] < 0 or sigma[-1] == 0 or np.any(np.diff(sigma) == 0):
            raise TheoryError(
                f"the atoms are at σ = {sigma.tolist()}; expected distinct σ >= 0, one of them > 0"
            )
        self._log_sigma = np.log(sigma[sigma > 0])
        self._mass = mass[sigma > 0]

    @classmethod
    def dirac(cls, log_sigma: float, name: str = "all σ equal") -> AtomicLaw:
        """δ at exp(log_sigma): a chain of orthogonal weights without a mask."""
        return cls([Atom(location(log_sigma), 1.0)], name)

    @classmethod
    def two_point(cls, p: float, log_sigma: float, name: str = "two-point law") -> AtomicLaw:
        """(1 - p) δ_0 + p δ at exp(log_sigma): orthogonal weights and one mask of rank p."""
        p = fraction("p", p)
        zero = [Atom(0.0, 1.0 - p)] if p < 1 else []
        return cls([*zero, Atom(location(log_sigma), p)], name)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The point masses, in increasing order of σ."""
        return self._atoms

    @property
    def support(self) -> tuple[float, float]:
        """The lowest and the highest log σ > -inf that carries mass."""
        return float(self._log_sigma[0]), float(self._log_sigma[-1])

    def density(self, log_sigma: ArrayLike) -> Array:
        """Zero everywhere: there is no continuous part."""
        return np.where(np.isnan(np.asarray(log_sigma, dtype=float)), np.nan, 0.0)

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """A step at each atom."""
        s = np.asarray(log_sigma, dtype=float)
        below = self._log_sigma - _SAME_PLACE * (1 + np.abs(self._log_sigma)) <= s[..., None]
        total = (1.0 - self._mass.sum()) + below @ self._mass
        return np.asarray(np.where(np.isnan(s), np.nan, total))

    @property
    def mean_log_sigma(self) -> float:
        """Over the atoms with σ > 0."""
        return float(np.average(self._log_sigma, weights=self._mass))

    @property
    def std_log_sigma(self) -> float:
        """Over the atoms with σ > 0."""
        deviation = self._log_sigma - self.mean_log_sigma
        return math.sqrt(float(np.average(deviation**2, weights=self._mass)))
