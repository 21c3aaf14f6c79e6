"""A measured spectrum beside a prediction: by how much they differ, number by number."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from isometry.report import Difference, Prediction
from isometry.score import isometry_score
from isometry.spectrum import Spectrum
from isometry.theory.ensemble import ORTHOGONAL

Array = NDArray[np.float64]

# Largest differences of 87 fresh chains of 64 to 256 units and 2 to 20 layers, in units of what the
# Kolmogorov–Smirnov distance is allowed, times the law's standard deviation of log σ but for the
# score; rounded up. The edge of a spectrum is off by order n^(−2/3), not 1/n.
_OF_PARTS = {"wasserstein": 1.1, "drift": 1.8, "spread": 3.1, "edge": 2.0, "score": 0.35}
_OF_LIMIT = {"wasserstein": 4.0, "drift": 4.0, "spread": 6.0, "edge": 2.0, "score": 0.7}


def differences(
    spectrum: Spectrum, law: Prediction, allowed: float, *, limit: bool
) -> tuple[Difference, ...]:
    r"""Compare a spectrum with a prediction beyond their Kolmogorov–Smirnov distance.

    *wasserstein* is W₁ = ∫ |F(s) − G(s)| ds over s = log σ, G with as much at σ = 0 as F has, since
    that is infinitely far; the rest are measured minus predicted:
    *drift* and *spread*, mean and standard deviation of log σ given σ > 0; *edge*, the largest
    log σ; *score*, E sech(2 log σ). Where rounding hides directions, only edge and score are told.

    Parameters
    ----------
    spectrum : Spectrum
    law : Prediction
    allowed : float
        Kolmogorov–Smirnov distance that is chance.
    limit : bool
        Whether the law is that of infinite width, or else of the network's own parts.
    """
    highest = max([*law.grid[-1:], *(place for place, _ in _atoms(law))], default=-math.inf)
    if not len(spectrum.log_sigma) or highest == -math.inf:
        return ()
    found = {
        "edge": float(spectrum.log_sigma.max()) - highest,
        "score": isometry_score(spectrum) - law.score,
    }
    if not spectrum.unresolved:
        found |= {
            "wasserstein": _wasserstein(spectrum, law),
            "drift": spectrum.mean_log - law.mean_log_sigma,
            "spread": spectrum.std_log - law.std_log_sigma,
        }
    ratios = _OF_LIMIT if limit else _OF_PARTS
    return tuple(
        Difference(name, value, ratios[name] * _unit(name, law, allowed, limit))
        for name, value in found.items()
    )


def _unit(name: str, law: Prediction, allowed: float, limit: bool) -> float:
    if name == "score":
        return allowed
    power = 2 / 3 if name == "edge" and not limit else 1
    return max(allowed**power * law.std_log_sigma, ORTHOGONAL)


def _atoms(law: Prediction) -> list[tuple[float, float]]:
    """Atoms of the law at σ > 0, as (log σ, mass)."""
    return [(math.log(sigma), mass) for sigma, mass in law.atoms if sigma > 0]


def _wasserstein(spectrum: Spectrum, law: Prediction) -> float:
    order = np.argsort(spectrum.log_sigma)
    places = spectrum.log_sigma[order]
    reached = spectrum.dead + np.concatenate([[0], np.cumsum(spectrum.weights[order])])
    atoms = _atoms(law)
    points = np.unique(np.concatenate([law.grid, places, [place for place, _ in atoms]]))
    between = (points[1:] + points[:-1]) / 2
    zero = sum(mass for sigma, mass in law.atoms if sigma == 0)
    alive = (_cdf(law, atoms, between) - zero) / (1 - zero)
    gap = reached[np.searchsorted(places, between)] - (alive + spectrum.dead * (1 - alive))
    return float(np.sum(np.abs(gap) * np.diff(points)))


def _cdf(law: Prediction, atoms: list[tuple[float, float]], at: Array) -> Array:
    """Return the CDF between the points of its grid; atoms jump, the rest is interpolated."""

    places, masses = np.array(atoms, dtype=float).reshape(-1, 2).T

    def jumps(s: Array) -> Array:
        return np.asarray((s[:, None] > places) @ masses)

    zero = sum(mass for sigma, mass in law.atoms if sigma == 0)
    if not law.grid:
        return zero + jumps(at)
    grid = np.array(law.grid)
    rest = np.array(law.cdf) - jumps(grid)
    continuous = np.interp(at, grid, rest, left=zero, right=1 - masses.sum())
    return np.asarray(continuous + jumps(at))
