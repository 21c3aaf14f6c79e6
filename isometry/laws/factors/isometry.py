"""Orthogonal weights, semi-orthogonal weights and 0/1 masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isometry.domain import positive
from isometry.laws.factors.factor import Eigenspace, Factor, fits


@dataclass(frozen=True)
class Isometry(Factor):
    """`rank` singular values equal to `scale`, the others zero: χ = scale² (rank + t) / t.

    A square one of full rank is orthogonal, a rectangular one of full rank semi-orthogonal; a
    square one of lower rank is a projection, such as a mask of zeros and ones (`mask`).

    Parameters
    ----------
    rows, columns
        Outputs and inputs; only ratios count.
    rank
        At most the smaller dimension, which it is when left out.
    scale
        σ > 0.

    Raises
    ------
    TheoryError
        When one of them is not positive, or the rank is too large.
    """

    rows: float
    columns: float
    rank: float = math.nan  # a field here, a property of other factors
    scale: float = 1.0

    def __post_init__(self) -> None:
        for label in ("rows", "columns", "scale"):
            object.__setattr__(self, label, positive(label, getattr(self, label)))
        full = min(self.rows, self.columns)
        left_out = isinstance(self.rank, float) and math.isnan(self.rank)
        object.__setattr__(self, "rank", full if left_out else fits("rank", self.rank, full))

    @classmethod
    def mask(cls, size: float, kept: float, scale: float = 1.0) -> Isometry:
        """A diagonal of zeros and, for the fraction `kept` of the coordinates, `scale`."""
        size = positive("size", size)
        return cls(size, size, size * fits("kept", kept, 1.0), scale)

    @property
    def log_scale(self) -> float:
        """2 log(scale)."""
        return 2.0 * math.log(self.scale)

    @property
    def powers(self) -> tuple[float, ...]:
        """The rank."""
        return (self.rank,)

    @property
    def eigenspaces(self) -> tuple[Eigenspace, ...]:
        """All of it."""
        return (Eigenspace(self.log_scale, self.rank, 0),)
