"""Laws made of point masses only."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import Array, finite, fraction
from isometry.errors import TheoryError
from isometry.laws.atom import Atom
from isometry.laws.law import Law

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
        ordered = sorted(Atom(finite("a location σ", s), m) for s, m in atoms)
        sigma = np.array([atom.sigma for atom in ordered])
        if np.any(sigma < 0):
            raise TheoryError(f"the atoms are at σ = {sigma.tolist()}; expected distinct σ >= 0")
        with np.errstate(divide="ignore"):
            self._place(zip(np.log(sigma).tolist(), (m for _, m in ordered), strict=True), name)
        self._atoms = tuple(ordered)

    @classmethod
    def located(
        cls, places: Iterable[tuple[float, float]], name: str = "point masses"
    ) -> AtomicLaw:
        """Atoms by (log σ, mass), -inf at σ = 0: their σ need not fit into float64."""
        law = cls.__new__(cls)
        law._place(places, name)
        return law

    @classmethod
    def dirac(cls, log_sigma: float, name: str = "all σ equal") -> AtomicLaw:
        """δ at exp(log_sigma): a chain of orthogonal weights without a mask."""
        return cls.located([(finite("log σ", log_sigma), 1.0)], name)

    @classmethod
    def two_point(cls, p: float, log_sigma: float, name: str = "two-point law") -> AtomicLaw:
        """(1 - p) δ_0 + p δ at exp(log_sigma): orthogonal weights and one mask of rank p."""
        p = fraction("p", p)
        zero = [(-math.inf, 1.0 - p)] if p < 1 else []
        return cls.located([*zero, (finite("log σ", log_sigma), p)], name)

    def _place(self, places: Iterable[tuple[float, float]], name: str) -> None:
        ordered = sorted((s, fraction("the mass of an atom", m)) for s, m in places)
        log_sigma, mass = np.array(ordered, dtype=float).reshape(-1, 2).T
        if abs(mass.sum() - 1.0) > 1e-12:
            raise TheoryError(f"the masses of the atoms add up to {mass.sum():.17g}; expected 1")
        if log_sigma[-1] == -np.inf or np.any(log_sigma[1:] == log_sigma[:-1]):
            raise TheoryError(
                f"the atoms are at log σ = {log_sigma.tolist()}; expected distinct σ >= 0, one of "
                "them > 0"
            )
        alive = log_sigma > -np.inf
        self.name, self._log_sigma, self._mass = name, log_sigma[alive], mass[alive]
        self._atoms = tuple(Atom.at(*place) for place in ordered)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The point masses, in increasing order of σ."""
        return self._atoms

    @property
    def log_atoms(self) -> tuple[tuple[float, float], ...]:
        """The same by log σ, those at σ > 0."""
        return tuple(zip(self._log_sigma.tolist(), self._mass.tolist(), strict=True))

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
