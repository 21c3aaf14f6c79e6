"""Expectations over a pair of correlated Gaussian variables, split where either one bends."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from isometry.domain import Array
from isometry.meanfield.quadrature import graded, on_panels

#: narrower than in one dimension: a mass of 2e-19 is left out
_LIMIT = 9.0
#: points of the inner integral evaluated at once
_CHUNK = 400_000


def pair_expectation(
    integrand: Callable[[Array, Array], Array],
    q1: float,
    q2: float,
    c: float,
    kinks: tuple[float, ...],
    apart: float | None = None,
) -> float:
    """E f(u_1, u_2) for centred Gaussians of variances q_1, q_2 > 0 and correlation c.

    u_1 = √q_1 z and, given it, u_2 = √q_2 (c z + √(1 - c²) y). The inner integral over y is
    split at the kinks of u_2; what it leaves bends on the scale of √(1 - c²) around the same
    kinks, where the outer panels crowd. At |c| = 1 a single integral is left. Where 1 - c is
    known better than c says, `apart` gives it.
    """
    apart = 1.0 - c if apart is None else apart
    s1, s2, r = math.sqrt(q1), math.sqrt(q2), math.sqrt(apart * (1.0 + c))
    outer = _outer_ends(s1, s2, c, r, kinks)
    z, w = on_panels(outer)
    if r == 0.0:
        return float(w @ integrand(s1 * z, c * s2 * z))
    steps = np.concatenate([[0.0], graded(1.0 / (r * s2))])
    offsets = np.unique(np.concatenate([-steps, steps]))
    edges = np.linspace(-_LIMIT, _LIMIT, 13)
    places = np.array(sorted({0.0, *kinks}))
    inner_count = 20 * (edges.size + places.size * offsets.size - 1)
    total = 0.0
    for part in np.array_split(np.arange(z.size), math.ceil(z.size * inner_count / _CHUNK)):
        centres = (places / s2 - c * z[part, None]) / r
        moving = (centres[:, :, None] + offsets).reshape(part.size, -1)
        ends = np.concatenate([np.broadcast_to(edges, (part.size, edges.size)), moving], axis=1)
        y, v = on_panels(np.sort(np.clip(ends, -_LIMIT, _LIMIT), axis=1))
        u1 = np.broadcast_to(s1 * z[part, None], y.shape)
        values = integrand(u1, s2 * (c * z[part, None] + r * y))
        total += float(w[part] @ np.einsum("ij,ij->i", v, values))
    return total


def _outer_ends(s1: float, s2: float, c: float, r: float, kinks: tuple[float, ...]) -> Array:
    ends = [np.linspace(-_LIMIT, _LIMIT, 13)]
    for kink in {0.0, *kinks}:
        ends.append(_around(kink / s1, 1.0 / s1))
        if kink in kinks and c != 0.0:
            ends.append(_around(kink / (c * s2), r / abs(c)))
    every = np.unique(np.concatenate(ends))
    return every[np.abs(every) <= _LIMIT]


def _around(place: float, unit: float) -> Array:
    if unit == 0.0:
        return np.array([place])
    steps = graded(unit)
    return np.concatenate([place - steps, [place], place + steps])
