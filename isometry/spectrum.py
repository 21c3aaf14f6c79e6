"""The singular values of a Jacobian as a measure. No torch beyond this point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isometry.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values σ of J, as weighted points over the r directions that shape allows.

    A direction is *resolved* (σ known, above the floor), *dead* (σ = 0, proven: an activation
    blocks it) or *unresolved* (σ below the floor, where floating point leaves only noise).
    The three masses add up to 1.

    Attributes
    ----------
    singular_values : ndarray, shape (k,), descending
        The resolved σ > 0. Dimensionless: change of output per change of input.
    weights : ndarray, shape (k,)
        Mass of each; 1/r for an exact spectrum of one input.
    floor : float
        Resolution of the method: singular values below it are not known.
    unresolved : float
        Mass of the directions below the floor.
    dead : float
        Mass of the directions with σ = 0.
    method : str
        How the values were obtained.
    """

    singular_values: Array
    weights: Array
    floor: float = 0.0
    unresolved: float = 0.0
    dead: float = 0.0
    method: str = "exact"

    def __post_init__(self) -> None:
        sigma = np.atleast_1d(np.asarray(self.singular_values, dtype=np.float64))
        weights = np.atleast_1d(np.asarray(self.weights, dtype=np.float64))
        if sigma.ndim != 1 or sigma.shape != weights.shape:
            raise InputError(
                f"a spectrum needs as many weights as singular values, got {weights.shape} "
                f"and {sigma.shape}"
            )
        if len(sigma) and not (sigma.min() > 0 and sigma.max() < np.inf and weights.min() >= 0):
            raise InputError("singular values must be positive and finite, weights not negative")
        if self.unresolved < 0 or self.dead < 0:
            raise InputError("the masses of a spectrum must not be negative")
        if not (0 <= self.floor < np.inf) or (self.unresolved > 0 and self.floor == 0):
            raise InputError(
                f"the floor must be finite, and positive where mass lies below it, got {self.floor}"
            )
        mass = weights.sum() + self.unresolved + self.dead
        if not abs(mass - 1) < 1e-6:
            raise InputError(f"the masses of a spectrum must add up to 1, got {mass:.9g}")
        order = np.argsort(-sigma, kind="stable")
        object.__setattr__(self, "singular_values", sigma[order])
        object.__setattr__(self, "weights", weights[order])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Spectrum)
            and np.array_equal(self.singular_values, other.singular_values)
            and np.array_equal(self.weights, other.weights)
            and (self.floor, self.unresolved, self.dead, self.method)
            == (other.floor, other.unresolved, other.dead, other.method)
        )

    @property
    def log_sigma(self) -> Array:
        """Natural logarithm of the resolved singular values."""
        return np.log(self.singular_values)

    @property
    def resolved(self) -> float:
        """Mass of the resolved directions."""
        return float(self.weights.sum())

    @property
    def mean_log(self) -> float:
        """Mean of log σ over the resolved directions; NaN when there is none."""
        if not self.resolved:
            return float("nan")
        return float(np.average(self.log_sigma, weights=self.weights))

    @property
    def std_log(self) -> float:
        """Standard deviation of log σ over the resolved directions; NaN when there is none."""
        if not self.resolved:
            return float("nan")
        centred = self.log_sigma - self.mean_log
        return float(np.sqrt(np.average(centred**2, weights=self.weights)))

    @property
    def root_mean_square(self) -> float:
        """√E[σ²] over all directions: ‖J‖_F / √r."""
        if not len(self.singular_values):
            return 0.0
        largest = self.singular_values[0]  # taken out, since σ² may leave the range of float64
        return float(largest * np.sqrt(self.weights @ (self.singular_values / largest) ** 2))

    @property
    def condition(self) -> float:
        """σ_max / σ_min; infinite where a direction is dead or unresolved."""
        if self.dead or self.unresolved or not len(self.singular_values):
            return float("inf")
        return float(self.singular_values[0]) / float(self.singular_values[-1])

    def cdf(self, sigma: ArrayLike) -> Array:
        """P(σ' <= sigma) over all directions; unresolved ones lie below the floor."""
        ascending = self.singular_values[::-1]
        below = np.concatenate([[0.0], np.cumsum(self.weights[::-1])])
        index = np.searchsorted(ascending, np.asarray(sigma, dtype=np.float64), side="right")
        return np.asarray(below[index] + self.dead + self.unresolved)

    def quantile(self, p: ArrayLike) -> Array:
        """Smallest σ whose CDF reaches p; 0 within the dead and unresolved mass."""
        p = np.asarray(p, dtype=np.float64)
        zeros = self.dead + self.unresolved
        ascending = np.concatenate([[0.0], self.singular_values[::-1]])
        cdf = zeros + np.concatenate([[0.0], np.cumsum(self.weights[::-1])])
        index = np.searchsorted(cdf, p - 1e-12, side="left")
        return np.asarray(ascending[np.minimum(index, len(ascending) - 1)])


def pooled(spectra: Sequence[Spectrum]) -> Spectrum:
    """Merge the spectra of several inputs into one measure, each with the same total mass."""
    if not spectra:
        raise InputError("cannot pool no spectra at all")
    if len(spectra) == 1:
        return spectra[0]
    k = len(spectra)
    return Spectrum(
        singular_values=np.concatenate([s.singular_values for s in spectra]),
        weights=np.concatenate([s.weights for s in spectra]) / k,
        floor=max(s.floor for s in spectra),
        unresolved=sum(s.unresolved for s in spectra) / k,
        dead=sum(s.dead for s in spectra) / k,
        method=spectra[0].method,
    )
