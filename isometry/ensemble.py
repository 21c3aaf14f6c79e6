"""Spectra beside each other: of several inputs, or of several initialisations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from isometry.errors import InputError
from isometry.score import isometry_score
from isometry.spectrum import Spectrum


@dataclass(frozen=True)
class Statistic:
    """One number of every spectrum, and how these scatter."""

    each: tuple[float, ...]
    mean: float
    deviation: float  # standard deviation, over n − 1

    def __post_init__(self) -> None:
        if len(self.each) < 2:
            raise InputError(f"a scatter is that of two numbers or more, got {len(self.each)}")


@dataclass(frozen=True)
class Ensemble:
    """Two spectra or more, one by one.

    Attributes
    ----------
    score, drift, spread : Statistic
        As `Score` has them of a single spectrum.
    spectra : tuple of Spectrum
    """

    score: Statistic
    drift: Statistic
    spread: Statistic
    spectra: tuple[Spectrum, ...]


def ensemble(spectra: Sequence[Spectrum]) -> Ensemble | None:
    """Compare spectra; None for a single one, which has nothing to be compared with."""
    if len(spectra) < 2:
        return None
    return Ensemble(
        score=_statistic(map(isometry_score, spectra)),
        drift=_statistic(s.mean_log for s in spectra),
        spread=_statistic(s.std_log for s in spectra),
        spectra=tuple(spectra),
    )


def _statistic(values: Iterable[float]) -> Statistic:
    each = tuple(values)
    return Statistic(each, float(np.mean(each)), float(np.std(each, ddof=1)))
