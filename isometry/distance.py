"""How far a measured spectrum is from a law."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import Array
from isometry.errors import InputError
from isometry.laws.law import Law

#: how far the measured masses may add up to something other than 1
_MASS_ERROR = 1e-6


def kolmogorov_smirnov(
    log_sigma: ArrayLike,
    weights: ArrayLike,
    law: Law,
    zero_mass: float = 0.0,
    *,
    floor: float = -np.inf,
    atom_width: float = 1e-9,
) -> float:
    """Kolmogorov–Smirnov distance between a measured spectrum and a law of log σ.

    sup over s >= floor of |F_n(s) - F(s)|, both CDFs unconditional: singular values that
    are zero count, on both sides. Left and right limits are compared, so atoms of either
    side are treated exactly; measured values within `atom_width` of an atom of the law are
    taken to lie on it.

    Parameters
    ----------
    log_sigma : (n,) array
        Natural logarithms of the measured singular values, in any order; -inf counts as zero.
    weights : (n,) array
        Their masses, >= 0; with `zero_mass` they add up to 1.
    law
        The law to compare with.
    zero_mass
        Measured mass at σ = 0.
    floor
        Lowest log σ that can be trusted, for example that of rounding error in an SVD.
        Below it only the total mass is compared, not its place.
    atom_width
        In log σ: how far rounding may have moved a singular value off an atom. Weights that were
        made orthogonal in float32 need 1e-4.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InputError
        When the shapes differ, a value is NaN or +inf, a mass is negative, or the masses do
        not add up to 1.
    """
    s, w = _spectrum(log_sigma, weights, zero_mass)
    if np.isnan(floor) or floor == np.inf:
        raise InputError(f"floor is {floor}; expected a real number or -inf")
    places, masses = np.array(law.log_atoms, dtype=float).reshape(-1, 2).T
    if places.size:  # of atoms closer to each other than that, the nearest
        sorted_places = np.sort(places)
        nearest = sorted_places[np.searchsorted((sorted_places[1:] + sorted_places[:-1]) / 2, s)]
        s = np.where(np.abs(s - nearest) <= atom_width, nearest, s)
    order = np.argsort(s)
    s, reached = s[order], float(zero_mass) + np.cumsum(w[order])

    # between two of these both CDFs are continuous, one constant and one monotone
    at = np.unique(np.concatenate([[floor], s[s > floor], places[places > floor]]))
    jump = np.zeros(at.shape)
    for place, mass in zip(places, masses, strict=True):
        jump[at == place] = mass
    theory = law.cdf(at)
    # read the right limit of an atom just above it
    theory[jump > 0] = law.cdf(at[jump > 0] + 1e-9)
    padded = np.concatenate([[float(zero_mass)], reached])
    right = np.abs(padded[np.searchsorted(s, at, side="right")] - theory)
    left = np.abs(padded[np.searchsorted(s, at, side="left")] - (theory - jump))
    return float(min(1.0, max(right.max(), left[1:].max(initial=0.0))))


def _spectrum(log_sigma: ArrayLike, weights: ArrayLike, zero_mass: float) -> tuple[Array, Array]:
    """The measured points and masses as arrays, checked."""
    s, w = np.asarray(log_sigma, dtype=float), np.asarray(weights, dtype=float)
    if s.ndim != 1 or s.shape != w.shape:
        raise InputError(
            f"log_sigma has shape {s.shape} and weights {w.shape}; expected the same (n,) twice"
        )
    if np.any(np.isnan(s) | (s == np.inf)):
        raise InputError("log_sigma holds NaN or +inf; expected numbers, or -inf for σ = 0")
    total = float(zero_mass) + float(w.sum())
    if not (zero_mass >= 0 and np.all(w >= 0) and abs(total - 1.0) <= _MASS_ERROR):
        raise InputError(
            f"weights and zero_mass add up to {total:.9g}; expected masses >= 0 adding up to 1: "
            "divide them by their total"
        )
    return s, w
