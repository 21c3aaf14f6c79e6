"""Confidence intervals of all that a report says of an estimated spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from isometry.measure.quadrature import Quadrature
from isometry.report import percent
from isometry.score import isometry_score, sech
from isometry.spectrum import Spectrum
from isometry.uncertainty import Range, Uncertainty

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_CONFIDENCE = 0.95
_POINTS = 100  # of the band around the CDF


def uncertainty(parts: Sequence[Quadrature], spectrum: Spectrum) -> Uncertainty:
    """Say how sure the spectrum of one input is, or the pooled one of several.

    Errors of functions of the spectrum are those of its probes, to first order; those of several
    inputs are independent. What the steps left open widens the interval of the score. The band
    around the CDF is about the mass of the nodes spread out, and holds the steps at the nodes too.

    Parameters
    ----------
    parts : sequence of Quadrature
        One for each input.
    spectrum : Spectrum
        Of all of them.
    """
    probes = _Probes(parts, spectrum.log_floor)
    runs = [r for q in parts for r in q.runs]
    low, high = probes.ends
    grid = np.linspace(low, high, _POINTS)
    cdf = np.minimum(spectrum.cdf(grid), 1.0)  # sums of weights may end above
    band = np.array([probes.band(at) for at in grid])
    return Uncertainty(
        confidence=_CONFIDENCE,
        probes=sum(r.probes for r in parts[0].runs),
        steps=max(r.steps for r in runs),
        products=sum(r.products for r in runs),
        score=_score(probes, spectrum, max(r.change for r in runs)),
        drift=_drift(probes, spectrum),
        spread=_spread(probes, spectrum),
        gain=_gain(probes, spectrum),
        largest=_largest(parts),
        resolution=_resolution(spectrum, all(r.settled for r in runs)),
        grid=tuple(map(float, grid)),
        cdf_low=tuple(map(float, np.maximum(cdf + band[:, 0], 0.0))),
        cdf_high=tuple(map(float, np.minimum(cdf + band[:, 1], 1.0))),
        complete=not any(q.stopped for q in parts),
    )


@dataclass(frozen=True)
class _Probes:
    """What the probes of all inputs left open."""

    parts: Sequence[Quadrature]
    floor: float

    def half_width(self, function: Function) -> float:
        """Of the confidence interval of E f(log σ), f being zero at and below the floor."""
        values = []
        for q in self.parts:
            seen = self._resolved(q)
            values.append(np.zeros(len(seen)))
            values[-1][seen] = function(np.log(q.measure.nodes[seen]))
        return self._half_width(values)

    def band(self, at: float) -> tuple[float, float]:
        """How far the interval of the CDF at log σ reaches below and above its step function."""
        sigma = math.exp(at)
        smooth = [self._resolved(q) * q.measure.above(sigma) for q in self.parts]
        gaps = [
            self._share(q)
            * (q.measure.weights @ (self._resolved(q) * (q.measure.nodes > sigma) - s))
            for q, s in zip(self.parts, smooth, strict=True)
        ]
        gap, width = float(np.mean(gaps)), self._half_width(smooth)
        return min(gap - width, 0.0), max(gap + width, 0.0)

    def _half_width(self, values: Sequence[Array]) -> float:
        errors = [
            self._share(q) * q.measure.mean(v).error
            for q, v in zip(self.parts, values, strict=True)
        ]
        return float(ndtri(0.5 + _CONFIDENCE / 2)) * math.hypot(*errors) / len(self.parts)

    def _resolved(self, q: Quadrature) -> NDArray[np.bool_]:
        return np.asarray(q.measure.nodes > math.exp(self.floor))

    def _share(self, q: Quadrature) -> float:
        return q.measure.directions / q.directions

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest log σ above the floor."""
        nodes = np.concatenate([q.spectrum.log_sigma for q in self.parts])
        return float(nodes.min()), float(nodes.max())


def _around(value: float, half_width: float, least: float = -math.inf) -> Range:
    return Range(max(value - half_width, least), value + half_width)


def _score(probes: _Probes, spectrum: Spectrum, change: float) -> Range:
    """From the probes and the steps, and up to what the unresolved directions could add."""
    value, error = isometry_score(spectrum), probes.half_width(sech) + change
    hidden = spectrum.unresolved * float(sech(np.array(min(spectrum.log_floor, 0.0))))
    return Range(max(value - error, 0.0), min(value + error + hidden, 1.0))


def _drift(probes: _Probes, spectrum: Spectrum) -> Range:
    mean = spectrum.mean_log
    return _around(mean, probes.half_width(lambda s: (s - mean) / spectrum.resolved))


def _spread(probes: _Probes, spectrum: Spectrum) -> Range:
    mean, std = spectrum.mean_log, spectrum.std_log
    if std == 0:
        return Range(0.0, 0.0)
    share = 1 / (2 * std * spectrum.resolved)
    width = probes.half_width(lambda s: share * ((s - mean) ** 2 - std**2))
    return _around(std, width, least=0.0)


def _gain(probes: _Probes, spectrum: Spectrum) -> Range:
    gain = spectrum.root_mean_square
    # σ/g is squared, since σ² may leave the range of float64.
    width = gain / 2 * probes.half_width(lambda s: np.exp(2 * (s - math.log(gain))))
    hidden = math.hypot(gain, math.sqrt(spectrum.unresolved) * spectrum.floor) - gain
    return Range(max(gain - width, 0.0), gain + width + hidden)


def _largest(parts: Sequence[Quadrature]) -> Range:
    """Ritz values never exceed σ_max, and miss the value they stand for by their residual."""
    found = [(r.ritz.values[0], r.ritz.residuals[0]) for q in parts for r in q.runs]
    value, residual = max(found)
    return Range(float(value), float(value + residual))


def _resolution(spectrum: Spectrum, settled: bool) -> str:
    if settled or not spectrum.unresolved:
        return (
            f"every singular value in which the probes have a share, down to {spectrum.floor:.2g}"
        )
    return (
        f"singular values above {spectrum.floor:.2g}; {percent(spectrum.unresolved)} of the "
        "directions lie below, which more steps would resolve and more probes would not"
    )
