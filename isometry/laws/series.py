"""Truncated power series, as arrays of coefficients."""

from __future__ import annotations

import numpy as np

from isometry.domain import Array


def times(f: Array, g: Array) -> Array:
    """f(s) g(s), to the shorter of the two lengths."""
    n = min(f.size, g.size)
    return np.convolve(f[:n], g[:n])[:n]


def log(f: Array) -> Array:
    """log f(s), for f(0) > 0: n f_0 l_n = n f_n - Σ_k k l_k f_(n-k)."""
    out = np.zeros(f.size)
    out[0] = np.log(f[0])
    for n in range(1, f.size):
        k = np.arange(1, n)
        out[n] = (f[n] - (k * out[1:n]) @ f[n - k] / n) / f[0]
    return out


def exp(f: Array) -> Array:
    """exp f(s): n e_n = Σ_k k f_k e_(n-k)."""
    out = np.zeros(f.size)
    out[0] = np.exp(f[0])
    for n in range(1, f.size):
        k = np.arange(1, n + 1)
        out[n] = (k * f[1 : n + 1]) @ out[n - k] / n
    return out


def composed(f: Array, g: Array) -> Array:
    """f(g(s)), for f = Σ_(k>=0) f_k s^k and g without a constant term, both by all coefficients."""
    out = np.zeros(g.size)
    for coefficient in f[::-1]:
        out = times(out, g)
        out[0] += coefficient
    return out


def reverted(f: Array) -> Array:
    """The inverse of f(s) = f_1 s + f_2 s² + …, given and returned without the constant term.

    Lagrange: the coefficient k of the inverse is that of s^(k-1) in (s / f)^k, over k.
    """
    log_ratio = -log(f)  # of s / f
    return np.array([exp(k * log_ratio[:k])[k - 1] / k for k in range(1, f.size + 1)])


def log_over_argument(f: Array) -> Array:
    """log(f(s) / s) for f(s) = f_1 s + f_2 s² + …, given without the constant term."""
    return log(f)


def power_sums(values: Array, weights: Array, order: int) -> Array:
    """Σ w v^k for k = 1 … order."""
    k = np.arange(1, order + 1)[:, None]
    return np.asarray((values**k) @ weights)
