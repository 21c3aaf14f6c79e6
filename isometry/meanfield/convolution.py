"""Signals in deep convolutional networks: covariances over positions."""

from __future__ import annotations

import math
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import Array, nonnegative
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.kernel import output_covariance
from isometry.meanfield.profile import valid_profile

Padding = Literal["circular", "zero"]


def covariance_map(
    act: ActivationLike,
    covariance: ArrayLike,
    sigma_w: float,
    sigma_b: float,
    profile: ArrayLike,
    padding: Padding = "circular",
) -> Array:
    """Σ'_{a,a'} = σ_w² Σ_b v_b E φ(h_{a+b}) φ(h_{a'+b}) + σ_b², with h ~ N(0, Σ).

    The covariance of one channel's pre-activations at two positions a and a', as the number
    of channels grows; Σ may also hold the positions of two inputs side by side. Fixed points
    under circular padding are those of a fully connected network, constant off the diagonal.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    covariance
        Σ, of shape (n, n) for signals of one dimension and (n_1, n_2, n_1, n_2) for two.
    sigma_w, sigma_b
        Standard deviations, >= 0.
    profile
        v_b, from `variance_profile`, of as many dimensions.
    padding
        "circular", or "zero": offsets that leave the signal contribute nothing, and
        positions near the border lose variance.

    Raises
    ------
    TheoryError
        When an argument is outside its domain or the shapes do not fit.

    References
    ----------
    Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington 2018, "Dynamical isometry and a mean
    field theory of CNNs".
    """
    act, v = activation(act), valid_profile(profile)
    weight = nonnegative("sigma_w", sigma_w) ** 2
    bias = nonnegative("sigma_b", sigma_b) ** 2
    sigma = _covariance(covariance, v.ndim)
    after = _after_activation(act, sigma)
    total = np.zeros_like(after)
    for index in product(*map(range, v.shape)):
        offset = tuple(i - (k - 1) // 2 for i, k in zip(index, v.shape, strict=True))
        total += v[index] * _shifted(after, offset, padding)
    return weight * total + bias


def _covariance(covariance: ArrayLike, dimensions: int) -> Array:
    sigma = np.asarray(covariance, dtype=float)
    half = sigma.shape[: sigma.ndim // 2]
    if sigma.ndim != 2 * dimensions or sigma.shape != half + half or sigma.size == 0:
        raise TheoryError(
            f"the covariance has shape {sigma.shape} for a kernel of {dimensions} dimension(s); "
            f"expected {'(n, n)' if dimensions == 1 else '(n1, n2, n1, n2)'}"
        )
    matrix = sigma.reshape(math.prod(half), -1)
    variance = np.diag(matrix)
    bound = np.sqrt(np.abs(np.outer(variance, variance))) * (1.0 + 1e-9)
    symmetric = np.allclose(matrix, matrix.T, rtol=1e-9, atol=0.0)
    if not symmetric or not bool(np.all((np.abs(matrix) <= bound) & (variance >= 0.0))):
        raise TheoryError(
            "the covariance is not one: expected a symmetric array of finite numbers with "
            "variances >= 0 and correlations in [-1, 1]"
        )
    return sigma


def _after_activation(act: Activation, sigma: Array) -> Array:
    """E φ(h_a) φ(h_a'), computed once for each distinct pair of variances and correlation."""
    positions = math.prod(sigma.shape[: sigma.ndim // 2])
    matrix = sigma.reshape(positions, positions)
    variance = np.diag(matrix)
    scale = np.sqrt(np.outer(variance, variance))
    c = np.divide(matrix, scale, out=np.zeros_like(matrix), where=scale > 0.0)
    triples = np.stack(
        [*np.broadcast_arrays(variance[:, None], variance), np.clip(c, -1.0, 1.0)], axis=-1
    ).reshape(-1, 3)
    triples[:, :2].sort(axis=1)
    # shifts of one covariance differ by rounding only: equal to 14 digits is equal
    keys = np.array([f"{q1:.13e} {q2:.13e} {c:.14f}" for q1, q2, c in triples])
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    values = np.array([output_covariance(act, *map(float, triples[i])) for i in first])
    return np.asarray(values[inverse].reshape(sigma.shape))


def _shifted(after: Array, offset: tuple[int, ...], padding: Padding) -> Array:
    """The array whose entry (a, a') is that of (a + b, a' + b)."""
    both = offset + offset
    axes = tuple(range(after.ndim))
    moved = np.roll(after, tuple(-b for b in both), axis=axes)
    if padding == "circular":
        return moved
    if padding != "zero":
        raise TheoryError(f'padding is {padding!r}; expected "circular" or "zero"')
    for axis, b in enumerate(both):
        n = after.shape[axis]
        position = np.arange(n) + b
        outside = (position < 0) | (position >= n)
        moved[(slice(None),) * axis + (outside,)] = 0.0
    return moved
