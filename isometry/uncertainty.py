"""How sure an estimate is: what a report says beside every number that probes gave."""

from __future__ import annotations

from dataclasses import dataclass

from isometry.errors import InputError


@dataclass(frozen=True)
class Range:
    """A confidence interval."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise InputError(f"an interval must not end before it begins: {self.low}, {self.high}")


@dataclass(frozen=True)
class Uncertainty:
    """Intervals of an estimated spectrum; none are needed where it is exact.

    Attributes
    ----------
    confidence : float
        Nominal coverage of every interval.
    probes : int
        Random directions, at each input.
    steps : int
        Of the longest Krylov run: so many products with J and with Jᵀ by each block of probes.
    products : int
        Vectors multiplied by J or Jᵀ in all.
    score : Range
        From what the probes leave open, with what the steps left open, and up to what the
        unresolved directions could add.
    drift, spread : Range
        Of mean and standard deviation of log σ over the resolved directions.
    gain : Range
    largest : Range
        The largest σ: no less than the estimate, no more than its residual above.
    resolution : str
        What the method could not see.
    grid : tuple of float
        log σ, natural.
    cdf_low, cdf_high : tuple of float
        Pointwise band around the CDF on the grid.
    complete : bool
        False where the measurement was interrupted, and this is what it had by then.
    """

    confidence: float
    probes: int
    steps: int
    products: int
    score: Range
    drift: Range
    spread: Range
    gain: Range
    largest: Range
    resolution: str
    grid: tuple[float, ...]
    cdf_low: tuple[float, ...]
    cdf_high: tuple[float, ...]
    complete: bool
