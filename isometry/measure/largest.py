"""The largest singular values of a linear map, each with a bound on its error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isometry.errors import InputError, MeasurementError
from isometry.measure.bidiagonal import ROUNDING, Bidiagonalisation
from isometry.measure.linear_map import LinearMap

Array = NDArray[np.float64]

_BLOCK = {"cpu": 2}  # elsewhere a block takes hardly longer than a vector
_WIDE = 8
_STEPS = 256
_GROWTH = 1.125  # of the steps, from one look to the next


@dataclass(frozen=True, eq=False)
class Largest:
    """The largest singular values of a map A.

    Attributes
    ----------
    values : ndarray, shape (count,), descending
        Of multiple ones every copy.
    residuals : ndarray, shape (count,)
        ρ: within so much of each value there is a singular value of A, rounding included.
    steps, products : int
        What it took: blocks, and vectors that A or Aᵀ was applied to.
    """

    values: Array
    residuals: Array
    steps: int
    products: int


def largest(
    a: LinearMap,
    count: int = 1,
    *,
    tolerance: float = 1e-6,
    steps: int = _STEPS,
    seed: int = 0,
) -> Largest:
    """Find the `count` largest singular values of A by block bidiagonalisation.

    Each Ritz triple has A v = θ u and ‖Aᵀu - θ v‖ = ρ; it is taken as found once ρ <= tolerance ·
    σ_max. Then there are `count` singular values of A, each one counted once, at distances of at
    most the root of Σρ² (Parlett 1998, for the symmetric matrix [[0, A], [Aᵀ, 0]]); where values
    lie apart, the true error is about ρ² over their distance. No Ritz value exceeds σ_max. That
    none of the largest is missed is not proven, but almost sure: the block is random, and at least
    `count` wide, so that it finds every copy of a multiple one.

    Parameters
    ----------
    a : LinearMap
        Of shape (m, n).
    count : int
        At most min(m, n).
    tolerance : float
        Of the residuals, relative to σ_max; the work grows like its logarithm.
    steps : int
        At most so many; each keeps a block, 8 (m + n) bytes for every vector of it.
    seed : int
        Of the starting block. The same seed gives the same numbers.

    Returns
    -------
    Largest

    Raises
    ------
    InputError
        If a number makes no sense, or the tolerance is below rounding.
    MeasurementError
        If it has not converged after so many steps, or a product is not finite.

    Examples
    --------
    >>> import torch
    >>> from isometry.measure import LambdaOperator
    >>> sigma = torch.arange(1.0, 101.0, dtype=torch.float64)[:, None]
    >>> found = largest(LambdaOperator((100, 100), lambda v: sigma * v, lambda u: sigma * u), 2)
    >>> [round(float(value), 6) for value in found.values]
    [100.0, 99.0]
    """
    noise = ROUNDING * float(torch.finfo(a.dtype).eps)
    _check(a, count, tolerance, steps, noise)
    small = a if a.shape[1] <= a.shape[0] else a.T
    grown = Bidiagonalisation(small, _start(small, count, seed), steps)
    for stop in _stops(steps):
        while grown.steps < stop and not grown.exhausted:
            grown.step()
        ritz = grown.ritz()
        values, residuals = ritz.values[:count], ritz.residuals[:count]
        if residuals.max() <= tolerance * values[0]:
            return Largest(values, residuals + noise * values[0], grown.steps, grown.products)
    worst = int(residuals.argmax())
    raise MeasurementError(
        f"after {steps} steps the largest singular values have not converged: no. {worst + 1} is "
        f"{values[worst]:.8g} with a residual of {residuals[worst]:.1e}, wanted "
        f"{tolerance * values[0]:.1e}; allow more steps or a larger tolerance"
    )


def _check(a: LinearMap, count: int, tolerance: float, steps: int, noise: float) -> None:
    if not 1 <= count <= min(a.shape):
        raise InputError(f"count must lie between 1 and {min(a.shape)}, got {count!r}")
    if steps < 1:
        raise InputError(f"steps must be positive, got {steps!r}")
    if not tolerance >= noise:
        raise InputError(
            f"tolerance must be at least {noise:.1g}, the rounding of {a.dtype}, got {tolerance!r}"
        )


def _start(a: LinearMap, count: int, seed: int) -> Tensor:
    """Random orthonormal columns, drawn on the CPU: the same on every device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    width = min(max(_BLOCK.get(a.device.type, _WIDE), count), a.shape[1])
    drawn = torch.randn(a.shape[1], width, generator=generator, dtype=torch.float64, device="cpu")
    q: Tensor = torch.linalg.qr(drawn)[0]
    return q.to(a.device)


def _stops(most: int) -> Iterator[int]:
    stop = 1
    while stop < most:
        yield stop
        stop = max(stop + 1, int(stop * _GROWTH))
    yield most
