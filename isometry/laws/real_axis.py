"""The moment transform of a free product at many points of the positive real axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from isometry.domain import Array
from isometry.laws import polar
from isometry.laws.share import Numbers
from isometry.laws.transform import Transform

#: of points that are followed round the circle, among neighbours; a power of 2
_STRIDE = 8
#: how far apart neighbours may be for a cubic between them to be tried, and how close to it
#: a solution has to be
_APART = 2.0
_CLOSE = 0.03
_MAX_NEWTON = 6


def solve(transform: Transform, log_abs_z: Array) -> Numbers:
    """The state at z = exp(log_abs_z) from above, all points together.

    Every eighth point is followed round its circle (`polar.solve`). Between points that are
    solved the state is nearly a cubic in log z, whose slopes at the ends are known: Newton's
    method starts there, and where it ends elsewhere or not at all the point is followed like the
    others.

    Parameters
    ----------
    transform
        The product of free factors.
    log_abs_z : (n,) array
        Finite logarithms of z.

    Returns
    -------
    (1 + h, n) array

    Raises
    ------
    TheoryError
        When some point does not satisfy its equation to rounding error.
    """
    at, places = np.unique(log_abs_z, return_inverse=True)
    if at.size <= 2 * _STRIDE:
        return polar.solve(transform, log_abs_z)
    known = np.append(np.arange(0, at.size - 1, _STRIDE), at.size - 1)
    state = np.empty((len(transform.strips), at.size), dtype=complex)
    state[:, known] = polar.solve(transform, at[known])
    for stride in (_STRIDE >> k for k in range(1, _STRIDE.bit_length())):
        new = np.setdiff1d(np.arange(0, at.size, stride), known)
        guess, usable = _cubics(transform, at[known], state[:, known], at[new])
        found, solved = _polished(transform, at[new[usable]], guess[:, usable])
        state[:, new[usable]] = found
        usable[usable] = solved
        state[:, new[~usable]] = polar.solve(transform, at[new[~usable]])
        known = np.union1d(known, new)
    return state[:, places]


def _cubics(
    transform: Transform, known: Array, state: Numbers, at: Array
) -> tuple[Numbers, NDArray[np.bool_]]:
    """States between known ones; and where these are close enough to each other."""
    slope = polar.tangent(transform, state, 1.0)
    apart = np.max(np.abs(np.diff(state, axis=1)), axis=0)
    usable = apart[np.searchsorted(known, at) - 1] < _APART
    return CubicHermiteSpline(known, state, slope, axis=1)(at), usable


def _polished(
    transform: Transform, log_abs_z: Array, guess: Numbers
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Newton's method on the real axis; and which points are solved close to their guess."""
    target = log_abs_z + 1j * (polar.REAL_AXIS - np.pi)
    found, solved = polar.newton(transform, target, guess, _MAX_NEWTON)
    return found, solved & (np.max(np.abs(found - guess), axis=0) <= _CLOSE)
