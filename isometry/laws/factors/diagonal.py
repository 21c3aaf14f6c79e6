"""A factor with given singular values: slopes of an activation, or measured ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import positive
from isometry.laws.factors.factor import Block, Eigenspace, Factor, Hidden, distribution
from isometry.laws.factors.masses import masses
from isometry.laws.law import Array
from isometry.laws.series import log_over_argument, power_sums, reverted
from isometry.laws.share import Numbers, Share

#: of one evaluation of the logit
_ROUNDING = 2.0 * float(np.finfo(float).eps)


class Diagonal(Factor, Hidden):
    r"""Given x = σ² on the diagonal, free of what stands beside it.

    χ is the root ζ of t = E d / (ζ - d) times the smaller dimension: unknown y = log(-ζ).
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

    strips = ((-math.pi, 0.0),)

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
        self._unit, self._masses = masses(self.values, self.weights)
        self._tables: dict[int, tuple[Array, Array]] = {}
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
        alive = self._masses.alive if self.values[0] == 0 else 1.0
        return min(self.rows, self.columns) * alive

    @property
    def is_explicit(self) -> bool:
        """Whether all x > 0 are one: a scaled partial isometry, in closed form."""
        return self._masses.d.size == 1

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
        size = min(self.rows, self.columns)
        pairs = zip(self._masses.d, self._masses.p, strict=True)
        return tuple(
            Eigenspace(self.log_scale + math.log(d), size * p, j) for j, (d, p) in enumerate(pairs)
        )

    def linearise(self, unknowns: Numbers, share: Share) -> Block:
        """One equation: the logit of P = -t / rank, from ζ and from a."""
        (y,) = unknowns
        logit, slope = self._masses.logit(y)
        correction = (share.log_mu - share.log_rest - logit) / slope
        response = (share.slope_mu - share.slope_rest) / slope
        error = _ROUNDING * (1.0 + np.abs(y)) / np.abs(slope)
        return Block(y + correction, response, correction[None], response[None], 0.0, error)

    def start(self, share: Share) -> Array:
        """From a table on ζ < 0, along which the logit decreases."""
        return self._masses.from_logit(share.log_mu - share.log_rest)[None]

    def branch(self, share: Share, side: int, place: int | None) -> Numbers:
        """From a table between two neighbouring values, or beyond the last."""
        if place is None:
            place = len(self._masses.d) - 1 if side > 0 else 0
        above = place + 1 if side > 0 else place
        key, log_zeta = self._gap_table(above)
        with np.errstate(divide="ignore"):
            wanted = np.log(np.abs(share.mu.real)) - np.log(np.abs(share.rest.real))
        if self._is_inner(above):
            wanted = np.arcsinh(share.mu.real)
        y = np.interp(wanted, key, log_zeta) - 1j * np.pi
        # in an outer gap t between -rank and 0 belongs to ζ < 0
        own = (share.mu.real > 0) & (share.rest.real > 0)
        if np.any(own) and not self._is_inner(above):
            y = np.where(own, self.start(share.real)[0], y)
        return np.asarray(y)[None]

    def _gap_table(self, above: int) -> tuple[Array, Array]:
        """An increasing function of P with the log ζ between two values that belong to it.

        In an outer gap P does not pass 0 or 1, and its logit resolves them; in an inner one it
        takes all real values, and passes both smoothly.
        """
        if above not in self._tables:
            log_zeta = self._masses.gap(above)
            logit = self._masses.logit(log_zeta - 1j * np.pi)[0]
            inner = self._is_inner(above)
            key = np.arcsinh((1.0 / (1.0 + np.exp(-logit))).real) if inner else logit.real
            order = np.argsort(key)
            self._tables[above] = key[order], log_zeta[order]
        return self._tables[above]

    def _is_inner(self, above: int) -> bool:
        return 0 < above < len(self._masses.d)

    def log_determinant(self, unknowns: Numbers, share: Share) -> Numbers:
        """E log(1 - d/ζ)."""
        return self._masses.log_determinant(unknowns[0]) / self._masses.alive

    def series(self, order: int) -> Array:
        """From t = E Σ_k (d/ζ)^k reverted to 1/ζ as a series in t."""
        moments = power_sums(self._masses.d, self._masses.p / self._masses.alive, order)
        return -log_over_argument(reverted(moments))
