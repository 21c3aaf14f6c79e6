"""A spectral measure as random probes see it: nodes, weights, and what the probes leave open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit

from isometry.measure.bidiagonal import Ritz
from isometry.score import sech

Array = NDArray[np.float64]

_CLOSE = 1e-8


class Interval(NamedTuple):
    """An estimate with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Probed:
    """The mean spectral measure of p random orthonormal probes, of the r that there are.

    E f(σ) is estimated by Σ w f(σ) over the nodes. The probes are a sample without replacement of
    an orthonormal basis, so that the variance of a mean has the factor (1 - p/r) of finite
    populations: with p = r nothing is left to chance.

    Singular values that are known one by one weigh exactly 1/r each, and the rest is shared out
    as the probes say: a few large values then cost no accuracy. A value is known if its
    residual is nil and fewer copies of it were found than the block could have held.

    Attributes
    ----------
    nodes : ndarray, shape (N,)
        σ >= 0, unordered.
    weights : ndarray, shape (N,)
        They add up to 1.
    deviations : ndarray, shape (p, N)
        How far each probe is from the mean of its block, to first order.
    directions : int
        r.
    blocks : int
        Each of them takes one degree of freedom from the p that the deviations have.
    """

    nodes: Array
    weights: Array
    deviations: Array
    directions: int
    blocks: int

    @property
    def probes(self) -> int:
        """How many probes p there are."""
        return len(self.deviations)

    @property
    def free(self) -> int:
        """Degrees of freedom of the scatter."""
        return self.probes - self.blocks

    def mean(self, values: Array) -> Interval:
        """Estimate E f(σ), given f at the nodes; one probe alone cannot say how sure it is."""
        estimate = float(self.weights @ values)
        rest = max(0.0, 1.0 - self.probes / self.directions)
        if not rest or (self.blocks == 1 and len(self.nodes) == self.directions):
            return Interval(estimate, 0.0)  # every direction was found
        if not self.free:
            return Interval(estimate, math.inf)
        scatter = self.deviations @ values
        variance = rest * np.sum(scatter**2) / (self.probes * self.free)
        return Interval(estimate, float(np.sqrt(variance)))

    @property
    def score(self) -> Interval:
        """I = E sech(2 log σ)."""
        with np.errstate(divide="ignore"):
            return self.mean(sech(np.log(self.nodes)))

    def moment(self, power: int) -> Interval:
        """Estimate E σ^power.

        Even powers up to 4 steps - 2 are exact for these probes: Hutchinson's estimate, made surer
        by the singular values that are known.
        """
        return self.mean(self.nodes**power)

    def half_width(self, error: float, confidence: float = 0.95) -> float:
        """Half the width of a confidence interval, by Student's t."""
        return error * float(stdtrit(max(self.free, 1), 0.5 + confidence / 2))


def closeness(dtype: torch.dtype) -> float:
    """Share of σ_max below which a residual is nil, and two values are copies of one."""
    return max(_CLOSE, 8 * float(torch.finfo(dtype).eps))


def probed(blocks: Sequence[Ritz], directions: int, close: float = _CLOSE) -> Probed:
    """Join the Ritz values of several blocks of probes into one measure.

    Parameters
    ----------
    blocks : sequence of Ritz
        Their starting vectors are orthonormal to each other as well.
    directions : int
        r, the dimension of the space they were drawn from.
    close : float
        See `closeness`.
    """
    largest = max(float(block.values[0]) for block in blocks)
    parts = [_shared(block, directions, close * largest) for block in blocks]
    widths = np.array([len(block.weights) for block in blocks], dtype=float)
    share = widths / widths.sum()
    deviations = np.zeros((int(widths.sum()), sum(len(block.values) for block in blocks)))
    row = column = 0
    for block, (_, scatter) in zip(blocks, parts, strict=True):
        b, k = block.weights.shape
        deviations[row : row + b, column : column + k] = scatter
        row, column = row + b, column + k
    return Probed(
        np.concatenate([block.values for block in blocks]),
        np.concatenate([s * w for s, (w, _) in zip(share, parts, strict=True)]),
        deviations,
        directions,
        len(blocks),
    )


def _shared(block: Ritz, directions: int, close: float) -> tuple[Array, Array]:
    """Weights of one block's values, and how far each of its probes is from them."""
    b, k = block.weights.shape
    if k == directions:  # every direction was found
        return np.full(k, 1.0 / k), np.zeros((b, k))
    known = _known(block, close)
    if np.all(known):
        known[:] = False
    left = 1.0 - known.sum() / directions
    seen = np.where(known, 0.0, block.weights)
    mean = seen.mean(axis=0)
    total = mean.sum()
    weights = np.where(known, 1.0 / directions, left * mean / total)
    # Of the ratio Σ q f / Σ q, to first order: (Σ q_j f - Σ q_j · f̄) / Σ q̄.
    scatter = left / total * (seen - np.outer(seen.sum(axis=1), mean / total))
    return weights, scatter


def _known(block: Ritz, close: float) -> NDArray[np.bool_]:
    """Which values are singular values of A of which every copy was found."""
    b = len(block.weights)
    converged = block.residuals <= close
    copies = np.abs(block.values[:, None] - block.values) <= close
    return np.asarray(converged & (copies.sum(axis=1) < b))
