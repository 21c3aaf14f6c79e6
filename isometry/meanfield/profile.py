"""How a convolution spreads its weights over kernel offsets, and what that does to frequencies."""

from __future__ import annotations

import math
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isometry.domain import Array, nonnegative, whole
from isometry.errors import TheoryError
from isometry.meanfield.depth_scale import SAME


def variance_profile(
    profile: Literal["uniform", "delta"] | ArrayLike, size: int = 3, dimensions: int = 1
) -> Array:
    """v_b >= 0 with Σ v_b = 1: how the variance of the weights is spread over kernel offsets.

    Kernel entries are N(0, σ_w² v_b / c_in). A centred kernel of length k has the offsets
    -⌊(k-1)/2⌋ ... ⌊k/2⌋ along each axis.

    Parameters
    ----------
    profile
        "uniform": 1/k^d each, the usual initialisation. "delta": all of it on the centre, as
        in delta-orthogonal initialisation. Or the numbers themselves, (k,) or (k, k).
    size, dimensions
        k and d in (1, 2), for the two named profiles.

    Raises
    ------
    TheoryError
        When the profile is unknown, has a negative entry or does not add up to 1.
    """
    if isinstance(profile, str):
        shape = (whole("size", size, 1),) * whole("dimensions", dimensions, 1)
        if profile == "uniform":
            return valid_profile(np.full(shape, 1.0 / math.prod(shape)))
        if profile == "delta":
            v = np.zeros(shape)
            v[tuple((k - 1) // 2 for k in shape)] = 1.0
            return valid_profile(v)
        raise TheoryError(
            f'the profile is {profile!r}; expected "uniform", "delta" or an array of variances'
        )
    return valid_profile(profile)


def valid_profile(profile: ArrayLike) -> Array:
    """The profile as an array, where it is one: >= 0, of sum 1, with one or two axes."""
    v = np.asarray(profile, dtype=float)
    if v.ndim not in (1, 2) or v.size == 0:
        raise TheoryError(
            f"the profile has shape {v.shape}; expected a kernel of 1 or 2 dimensions"
        )
    if not bool(np.all(v >= 0.0)) or abs(float(v.sum()) - 1.0) > 1e-12:
        raise TheoryError(
            f"the profile has the smallest entry {v.min():.6g} and the sum {v.sum():.12g}; "
            "expected variances >= 0 that add up to 1"
        )
    return v


def retained_variance(profile: ArrayLike, positions: int | tuple[int, ...]) -> Array:
    """Share of the weights' variance that zero padding leaves at each position.

    Its mean over positions is the loss of the mean squared singular value in one linear
    layer: (3n - 2)/(3n) per axis for a uniform kernel of length 3.
    """
    v = valid_profile(profile)
    shape = _positions(positions, v.ndim)
    share = np.zeros(shape)
    for index in product(*map(range, v.shape)):
        inside = np.ones(shape)
        for axis, (i, k, n) in enumerate(zip(index, v.shape, shape, strict=True)):
            at = np.arange(n) + i - (k - 1) // 2
            reach = ((at >= 0) & (at < n)).astype(float)
            inside *= reach.reshape([-1 if a == axis else 1 for a in range(v.ndim)])
        share += v[index] * inside
    return share


def fourier_modes(profile: ArrayLike, positions: int | tuple[int, ...]) -> NDArray[np.complex128]:
    """λ_m = Σ_b v_b e^{2πi b·m/n}, m = 0 … n - 1: what one layer leaves of each frequency.

    With circular padding, a small deviation from the fixed point is multiplied by χ_q λ_m on
    the diagonal of Σ and by χ_c λ_m off it. λ_0 = 1; a delta profile has λ_m = 1 throughout,
    a uniform one weakens all but the mean. Real for a profile that is symmetric about its centre.

    Parameters
    ----------
    profile
        v_b, from `variance_profile`.
    positions
        n, or (n_1, n_2) for a kernel of two dimensions. A longer kernel wraps round.

    Returns
    -------
    (n,) or (n_1, n_2) array
        Complex, in the order of the discrete Fourier transform.

    Raises
    ------
    TheoryError
        When the profile is not one, or has not as many dimensions as the positions.

    References
    ----------
    Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington 2018, "Dynamical isometry and a mean
    field theory of CNNs".

    Examples
    --------
    >>> fourier_modes(variance_profile("uniform", 3), 4).real.round(4) + 0.0
    array([ 1.    ,  0.3333, -0.3333,  0.3333])
    """
    v = valid_profile(profile)
    shape = _positions(positions, v.ndim)
    modes = np.zeros(shape, dtype=complex)
    for index in product(*map(range, v.shape)):
        phase = np.zeros(shape)
        for axis, (i, k, n) in enumerate(zip(index, v.shape, shape, strict=True)):
            turn = np.arange(n) * (i - (k - 1) // 2) % n / n
            phase = phase + turn.reshape([-1 if a == axis else 1 for a in range(v.ndim)])
        modes += v[index] * np.exp(2j * np.pi * phase)
    return modes


def mode_depth_scales(chi: float, profile: ArrayLike, positions: int | tuple[int, ...]) -> Array:
    """ξ_m = -1 / log |χ λ_m|: the depth to which each spatial frequency of a signal survives.

    Take χ_q for the power at one position, χ_c* for the covariance of two positions or two
    inputs. Infinite where |χ λ_m| = 1, negative where it is above.

    Raises
    ------
    TheoryError
        When χ is negative or not finite, or the profile and the positions do not fit.

    References
    ----------
    Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington 2018, "Dynamical isometry and a mean
    field theory of CNNs".
    """
    size = nonnegative("chi", chi) * np.abs(fourier_modes(profile, positions))
    scales = np.full(size.shape, np.inf)
    moving = np.abs(size - 1.0) > SAME
    with np.errstate(divide="ignore"):
        scales[moving] = -1.0 / np.log(size[moving])
    return np.where(size == 0.0, 0.0, scales)


def _positions(positions: int | tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    each = positions if isinstance(positions, tuple) else (positions,)
    if len(each) != dimensions:
        raise TheoryError(
            f"positions is {positions!r} for a kernel of {dimensions} dimension(s); expected "
            f"{'n' if dimensions == 1 else '(n1, n2)'}"
        )
    return tuple(whole("positions", n, 1) for n in each)
