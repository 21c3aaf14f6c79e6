"""A spectral measure as random probes see it: nodes, weights, and what the probes leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

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

    E f(σ) is estimated by Σ w f(σ) over the nodes. For v uniform on the unit sphere,
    vᵀ f(√AᵀA) v has the variance 2 Var f(σ) / (r + 2), Var f(σ) being that over all singular
    values; probes are a sample without replacement of an orthonormal basis, so that their mean has
    the variance

        2 (r - p) / (p (r - 1) (r + 2)) · Var f(σ) .

    Var f(σ) is that of this measure, which is far surer than the scatter of a few probes. With p =
    r nothing is left to chance.

    Singular values that are known one by one weigh exactly 1/r each and add nothing to Var f; the
    rest is shared out as the probes say: a few large values then cost no accuracy. A value is
    known if its residual is nil and fewer copies of it were found than the block could have held.

    Attributes
    ----------
    nodes : ndarray, shape (N,)
        σ >= 0, unordered.
    weights : ndarray, shape (N,)
        They add up to 1.
    known : ndarray of bool, shape (N,)
    block : ndarray of int, shape (N,)
        Which block of probes found each node.
    ends : ndarray, shape (2, N)
        Between which σ the mass of each node lies; see `above`.
    probes, directions : int
        p and r.
    """

    nodes: Array
    weights: Array
    known: NDArray[np.bool_]
    block: NDArray[np.int_]
    ends: Array
    probes: int
    directions: int

    def mean(self, values: Array) -> Interval:
        """Estimate E f(σ), given f at the nodes."""
        estimate = float(self.weights @ values)
        p, r = self.probes, self.directions
        if p >= r:
            return Interval(estimate, 0.0)
        open_weights = np.where(self.known, 0.0, self.weights)
        mass = np.bincount(self.block, open_weights)
        # Nothing is open in a block that found every direction.
        means = np.bincount(self.block, open_weights * values) / np.where(mass > 0, mass, 1.0)
        square = open_weights @ (values - means[self.block]) ** 2
        return Interval(estimate, float(np.sqrt(2 * (r - p) / (p * (r - 1) * (r + 2)) * square)))

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

    def above(self, sigma: float) -> Array:
        """Which part of the mass of each node lies above a σ.

        A node of a Gauss rule stands for the mass around it. Those of a block of b probes come in
        groups of b, since each probe has a rule of its own: the mass of a node is spread evenly
        over b neighbours, and no further than its residual. Steps at the nodes instead would be
        off by half a group.
        """
        low, high = self.ends
        inside = (high - sigma) / np.where(high > low, high - low, 1.0)
        return np.where(high > low, np.clip(inside, 0.0, 1.0), self.nodes > sigma)

    def half_width(self, error: float, confidence: float = 0.95) -> float:
        """Half the width of a confidence interval, by the normal distribution."""
        return error * float(ndtri(0.5 + confidence / 2))


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
    nil = close * max(float(block.values[0]) for block in blocks)
    known = [_known(block, directions, nil) for block in blocks]
    probes = sum(len(block.weights) for block in blocks)
    weights = [
        len(block.weights) / probes * _weights(block, k, directions)
        for block, k in zip(blocks, known, strict=True)
    ]
    return Probed(
        nodes=np.concatenate([block.values for block in blocks]),
        weights=np.concatenate(weights),
        known=np.concatenate(known),
        block=np.repeat(np.arange(len(blocks)), [len(block.values) for block in blocks]),
        ends=np.concatenate([_ends(b, k) for b, k in zip(blocks, known, strict=True)], axis=1),
        probes=probes,
        directions=directions,
    )


def _known(block: Ritz, directions: int, nil: float) -> NDArray[np.bool_]:
    """Which values are singular values of A of which every copy was found."""
    b, k = block.weights.shape
    if k == directions:
        return np.ones(k, dtype=bool)
    copies = np.abs(block.values[:, None] - block.values) <= nil
    known = np.asarray((block.residuals <= nil) & (copies.sum(axis=1) < b))
    return known & ~np.all(known)  # where that is all that there is, weights are the probes'


def _weights(block: Ritz, known: NDArray[np.bool_], directions: int) -> Array:
    """Share of one block's values in all directions."""
    seen = np.where(known, 0.0, block.weights.mean(axis=0))
    left = 1.0 - known.sum() / directions
    return np.where(known, 1.0 / directions, left * seen / (seen.sum() or 1.0))


def _ends(block: Ritz, known: NDArray[np.bool_]) -> Array:
    """Between which values the mass of each is spread: of those that are open, b neighbours."""
    ends = np.stack([block.values, block.values])
    x, reach = block.values[~known], block.residuals[~known]  # descending
    i, half = np.arange(len(x)), (len(block.weights) + 1) // 2
    low, high = x[np.minimum(i + half, len(x) - 1)], x[np.maximum(i - half, 0)]
    ends[:, ~known] = np.maximum(low, x - reach), np.minimum(high, x + reach)
    return ends
