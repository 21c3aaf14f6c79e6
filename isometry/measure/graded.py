"""A long product of matrices whose singular values leave the range of floating point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr
from scipy.linalg.lapack import dgejsv
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from isometry.errors import InputError, MeasurementError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)
_NOISE = 32 * _EPS  # at most, times √m: rounding of a product and its QR decomposition
# In binary digits:
_RANGE = 800  # that one matrix may span; LAPACK's Jacobi method sets aside 1023
_MARGIN = 80  # beyond it two scales do not feel each other in float64
_NOTHING = -200  # parts below this are dropped, before they become slow denormal numbers


@dataclass(frozen=True)
class _Scales:
    """Positive numbers mantissa · 2^exponent, of any size, multiplied without rounding twice."""

    mantissa: Array  # (r,), in [0.5, 1)
    exponent: Indices  # (r,)

    @staticmethod
    def of(values: Array, exponent: Indices | int = 0) -> _Scales:
        mantissa, own = np.frexp(values)
        return _Scales(mantissa, own.astype(np.int64) + exponent)

    @property
    def log2(self) -> Array:
        return np.asarray(np.log2(self.mantissa) + self.exponent)

    def __getitem__(self, index: Indices | slice) -> _Scales:
        return _Scales(self.mantissa[index], self.exponent[index])


@dataclass(frozen=True)
class _Factors:
    """M · diag(scales) = basis · diag(new scales) · mixing, for the directions that are known."""

    basis: Array  # (m, k), orthonormal columns
    scales: _Scales  # (k,)
    mixing: Array  # (k, r): from the old directions to the new
    pivots: Indices  # (k,): the old direction that each new one is nearest to
    lost: int  # directions whose scale is below the rounding noise


class GradedProduct:
    """A_L … A_1 = U · diag(exp d) · T, with orthonormal U, any d, and a well-conditioned T.

    Each stage is multiplied into U, and a QR decomposition of A U, whose relative error in
    every column does not depend on the columns' scales, moves what A stretches into d. Columns
    are pivoted, or sorted beforehand where their scales span too much: the stabilised product
    of determinant quantum Monte Carlo (Loh et al. 1989; Bai, Lee, Li and Xu 2011). The d are
    kept as mantissa and exponent, so that nothing under- or overflows and no rounding of large
    logarithms adds up. Memory does not grow with the number of stages.

    An exactly zero row or column of a stage, and a block of too few rows, costs rank exactly: these
    directions are `dead`. What falls below the rounding noise of its stage is `unresolved`,
    and so is what this noise may hide. Neither is given a number.

    Attributes
    ----------
    width : int
        Directions that the shapes allow: the smallest dimension of any stage.
    rank : int
        Directions with a known scale.
    unresolved : int
        Directions lost to rounding in a stage that is singular to machine precision.
    dead : int
        Directions that exact zeros cut: width - rank - unresolved.

    Examples
    --------
    >>> import numpy as np
    >>> product = GradedProduct()
    >>> for _ in range(1000):
    ...     product.push(np.diag([10.0, 1.0, 0.1]))
    >>> (product.log_singular_values() / np.log(10)).round(9).tolist()
    [1000.0, 0.0, -1000.0]
    """

    def __init__(self) -> None:
        self.width = 0
        self.unresolved = 0
        self._basis: Array | None = None
        self._rows: Array = np.empty((0, 0))
        self._scales = _Scales.of(np.empty(0))

    @property
    def rank(self) -> int:
        """Directions with a known scale."""
        return len(self._rows)

    @property
    def dead(self) -> int:
        """Directions that exact zeros cut."""
        return self.width - self.rank - self.unresolved

    def push(self, stage: ArrayLike) -> None:
        """Multiply by the next stage, from the left.

        Parameters
        ----------
        stage : array_like, shape (m, n)
            n must be the m of the stage before.

        Raises
        ------
        InputError
            If it is no finite matrix, or does not fit the stage before.
        """
        a = np.asarray(stage, dtype=np.float64)
        if a.ndim != 2 or not a.size:
            raise InputError(f"a stage must be a matrix with elements, got shape {a.shape}")
        if self._basis is None:
            self.width = a.shape[1]
            self._basis = self._rows = np.eye(a.shape[1])
            self._scales = _Scales.of(np.ones(a.shape[1]))
        if a.shape[1] != len(self._basis):
            raise InputError(
                f"a stage of shape {a.shape} cannot follow one with {len(self._basis)} outputs"
            )
        largest = np.abs(a).max()
        if not np.isfinite(largest):
            raise InputError("a stage of the product holds NaN or infinite values")
        self.width = min(self.width, len(a))
        exponent = int(np.frexp(largest)[1])
        a = np.ldexp(a, -exponent)
        seen = (a != 0).any(axis=0)
        if not seen.all():  # what no row looks at is cut first, so that it leaves no noise
            self._absorb(np.eye(len(seen))[seen], self._basis)
            a = a[:, seen]
        self._absorb(a, self._basis)
        self._scales = _Scales(self._scales.mantissa, self._scales.exponent + exponent)

    def log_singular_values(self) -> Array:
        """Return log σ of the directions that are known, shape (rank,), descending.

        The graded factor diag(exp d) T is turned once more, which makes it nearly diagonal:
        directions mix like the ratio of their scales. One-sided Jacobi rotations, which keep
        the relative accuracy of graded matrices (Drmač and Veselić 2008, LAPACK's dgejsv), then
        act on windows of at most 240 decades; of each, the middle is kept.
        """
        turned = _factor(self._rows.T, np.abs(self._rows.T), self._scales)
        if turned.lost:
            raise MeasurementError(
                "the directions of the product have become dependent: no scale can be trusted"
            )
        log2 = turned.scales.log2
        order = np.argsort(-log2, kind="stable")
        log2, scales = log2[order], turned.scales[order]
        unit = turned.mixing[np.ix_(order, turned.pivots[order])]
        return _windowed(log2, scales, unit)

    def pull(self, u: ArrayLike) -> tuple[Array, int]:
        """Return Jᵀu as v · 2^k, with the vector v (n,) and the integer k."""
        if self._basis is None or not self.rank:
            return np.zeros(self._rows.shape[1]), 0
        top = int(self._scales.exponent.max())
        along = self._scales.mantissa * (self._basis.T @ np.asarray(u, dtype=np.float64))
        return self._rows.T @ np.ldexp(along, self._scales.exponent - top), top

    def _absorb(self, a: Array, basis: Array) -> None:
        """Multiply by a stage that sees every output of the one before."""
        f = _factor(a @ basis, np.abs(a) @ np.abs(basis), self._scales)
        alive = int((a != 0).any(axis=1).sum())
        possible = min(len(f.pivots) + f.lost + self.unresolved, alive)
        self.unresolved = possible - len(f.pivots)
        self._basis, self._scales = f.basis, f.scales
        self._rows = f.mixing @ self._rows


def _factor(matrix: Array, size: Array, scales: _Scales) -> _Factors:
    """Decompose block by block; blocks that share no row and no column stay apart.

    The entries of the matrix are rounded relative to `size`.
    """
    m, r = matrix.shape
    blocks = list(_blocks(matrix))
    if not blocks:
        nothing = np.empty(0, dtype=np.int64)
        return _Factors(np.empty((m, 0)), scales[nothing], np.empty((0, r)), nothing, 0)
    parts = [_factor_block(matrix[np.ix_(i, j)], size[np.ix_(i, j)], scales[j]) for i, j in blocks]
    ends = np.cumsum([0, *(len(p.pivots) for p in parts)])
    basis, mixing = np.zeros((m, ends[-1])), np.zeros((ends[-1], r))
    for (i, j), p, k in zip(blocks, parts, ends, strict=False):
        own = slice(k, k + len(p.pivots))
        basis[i, own] = p.basis
        mixing[own, j] = p.mixing
    return _Factors(
        basis,
        _Scales(
            np.concatenate([p.scales.mantissa for p in parts]),
            np.concatenate([p.scales.exponent for p in parts]),
        ),
        mixing,
        np.concatenate([j[p.pivots] for (_, j), p in zip(blocks, parts, strict=True)]),
        sum(p.lost for p in parts),
    )


def _blocks(matrix: Array) -> Iterator[tuple[Indices, Indices]]:
    """Rows and columns of the connected blocks of a matrix; zero rows and columns are in none."""
    filled = matrix != 0
    m, r = matrix.shape
    if not filled.any():
        return
    if filled.all(axis=1).any():  # one full row joins all columns
        yield np.flatnonzero(filled.any(axis=1)), np.arange(r)
        return
    i, j = np.nonzero(filled)
    graph = coo_array((np.ones(len(i), dtype=bool), (i, m + j)), shape=(m + r, m + r))
    labels = connected_components(graph, directed=False)[1]
    for label in np.unique(labels[i]):
        yield np.flatnonzero(labels[:m] == label), np.flatnonzero(labels[m:] == label)


def _factor_block(matrix: Array, size: Array, scales: _Scales) -> _Factors:
    columns = size.max(axis=0)
    rows = (size / columns).max(axis=1)
    with np.errstate(divide="ignore"):
        stretched = np.log2(np.abs(matrix)) + scales.log2
    # Large rows first: then small ones keep their own relative accuracy (Cox and Higham 1998).
    # By whole digits: were ties broken by rounding, its errors would add up in long chains.
    down = np.argsort(-np.floor(stretched.max(axis=1) + 0.25), kind="stable")
    stretched = stretched.max(axis=0)
    if np.ptp(stretched) <= _RANGE:
        top = int(stretched.max())
        columns = np.ldexp(columns * scales.mantissa, scales.exponent - top)
        matrix = np.ldexp(matrix * scales.mantissa, scales.exponent - top)
        scales = _Scales(np.ones(len(columns)), np.full(len(columns), top))
        q, r, order = qr(matrix[down], mode="economic", pivoting=True, check_finite=False)
    else:
        order = np.argsort(-stretched, kind="stable")
        q, r = qr(matrix[np.ix_(down, order)], mode="economic", check_finite=False)
    k = len(r)
    diagonal = r.diagonal()
    below = np.maximum.accumulate(rows[down][::-1])[::-1]
    noise = _NOISE * len(matrix) ** 0.5 * columns[order[:k]] * below[:k]
    bad = np.flatnonzero(np.abs(diagonal) <= noise)
    known = int(bad[0]) if len(bad) else k
    r, diagonal, old = r[:known], diagonal[:known], scales[order]
    shift = old.exponent - old.exponent[:known, None]
    mixing = np.zeros((known, len(order)))
    mixing[:, order] = np.where(
        shift > _NOTHING,
        np.ldexp(
            r / diagonal[:, None] * (old.mantissa / old.mantissa[:known, None]),
            np.maximum(shift, _NOTHING),
        ),
        0,
    )
    new = _Scales.of(np.abs(diagonal) * old.mantissa[:known], old.exponent[:known])
    basis = np.empty((len(matrix), known))
    basis[down] = q[:, :known] * np.sign(diagonal)
    return _Factors(basis, new, mixing, order[:known].astype(np.int64), k - known)


def _windowed(log2: Array, scales: _Scales, unit: Array) -> Array:
    """Singular values of diag(scales) · unit, for a unit triangle that fades like the scales."""
    found = np.empty(len(log2))
    top = 0
    while top < len(log2):
        end = int(np.searchsorted(-log2, _RANGE - 2 * _MARGIN - log2[top], side="right"))
        first = int(np.searchsorted(-log2, -log2[top] - _MARGIN))
        last = int(np.searchsorted(-log2, _MARGIN - log2[end - 1], side="right"))
        window = slice(first, last)
        shift = int(log2[top])
        graded = np.ldexp(
            scales.mantissa[window, None] * unit[window, window],
            scales.exponent[window, None] - shift,
        )
        found[top:end] = (_jacobi(graded.T) + shift * np.log(2))[top - first : end - first]
        top = end
    return found


def _jacobi(graded: Array) -> Array:
    """Return log σ of a matrix whose columns differ in scale, with high relative accuracy."""
    # joba=0: well-conditioned times diagonal; 3: no vectors; jobt=1: as it stands.
    sigma, _, _, work, _, info = dgejsv(graded, joba=0, jobu=3, jobv=3, jobt=1)
    if info:
        raise MeasurementError(f"the singular values did not converge (dgejsv returned {info})")
    return np.asarray(np.log(sigma) + np.log(work[0]) - np.log(work[1]))
