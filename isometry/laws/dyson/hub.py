"""Neurons between Gaussian weights, as a Dyson equation sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isometry.domain import Array

#: real on the negative axis of z, complex off it
Numbers = NDArray[Any]

_LARGE = 10.0  # entries whose squares cost two digits beside 1


class Response(NamedTuple):
    """What a hub gives back, averaged over its types; K and N as in `Hub.response`."""

    reads: Numbers  # (points, reads): ⟨diag K Nᵀ⟩
    drives: Numbers  # (points, drives): ⟨diag Kᵀ N⟩
    within_reads: Numbers  # (points, reads, reads): ⟨(K Nᵀ)²⟩ by entries
    within_drives: Numbers  # (points, drives, drives): ⟨(Kᵀ N)²⟩
    across: Numbers  # (points, reads, drives): ⟨K²⟩
    amplified: Array  # (points,): the largest |K N| of any entry


@dataclass(frozen=True)
class Hub:
    """Neurons between weights: what comes in by a drive goes out by the reads.

    A drive is a node that a weight (or the input) writes to, a read is one that a weight
    (or the output) takes from. Between them lie elementwise maps only.
    """

    transfer: Array  # R, (types, reads, drives): sums over elementwise paths
    fractions: Array  # p_τ, (types,)
    width: int
    reads: slice  # where its reads stand among those of the network
    drives: slice

    @property
    def gain(self) -> Array:
        """⟨R²⟩ by entries, (reads, drives)."""
        return np.asarray(np.tensordot(self.fractions, self.transfer**2, axes=1))

    def response(self, x: Numbers, y: Numbers) -> Response:
        """With N = √x R √y and K = (1 + N Nᵀ)⁻¹ N = N (1 + Nᵀ N)⁻¹, for each type.

        Parameters
        ----------
        x, y : (points, reads), (points, drives) arrays
            Of positive real part after division by some √q.
        """
        # the sign of a root does not matter: N enters twice
        N = np.sqrt(x)[:, None, :, None] * self.transfer * np.sqrt(y)[:, None, None, :]
        K = _damped(N)
        out, into = K @ np.swapaxes(N, 2, 3), np.swapaxes(K, 2, 3) @ N
        return Response(
            reads=self.fractions @ np.diagonal(out, axis1=2, axis2=3),
            drives=self.fractions @ np.diagonal(into, axis1=2, axis2=3),
            within_reads=self._average(out * out),
            within_drives=self._average(into * into),
            across=self._average(K * K),
            amplified=np.max(np.abs(K * N), axis=(1, 2, 3)),
        )

    def log_determinant(self, x: Numbers, y: Numbers) -> Numbers:
        """⟨log det(1 + R y Rᵀ x)⟩, for x and y of positive real part.

        Then x⁻¹ + R y Rᵀ has a positive real part too: principal logarithms of its eigenvalues
        and of x are continuous.
        """
        accretive = (self.transfer * y[:, None, None, :]) @ np.swapaxes(self.transfer, 1, 2)
        k = np.arange(x.shape[1])
        accretive[:, :, k, k] += 1.0 / x[:, None, :]
        logs = np.log(np.linalg.eigvals(accretive).astype(complex)).sum(axis=2)
        return np.asarray(logs @ self.fractions + np.log(x).sum(axis=1))

    def _average(self, values: Numbers) -> Numbers:
        """Over the types: (points, types, m, n) to (points, m, n)."""
        points, types, m, n = values.shape
        averaged: Numbers = self.fractions @ values.reshape(points, types, m * n)
        return averaged.reshape(points, m, n)


def _damped(N: Numbers) -> Numbers:
    """K = (1 + N Nᵀ)⁻¹ N."""
    K = np.empty_like(N)
    graded = np.max(np.abs(N), axis=(1, 2, 3)) >= _LARGE
    K[graded], plain = _damped_graded(N[graded]), N[~graded]
    matrix = plain @ np.swapaxes(plain, 2, 3)
    k = np.arange(N.shape[2])
    matrix[..., k, k] += 1.0
    K[~graded] = np.linalg.solve(matrix, plain)
    return K


def _damped_graded(N: Numbers) -> Numbers:
    """The same where entries differ by orders of magnitude and squares would swamp the 1.

    K is a block of the inverse of the pencil [1, -N; Nᵀ, 1], of which the other two are
    A⁻¹ = (1 + N Nᵀ)⁻¹ and B⁻¹ = (1 + Nᵀ N)⁻¹; it is also A⁻¹ N and N B⁻¹. For each entry the
    expression is taken whose terms are smallest, for it cancels least.
    """
    reads, drives = N.shape[2:]
    pencil = np.zeros((*N.shape[:2], reads + drives, reads + drives), dtype=N.dtype)
    pencil[..., :reads, reads:], pencil[..., reads:, :reads] = -N, np.swapaxes(N, 2, 3)
    k = np.arange(reads + drives)
    pencil[..., k, k] = 1.0
    inverse = np.linalg.inv(pencil)
    size = np.sqrt(np.abs(inverse[..., k, k]))
    out, into = size[..., :reads, None], size[..., None, reads:]
    by_reads = out * (np.swapaxes(out, 2, 3) @ np.abs(N))
    by_drives = (np.abs(N) @ np.swapaxes(into, 2, 3)) * into
    block = out * into
    K = inverse[..., :reads, reads:]
    K = np.where(by_reads < block, inverse[..., :reads, :reads] @ N, K)
    better = by_drives < np.minimum(block, by_reads)
    return np.where(better, N @ inverse[..., reads:, reads:], K)
