"""The Hermite expansion of an activation, in which the correlation of a pair is a power series."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from isometry.domain import Array
from isometry.meanfield.activation import Activation
from isometry.meanfield.quadrature import gaussian_rule

#: number of coefficients; c^256 is below 1e-15 for |c| < 0.87 whatever the activation
ORDER = 256


@lru_cache(maxsize=64)
def coefficients(act: Activation, q: float) -> Array:
    """a_k = E φ(√q z) h_k(z), k = 0 ... 255, with the orthonormal Hermite polynomials h_k.

    By Mehler's formula, for u_1, u_2 of variances q_1, q_2 and correlation c,

        E φ(u_1) φ(u_2) = Σ a_k(q_1) a_k(q_2) c^k,   E φ(√q z)² = Σ a_k²,   q E φ'² = Σ k a_k²,

    where the last holds with c^{k-1} for a pair of slopes.
    """
    scale = math.sqrt(q)
    z, w = gaussian_rule(scale, act.kinks, act.panels)
    values = w * act.function(scale * z)
    return np.array([h @ values for h in _polynomials(z)])


def _polynomials(z: Array) -> list[Array]:
    """Orthonormal Hermite polynomials by their three-term recurrence."""
    all_ = [np.ones_like(z), z]
    for k in range(1, ORDER - 1):
        all_.append((z * all_[-1] - math.sqrt(k) * all_[-2]) / math.sqrt(k + 1.0))
    return all_


@lru_cache(maxsize=1)
def degrees() -> Array:
    """0, 1, ..., ORDER - 1."""
    return np.arange(float(ORDER))
