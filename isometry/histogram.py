"""Bins for log σ that neither hide a spread nor invent one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isometry.spectrum import Spectrum

Array = NDArray[np.float64]

# Singular values that agree to a percent are one spike at every scale that matters here;
# bins fitted to their rounding errors would draw them as a broad law.
_NARROWEST_BIN = 0.01
_FEWEST, _MOST = 12, 60


def bin_edges(spectrum: Spectrum, bins: int | None = None) -> Array:
    """Return equal-width edges in log σ that cover the resolved singular values.

    Parameters
    ----------
    spectrum : Spectrum
    bins : int, optional
        Their number; by default from the interquartile range (Freedman–Diaconis).
    """
    x = spectrum.log_sigma
    if not len(x):
        return np.array([-0.5, 0.5])
    lo, hi = float(x.min()), float(x.max())
    if bins is None:
        quartiles = np.subtract(*np.percentile(x, [75, 25]))
        width = 2 * quartiles / len(x) ** (1 / 3)
        wanted = (hi - lo) / width if width > 0 else 0
        bins = int(np.clip(np.ceil(wanted), _FEWEST, _MOST))
    missing = bins * _NARROWEST_BIN - (hi - lo)
    if missing > 0:
        bins |= 1  # an odd number, so that a spike has a bin of its own in the middle
        missing = bins * _NARROWEST_BIN - (hi - lo)
        lo, hi = lo - missing / 2, hi + missing / 2
    return np.linspace(lo, hi, bins + 1)


def heights(spectrum: Spectrum, edges: Array) -> Array:
    """Return mass per unit of log σ in each bin; dead and unresolved mass is in none."""
    # Values on the outer edges belong inside, also after rounding.
    x = np.clip(spectrum.log_sigma, edges[0], edges[-1])
    mass, _ = np.histogram(x, bins=edges, weights=spectrum.weights)
    return np.asarray(mass / np.diff(edges))
