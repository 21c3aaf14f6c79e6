"""Block Golub–Kahan bidiagonalisation with full reorthogonalisation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isometry.errors import MeasurementError
from isometry.measure.linear_map import LinearMap

Array = NDArray[np.float64]

# What is left of a block after orthogonalisation is rounding below this many eps·σ_max.
ROUNDING = 8.0
# Directions larger than this share of σ_max lose no more than a second sweep gives back.
_CLEAR = 1e-4


class Ritz(NamedTuple):
    """Singular values of the projected matrix B, one for each of the N columns of V.

    Attributes
    ----------
    values : ndarray, shape (N,), descending
        Estimates of singular values of A: never above the largest.
    residuals : ndarray, shape (N,)
        Within so much of each value there is a singular value of A (√2 times less, in fact).
    weights : ndarray, shape (b, N)
        Of each starting vector in the direction of each value, squared; rows add up to 1.
    """

    values: Array
    residuals: Array
    weights: Array


class Bidiagonalisation:
    """B = Uᵀ A V on the Krylov space of a starting block, grown by a block at each step.

    After k steps A V_k = U_k B_k and Aᵀ U_k = V_k B_kᵀ + W S Eᵀ, with orthonormal U_k and V_k,
    B_k block upper bidiagonal and W the next block of V. A itself is bidiagonalised: AᵀA would
    hide every σ below √eps·σ_max (Golub and Kahan 1965; in blocks, Golub, Luk and Overton 1981).

    Directions that are exhausted leave the block: what remains after orthogonalisation is compared
    with eps·σ_max, and dropped where it is no more than rounding. On an isometry nothing
    remains after the first step.

    Parameters
    ----------
    a : LinearMap
        Of shape (m, n).
    start : Tensor, shape (n, b)
        With orthonormal columns.
    steps : int
        Room is made for so many blocks.

    Attributes
    ----------
    width : int
        Columns of the starting block.
    products : int
        Vectors that A or Aᵀ was applied to.
    """

    def __init__(self, a: LinearMap, start: Tensor, steps: int) -> None:
        self.a = a
        self.width = start.shape[1]
        # In double precision throughout: orthogonality costs nothing beside a product.
        wide = torch.float64 if start.device.type != "mps" else torch.float32
        rooms = min(steps * self.width, *a.shape) + self.width
        self._v = _Basis(a.shape[1], min(rooms, a.shape[1]), wide, start.device)
        self._u = _Basis(a.shape[0], min(rooms, a.shape[0]), wide, start.device)
        self._diagonal: list[Array] = []
        self._beyond: list[Array] = []
        self._eps = float(torch.finfo(a.dtype).eps)
        self._scale = 0.0
        self._next: Tensor | None = start.to(wide)
        self.products = 0

    @property
    def steps(self) -> int:
        """How many blocks there are."""
        return len(self._diagonal)

    @property
    def exhausted(self) -> bool:
        """Whether the Krylov space is invariant under AᵀA: no further step adds to it."""
        return self._next is None

    @property
    def dimension(self) -> int:
        """Columns of V."""
        return self._v.size

    def step(self) -> None:
        """Add a block: one product with A and one with Aᵀ."""
        if self._next is None:
            return
        block, self._next = self._next, None
        self._v.append(block)
        image = self._product(self.a, block)
        left, diagonal = self._remainder(image, self._u)
        self._diagonal.append(diagonal)
        if not left.shape[1]:
            return
        self._u.append(left)
        image = self._product(self.a.T, left)
        new, beyond = self._remainder(image, self._v)
        if new.shape[1]:
            self._next = new
            self._beyond.append(beyond)

    def ritz(self) -> Ritz:
        """Return the singular values of B, with what they say of those of A."""
        left, values, right = np.linalg.svd(self.matrix())
        values = np.concatenate([values, np.zeros(len(right) - len(values))])
        residuals = np.zeros(len(right))
        if self._next is not None:  # Aᵀu - σ v = W S u, u's last entries
            last = left[-self._beyond[-1].shape[1] :]
            residuals[: last.shape[1]] = np.linalg.norm(self._beyond[-1] @ last, axis=0)
        # In the order that a checkpoint brings back: sums depend on it in their last digit.
        weights = np.ascontiguousarray(right[:, : self.width].T ** 2)
        return Ritz(values, residuals, weights)

    def matrix(self) -> Array:
        """Return B, of as many rows as U has columns."""
        rows = np.cumsum([0, *(d.shape[0] for d in self._diagonal)])
        columns = np.cumsum([0, *(d.shape[1] for d in self._diagonal)])
        b = np.zeros((rows[-1], columns[-1]))
        for i, diagonal in enumerate(self._diagonal):
            b[rows[i] : rows[i + 1], columns[i] : columns[i + 1]] = diagonal
        for i, beyond in enumerate(self._beyond[: self.steps - 1]):
            b[rows[i] : rows[i + 1], columns[i + 1] : columns[i + 2]] = beyond.T
        return b

    def _product(self, a: LinearMap, block: Tensor) -> Tensor:
        self.products += block.shape[1]
        return (a @ block.to(self.a.dtype)).to(block.dtype)

    def _remainder(self, image: Tensor, basis: _Basis) -> tuple[Tensor, Array]:
        """Split what is orthogonal to a basis into orthonormal columns and their coefficients."""
        rest, share = basis.complement(image)
        columns, r = torch.linalg.qr(rest)
        both = torch.cat([share, r]).double().cpu().numpy()  # waits for the device once
        if not np.all(np.isfinite(both)):
            raise MeasurementError(
                "a product with the Jacobian is not finite: look for overflow in the backward or "
                "forward pass, or measure in float64"
            )
        coefficients = both[len(share) :]
        self._scale = max(self._scale, float(np.linalg.norm(both, 2)))  # that of the image
        if float(np.linalg.norm(coefficients, -2)) > _CLEAR * self._scale:
            columns, _ = basis.complement(columns)  # once is not enough in floating point
            return columns, coefficients
        return self._near_breakdown(rest, basis)

    def _near_breakdown(self, rest: Tensor, basis: _Basis) -> tuple[Tensor, Array]:
        """Of a block of which a part may be nothing but rounding, keep what is not."""
        q, r = torch.linalg.qr(basis.complement(rest)[0])
        left, sizes, right = torch.linalg.svd(r)
        rank = int((sizes > ROUNDING * self._eps * self._scale).sum())
        rank = min(rank, basis.free)
        coefficients = sizes[:rank, None] * right[:rank]
        # Columns that are small beside others are orthogonal to these, not yet to the basis.
        columns = q @ left[:, :rank]
        for _ in range(2):
            columns, _ = basis.complement(columns)
        columns, turn = torch.linalg.qr(columns)
        return columns, (turn @ coefficients).double().cpu().numpy()


class _Basis:
    """Orthonormal vectors as the rows of one array, so that projections are two products."""

    def __init__(self, length: int, room: int, dtype: torch.dtype, device: torch.device) -> None:
        self.rows = torch.empty(room, length, dtype=dtype, device=device)
        self.size = 0

    @property
    def free(self) -> int:
        """Directions of the whole space that are not in the basis yet."""
        return self.rows.shape[1] - self.size

    def append(self, block: Tensor) -> None:
        """Add columns orthonormal to all before."""
        end = self.size + block.shape[1]
        if end > len(self.rows):
            self.rows = torch.cat([self.rows, self.rows.new_empty(self.rows.shape)])
        self.rows[self.size : end] = block.T
        self.size = end

    def complement(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Take the projection onto the basis away; return also its coefficients."""
        held, rows = self.rows[: self.size], block.T  # thin products are fastest row by row
        share = rows @ held.T
        return (rows - share @ held).T, share.T
