"""A factor with given singular values: slopes of an activation, or measured ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import positive
from isometry.laws.factors.factor import Eigenspace, Factor, distribution
from isometry.laws.factors.masses import masses


class Diagonal(Factor):
    r"""Given x = σ² on the diagonal, free of what stands beside it.

    χ is the root ζ of t = E d / (ζ - d) times the smaller dimension (see `Diagonals`).
    What the factor looks like off the diagonal does not matter where a neighbour is rotation
    invariant, so measured singular values of any matrix will do (`measured`).

    Parameters
    ----------
    values, weights : (k,) arrays
        x >= 0 and their masses over the min(rows, columns) directions, which add up to 1 and are
        equal when left out. For an activation φ: φ′(h)² and the weights of a quadrature. They are
        point masses: a quadrature stands for a continuous law where the other factors smooth
        it, which a single mask or a nearly isometric neighbour does not.
    rows, columns
        Dimensions; only ratios count; a square of side 1 when left out.

    Raises
    ------
    TheoryError
        When a value, weight or dimension is outside its domain.
    """

    def __init__(
        self,
        values: ArrayLike,
        weights: ArrayLike | None = None,
        rows: float = 1.0,
        columns: float | None = None,
    ) -> None:
        self.rows = positive("rows", rows)
        self.columns = self.rows if columns is None else positive("columns", columns)
        self.values, self.weights = distribution(values, weights)
        self._unit, self.masses = masses(self.values, self.weights)
        self._key = (self.rows, self.columns, self.values.tobytes(), self.weights.tobytes())

    @classmethod
    def measured(cls, sigma: ArrayLike, rows: float, columns: float) -> Diagonal:
        """All singular values of a matrix, zeros included, equally weighted."""
        return cls(np.square(np.asarray(sigma, dtype=float)), None, rows, columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Diagonal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Diagonal({self.values.size} values, rows={self.rows:g}, columns={self.columns:g})"

    @property
    def rank(self) -> float:
        """The smaller dimension times the mass of x > 0."""
        alive = float(self.masses.alive) if self.values[0] == 0 else 1.0
        return min(self.rows, self.columns) * alive

    @property
    def is_explicit(self) -> bool:
        """Whether all x > 0 are one: a scaled partial isometry, in closed form."""
        return self.masses.d.size == 1

    @property
    def log_scale(self) -> float:
        """Logarithm of the largest x."""
        return math.log(self._unit)

    @property
    def powers(self) -> tuple[float, ...]:
        """The rank, where χ has a closed form."""
        return (self.rank,) if self.is_explicit else ()

    @property
    def eigenspaces(self) -> tuple[Eigenspace, ...]:
        """Every value > 0."""
        return tuple(map(self._eigenspace, range(self.masses.d.size)))

    @property
    def largest_eigenspace(self) -> Eigenspace:
        """The first of those of the largest dimension: the others need not be listed for it."""
        return self._eigenspace(int(np.argmax(self.masses.p)))

    def _eigenspace(self, place: int) -> Eigenspace:
        d, p = self.masses.d[place], self.masses.p[place]
        size = min(self.rows, self.columns)
        return Eigenspace(self.log_scale + math.log(d), size * float(p), place)
