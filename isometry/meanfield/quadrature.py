"""Expectations over a standard Gaussian variable, split where the integrand is not smooth."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from isometry.domain import Array

#: beyond 12 standard deviations lies a mass of 4e-33
LIMIT = 12.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_ROOT_2PI = math.sqrt(2.0 * math.pi)
#: z - zero = length u^_CROWDING on the panels beside a zero: 20 nodes then integrate u⁵ log u
_CROWDING = 6
_APART = 0.3  # of the shorter panel at an end: an end so close to a zero gives way


def gaussian_density(z: Array) -> Array:
    """exp(-z²/2) / √(2π)."""
    return np.asarray(np.exp(-0.5 * z * z) / _ROOT_2PI)


def on_panels(ends: Array) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights times the Gaussian density on the panels between `ends`.

    `ends` (..., m) is increasing along its last axis; the results are (..., 20 (m - 1)).
    An empty panel has nodes of weight zero.
    """
    half = 0.5 * np.diff(ends, axis=-1)[..., None]
    middle = 0.5 * (ends[..., 1:] + ends[..., :-1])[..., None]
    z = (middle + half * _NODES).reshape(*ends.shape[:-1], -1)
    w = (half * _WEIGHTS).reshape(z.shape)
    return z, w * gaussian_density(z)


def graded(unit: float) -> Array:
    """Distances 1, 2, 4, ... units at which panels end around a place where φ bends.

    φ bends on the scale of 1 in h, which is `unit` = 1/√q in z. Panels that double in
    length away from such a place resolve it at any q; a unit of 1 or more needs none.
    """
    levels = max(0, math.ceil(-math.log2(unit))) if unit < 1.0 else 0
    return np.asarray(unit * np.exp2(np.arange(levels)))


@lru_cache(maxsize=64)
def gaussian_rule(
    scale: float,
    kinks: tuple[float, ...] = (),
    panels: tuple[float, ...] | None = None,
    limit: float = LIMIT,
    panels_per_unit: int = 1,
    more: tuple[float, ...] = (),
) -> tuple[Array, Array]:
    """Nodes z and weights w with Σ w f(scale z) = E f(scale z), z ~ N(0, 1).

    Panels of 20 Gauss–Legendre nodes, at most 1/`panels_per_unit` long, end at every
    `kinks` / scale and crowd around 0 and the kinks where `scale` is large: about 1e-15
    for a function that is analytic between its kinks and bends on the scale of 1. For
    another, `panels` / scale are ends too and nothing crowds. `more` are ends in z.
    """
    return on_panels(_ends(scale, kinks, panels, limit, panels_per_unit, more))


def _ends(
    scale: float,
    kinks: tuple[float, ...],
    panels: tuple[float, ...] | None,
    limit: float,
    panels_per_unit: int = 1,
    more: tuple[float, ...] = (),
) -> Array:
    count = round(2 * limit * panels_per_unit)
    ends = [np.linspace(-limit, limit, count + 1), np.array(more)]
    if panels is not None:
        ends.append(np.array(panels) / scale)
    elif scale > 0.0:
        steps = graded(1.0 / scale)
        for kink in {0.0, *kinks}:
            ends += [kink / scale + steps, kink / scale - steps, np.array([kink / scale])]
    every = np.unique(np.concatenate(ends))
    every = every[np.abs(every) <= limit]
    if panels_per_unit > 1:  # halve the graded panels too, or a check would compare like with like
        every = np.unique(np.concatenate([every, 0.5 * (every[1:] + every[:-1])]))
    return every


def crowded_rule(
    scale: float,
    kinks: tuple[float, ...],
    panels: tuple[float, ...] | None,
    limit: float,
    zeros: Array,
    more: tuple[float, ...] = (),
) -> tuple[Array, Array]:
    """As `gaussian_rule`, for functions with a logarithm of what vanishes at `zeros` / scale."""
    ends, places = _ends(scale, kinks, panels, limit, more=more), zeros / scale
    places = places[np.abs(places) < limit - _APART]
    if not len(places):
        return on_panels(ends)
    length = np.diff(ends, prepend=-np.inf, append=np.inf)  # of the panels at each end
    length = np.minimum(length[:-1], length[1:])
    near = np.abs(ends[:, None] - places).min(axis=1) < _APART * length
    fixed = np.isin(ends, np.array([-limit, limit, *(kink / scale for kink in kinks)]))
    between = 0.5 * (places[1:] + places[:-1])  # a panel has a zero at one end at most
    ends = np.unique(np.concatenate([ends[fixed | ~near], places, between]))
    z, w = on_panels(ends)
    u = 0.5 * (1.0 + _NODES)
    for zero in places:
        for side in (-1, 0):  # the panel that ends at the zero, and the one that begins there
            panel = int(np.searchsorted(ends, zero)) + side
            length = ends[panel + 1] - ends[panel]
            at = zero + (1 if side == 0 else -1) * length * u**_CROWDING
            inner = slice(20 * panel, 20 * panel + 20)
            share = 0.5 * _WEIGHTS * _CROWDING * u ** (_CROWDING - 1) * length
            z[inner], w[inner] = at, share * gaussian_density(at)
    return z, w
