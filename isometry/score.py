"""How isometric a spectrum is, in one number and a few that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isometry.spectrum import Array, Spectrum, exp

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Score:
    """Isometry of a spectrum over its r = min(n_in, n_out) directions.

    Attributes
    ----------
    value : float
        I = E[2 / (σ² + σ⁻²)] = E[sech(2 log σ)], zeros contributing 0. In [0, 1]; 1 only for
        an isometry; the same for J and for its inverse.
    dead : float
        Fraction of directions blocked by activations (σ = 0).
    drift : float
        E[log σ] over the resolved directions; 0 is ideal, negative vanishes.
    spread : float
        Standard deviation of log σ over the resolved directions; 0 is ideal.
    gain : float
        √E[σ²] = ‖J‖_F / √r over all directions. For square J it is the factor by which the
        norm of a random perturbation grows, in root mean square.
    condition : float
        σ_max / σ_min, infinite where a direction is dead or unresolved.
    quantiles : tuple of (float, float)
        (p, σ_p) for p in `QUANTILES`, over all directions.
    per_input : tuple of float
        The score of each input measured.
    log_gain, log_condition : float
        Natural logarithms: in a deep network `gain` and `condition` may round to 0 or ∞.
    log_quantiles : tuple of (float, float)
        (p, log σ_p); -∞ within the dead and unresolved mass.
    """

    value: float
    dead: float
    drift: float
    spread: float
    gain: float
    condition: float
    quantiles: tuple[tuple[float, float], ...]
    per_input: tuple[float, ...]
    log_gain: float
    log_condition: float
    log_quantiles: tuple[tuple[float, float], ...]

    @property
    def spread_between_inputs(self) -> float:
        """Standard deviation of the score over the inputs (n − 1); NaN for a single one."""
        if len(self.per_input) < 2:
            return float("nan")
        return float(np.std(self.per_input, ddof=1))


def isometry_score(spectrum: Spectrum) -> float:
    """Return I = E[sech(2 log σ)] of a spectrum; dead and unresolved directions contribute 0."""
    return float(np.sum(spectrum.weights * sech(spectrum.log_sigma)))


def sech(log_sigma: Array) -> Array:
    """2 / (σ² + σ⁻²) = sech(2 log σ), the share of one direction in the score; 0 at log σ = -∞."""
    # In a form that neither overflows nor underflows: 2e^{-a}/(1+e^{-2a}), a = 2|log σ|.
    decay = np.exp(-2 * np.abs(log_sigma))
    return np.asarray(2 * decay / (1 + decay**2))


def score(pooled: Spectrum, per_input: Sequence[Spectrum]) -> Score:
    """Score the pooled spectrum of one or several inputs."""
    log_quantiles = pooled.quantile(QUANTILES)
    return Score(
        value=isometry_score(pooled),
        dead=pooled.dead,
        drift=pooled.mean_log,
        spread=pooled.std_log,
        gain=pooled.root_mean_square,
        condition=pooled.condition,
        quantiles=tuple(zip(QUANTILES, map(float, exp(log_quantiles)), strict=True)),
        per_input=tuple(isometry_score(s) for s in per_input),
        log_gain=pooled.log_root_mean_square,
        log_condition=pooled.log_condition,
        log_quantiles=tuple(zip(QUANTILES, map(float, log_quantiles), strict=True)),
    )
