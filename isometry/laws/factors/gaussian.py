"""A Gaussian weight matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isometry.domain import positive
from isometry.laws.factors.factor import Factor


@dataclass(frozen=True)
class Gaussian(Factor):
    """Independent entries N(0, variance / columns).

    χ = (variance / columns) (rows + t) (columns + t) / t. Any independent centred entries of that
    variance have the same limit.

    Parameters
    ----------
    rows, columns
        Outputs and inputs; only ratios count.
    variance
        σ_w², positive.

    Raises
    ------
    TheoryError
        When one of them is not a positive number.

    References
    ----------
    Marchenko and Pastur, Distribution of eigenvalues for some sets of random matrices,
    Math. USSR Sbornik 1, 1967.
    """

    rows: float
    columns: float
    variance: float = 1.0

    def __post_init__(self) -> None:
        for label in ("rows", "columns", "variance"):
            object.__setattr__(self, label, positive(label, getattr(self, label)))

    @property
    def rank(self) -> float:
        """The smaller dimension."""
        return min(self.rows, self.columns)

    @property
    def log_scale(self) -> float:
        """log(variance / columns)."""
        return math.log(self.variance) - math.log(self.columns)

    @property
    def powers(self) -> tuple[float, ...]:
        """Both dimensions."""
        return self.rows, self.columns
