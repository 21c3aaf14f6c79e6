"""Moments of a spectrum from products with random probes: the cheapest answer there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isometry.errors import InputError, MeasurementError
from isometry.measure.linear_map import LinearMap
from isometry.measure.probed import Interval
from isometry.measure.quadrature import PROBES, blocks
from isometry.measure.ranks import Ranks

Array = NDArray[np.float64]
T = TypeVar("T")

_BLOCK = 8  # vectors to a product


@dataclass(frozen=True)
class Moments:
    """Moments of σ over the r = min(m, n) directions of a map A.

    Attributes
    ----------
    second : Interval
        tr(AAᵀ)/r = E σ², the square of the gain, with its standard error.
    fourth : Interval
        tr((AAᵀ)²)/r = E σ⁴.
    products : int
        Vectors that A or Aᵀ was applied to.
    """

    second: Interval
    fourth: Interval
    products: int


def moments(a: LinearMap, *, probes: int = PROBES, sketch: int = 0, seed: int = 0) -> Moments:
    """Estimate E σ² and E σ⁴ without bias, by two products for each probe.

    For a random unit vector v in the r-dimensional space, r = min(m, n), the means of ‖A v‖² and
    ‖Aᵀ A v‖² are tr(AAᵀ)/r and tr((AAᵀ)²)/r (Hutchinson 1990). Probes are orthonormal, a sample
    without replacement: with sample variance s² the standard error is s √(1/p - 1/r), and r
    probes are exact.

    With a sketch, the range Q of AᵀA on so many random vectors is measured exactly, and only
    the rest of the space is left to the probes (Hutch++; Meyer, Musco, Musco and Woodruff 2021).
    That helps where few singular values carry the moment, as in deep Gaussian networks; near
    isometry all of them carry it, and more probes are the better use of products.

    Means of other functions of σ, as the score, take more than two products a probe: those are
    `quadrature`, whose gain and `measure.moment(4)` are these estimates from its own probes.

    Parameters
    ----------
    a : LinearMap
        Of shape (m, n); probes live in the smaller of the two spaces.
    probes : int
        p >= 2; at most r less the sketch are used.
    sketch : int
        Dimension of Q; each costs four products.
    seed : int
        The same seed gives the same numbers.

    Raises
    ------
    InputError
        If there are too few probes to tell their scatter, or the sketch is negative.
    MeasurementError
        If a product is not finite.

    Examples
    --------
    >>> import torch
    >>> from isometry.measure import LambdaOperator
    >>> found = moments(LambdaOperator((50, 50), lambda v: 2 * v, lambda u: 2 * u))
    >>> [round(value, 9) for value in (found.second.value, found.fourth.value)]
    [4.0, 16.0]
    """
    if probes < 2 or sketch < 0:
        raise InputError(
            f"moments take at least 2 probes and a sketch of 0 or more, got {probes} and {sketch}"
        )
    r = min(a.shape)
    small = a if a.shape[1] == r else a.T
    known = _range(small, min(sketch, r), seed)
    rest = r - known.shape[1]
    exact = _norms(small, [known[:, i : i + _BLOCK] for i in range(0, r - rest, _BLOCK)])
    seen = _norms(small, blocks(r, min(probes, rest), seed, a.device, apart=known))
    second, fourth = (_joined(e, s, rest) for e, s in zip(exact, seen, strict=True))
    return Moments(second, fourth, products=2 * (2 * exact.shape[1] + seen.shape[1]))


def _range(a: LinearMap, sketch: int, seed: int) -> Tensor:
    """Orthonormal columns that span AᵀA S, for a random S of `sketch` columns."""
    # Of another seed than the probes, which must know nothing of it.
    drawn = blocks(a.shape[1], sketch, ~seed, a.device)
    images = _dealt(lambda s: (a.T @ (a @ s.to(a.dtype))).double().cpu(), drawn)
    columns = torch.cat(images, dim=1) if images else torch.empty(a.shape[1], 0).double()
    q: Tensor = torch.linalg.qr(columns)[0]
    return q


def _norms(a: LinearMap, starts: Iterable[Tensor]) -> Array:
    """‖A v‖² and ‖Aᵀ A v‖² of every column v, of shape (2, p)."""

    def of(block: Tensor) -> Array:
        image = a @ block.to(a.dtype)
        squares = [t.double().square().sum(dim=0) for t in (image, a.T @ image)]
        return torch.stack(squares).cpu().numpy()

    norms = np.concatenate([np.zeros((2, 0)), *_dealt(of, starts)], axis=1)
    if not np.all(np.isfinite(norms)):
        raise MeasurementError(
            "a product with the Jacobian is not finite, or its square is not: look for overflow in "
            "the backward or forward pass, or measure in float64"
        )
    return norms


def _dealt(of: Callable[[Tensor], T], starts: Iterable[Tensor]) -> list[T]:
    return Ranks().deal([partial(of, start) for start in starts])


def _joined(exact: Array, seen: Array, rest: int) -> Interval:
    """Mean over all directions: of some every value, of the rest a sample."""
    r, p = len(exact) + rest, len(seen)
    if p == 0:
        return Interval(float(exact.mean()), 0.0)
    error = np.std(seen, ddof=1) * np.sqrt(1 / p - 1 / rest) if p > 1 else 0.0
    return Interval(float(exact.sum() + rest * seen.mean()) / r, float(error * rest / r))
