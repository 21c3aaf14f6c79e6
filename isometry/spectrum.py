"""The singular values of a Jacobian as a measure. No torch beyond this point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isometry.errors import InputError

Array = NDArray[np.float64]

_LARGEST_LOG = 1e12  # beyond, float64 cannot tell the bins of a histogram apart


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values σ of J, as weighted points over the r directions that shape allows.

    A direction is *resolved* (σ known, above the floor), *dead* (σ = 0, proven: an activation
    blocks it) or *unresolved* (σ below the floor, where floating point leaves only noise).
    The three masses add up to 1.

    The logarithms are what is kept: σ of a deep network may leave the range of float64.

    Attributes
    ----------
    log_sigma : ndarray, shape (k,), descending
        Natural logarithm of the resolved σ > 0.
    weights : ndarray, shape (k,)
        Mass of each; 1/r for an exact spectrum of one input.
    log_floor : float
        Resolution of the method: singular values below it are not known; -∞ where there is no
        such bound.
    unresolved : float
        Mass of the directions below the floor; without a floor, of those whose σ is lost.
    dead : float
        Mass of the directions with σ = 0.
    method : str
        How the values were obtained.
    """

    log_sigma: Array
    weights: Array
    log_floor: float = -math.inf
    unresolved: float = 0.0
    dead: float = 0.0
    method: str = "exact"

    def __post_init__(self) -> None:
        logs = np.atleast_1d(np.asarray(self.log_sigma, dtype=np.float64))
        weights = np.atleast_1d(np.asarray(self.weights, dtype=np.float64))
        if logs.ndim != 1 or logs.shape != weights.shape:
            raise InputError(
                f"a spectrum needs as many weights as singular values, got {weights.shape} "
                f"and {logs.shape}"
            )
        if len(logs) and not (np.abs(logs).max() <= _LARGEST_LOG and weights.min() >= 0):
            raise InputError(
                "singular values must be positive and finite, with logarithms within "
                f"±{_LARGEST_LOG:g}, and weights not negative"
            )
        if self.unresolved < 0 or self.dead < 0:
            raise InputError("the masses of a spectrum must not be negative")
        if self.log_floor != -math.inf and not abs(self.log_floor) <= _LARGEST_LOG:
            raise InputError(f"the floor must be finite, got a logarithm of {self.log_floor}")
        mass = weights.sum() + self.unresolved + self.dead
        if not abs(mass - 1) < 1e-6:
            raise InputError(f"the masses of a spectrum must add up to 1, got {mass:.9g}")
        order = np.argsort(-logs, kind="stable")
        for name, array in (("log_sigma", logs[order]), ("weights", weights[order])):
            array.flags.writeable = False  # a frozen record's numbers are frozen too
            object.__setattr__(self, name, array)

    @classmethod
    def of(
        cls,
        singular_values: ArrayLike,
        weights: ArrayLike,
        *,
        floor: float = 0.0,
        unresolved: float = 0.0,
        dead: float = 0.0,
        method: str = "exact",
    ) -> Spectrum:
        """Make a spectrum from σ > 0 themselves, in any order, and the floor as a σ.

        Examples
        --------
        >>> Spectrum.of([1.0, 4.0], [0.25, 0.75]).log_sigma.round(6).tolist()
        [1.386294, 0.0]
        """
        with np.errstate(divide="ignore", invalid="ignore"):  # to what is refused by name
            logs, log_floor = np.log(np.asarray(singular_values, dtype=float)), np.log(floor)
        return cls(logs, np.asarray(weights), float(log_floor), unresolved, dead, method)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Spectrum)
            and np.array_equal(self.log_sigma, other.log_sigma)
            and np.array_equal(self.weights, other.weights)
            and (self.log_floor, self.unresolved, self.dead, self.method)
            == (other.log_floor, other.unresolved, other.dead, other.method)
        )

    def __hash__(self) -> int:
        values = (tuple(self.log_sigma.tolist()), tuple(self.weights.tolist()))
        return hash((*values, self.log_floor, self.unresolved, self.dead, self.method))

    @property
    def singular_values(self) -> Array:
        """The resolved σ, descending; 0 or ∞ where float64 cannot hold them."""
        return exp(self.log_sigma)

    @property
    def floor(self) -> float:
        """Resolution of the method as a σ; 0 for none."""
        return float(exp(self.log_floor))

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
    def log_root_mean_square(self) -> float:
        """Logarithm of √E[σ²] over all directions: of ‖J‖_F / √r; -∞ when none is resolved."""
        if not self.resolved:
            return -math.inf
        seen = self.weights > 0
        logs, weights = self.log_sigma[seen], self.weights[seen]
        largest = float(logs[0])  # taken out, since σ² may leave the range of float64
        return largest + 0.5 * math.log(weights @ np.exp(2 * (logs - largest)))

    @property
    def root_mean_square(self) -> float:
        """√E[σ²] over all directions; 0 or ∞ where float64 cannot hold it."""
        return float(exp(self.log_root_mean_square))

    @property
    def log_condition(self) -> float:
        """log(σ_max / σ_min); infinite where a direction is dead or unresolved."""
        if self.dead or self.unresolved or not len(self.log_sigma):
            return math.inf
        return float(self.log_sigma[0] - self.log_sigma[-1])

    @property
    def condition(self) -> float:
        """σ_max / σ_min; infinite where a direction is dead or unresolved, or beyond float64."""
        return float(exp(self.log_condition))

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """P(log σ <= log_sigma) over all directions; unresolved ones lie below everything."""
        ascending = self.log_sigma[::-1]
        below = np.concatenate([[0.0], np.cumsum(self.weights[::-1])])
        index = np.searchsorted(ascending, np.asarray(log_sigma, dtype=np.float64), side="right")
        return np.asarray(below[index] + self.dead + self.unresolved)

    def quantile(self, p: ArrayLike) -> Array:
        """Smallest log σ whose CDF reaches p; -∞ within the dead and unresolved mass."""
        p = np.asarray(p, dtype=np.float64)
        zeros = self.dead + self.unresolved
        ascending = np.concatenate([[-np.inf], self.log_sigma[::-1]])
        cdf = zeros + np.concatenate([[0.0], np.cumsum(self.weights[::-1])])
        index = np.searchsorted(cdf, p - 1e-12, side="left")
        return np.asarray(ascending[np.minimum(index, len(ascending) - 1)])


def exp(logarithm: ArrayLike) -> Array:
    """Return e^logarithm, which silently becomes 0 or ∞ where float64 cannot hold it."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.exp(logarithm))


def pooled(spectra: Sequence[Spectrum]) -> Spectrum:
    """Merge the spectra of several inputs into one measure, each with the same total mass."""
    if not spectra:
        raise InputError("cannot pool no spectra at all")
    if len(spectra) == 1:
        return spectra[0]
    k = len(spectra)
    return Spectrum(
        log_sigma=np.concatenate([s.log_sigma for s in spectra]),
        weights=np.concatenate([s.weights for s in spectra]) / k,
        log_floor=max(s.log_floor for s in spectra),
        unresolved=sum(s.unresolved for s in spectra) / k,
        dead=sum(s.dead for s in spectra) / k,
        method=" and ".join(dict.fromkeys(s.method for s in spectra)),
    )
