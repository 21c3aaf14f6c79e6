"""The truth about a Jacobian: differences alone, since every derivative rule may be wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isometry.jacobian.function import PureFunction
from isometry.jacobian.routes.central_difference import along

_FEW = 256  # inputs with more elements are probed along random directions
_PROBES = 8


@dataclass(frozen=True)
class Truth:
    """J along some directions.

    Attributes
    ----------
    tangents : Tensor, shape (k, n)
        All unit vectors, or a few random ones where the input is large.
    columns : Tensor, shape (k, m)
        J times each of them.
    error : float
        How far two step sizes disagree, relative to the largest entry of `columns`.
    """

    tangents: Tensor
    columns: Tensor
    error: float

    def of_dense(self, jac: Tensor) -> float:
        """Return the error of a dense Jacobian (m, n)."""
        return distance(jac @ self.tangents.T, self.columns.T)

    def of_rows(self, u: Tensor, rows: Tensor) -> float:
        """Return the error of rows (k, n) for cotangents (k, m)."""
        return distance(rows @ self.tangents.T, u @ self.columns.T)

    def mixed(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return tangents and columns combined by weights (k', k)."""
        return weights @ self.tangents, weights @ self.columns


def by_differences(f: PureFunction, x: Tensor, *, seed: int = 0) -> Truth:
    """Take central differences with Richardson extrapolation, direction by direction.

    Parameters
    ----------
    f : callable
        The same function at every call.
    x : Tensor
        The point; in float32 the error is about a thousandth.
    seed : int
        Seed of the directions, where not all are taken.
    """
    n = x.numel()
    tangents = torch.eye(n, dtype=x.dtype, device=x.device)
    if n > _FEW:
        tangents = gaussian(_PROBES, n, like=x, seed=seed)
        tangents /= tangents.norm(dim=1, keepdim=True)  # a long one crosses kinks
    found = [along(f, x, v.reshape(x.shape)) for v in tangents]
    columns = torch.stack([column.flatten().to(x.dtype) for column, _ in found])
    gap, largest = max(error for _, error in found), float(columns.abs().max())
    return Truth(tangents, columns, gap / largest if largest > 0 else gap)


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest entry expected."""
    gap, size = float((found - expected).abs().max()), float(expected.abs().max())
    if gap == 0:
        return 0.0
    return gap / size if size > 0 else float("inf")


def gaussian(*shape: int, like: Tensor, seed: int) -> Tensor:
    """Draw the same numbers for every device."""
    g = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64, device="cpu").to(like)
