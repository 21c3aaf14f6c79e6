"""Random numbers and matrices for a weight."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from isometry.init.layout import Layout


def entries(
    law: Literal["normal", "uniform"],
    shape: tuple[int, ...],
    like: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw from N(0, 1), or from U(0, 1), in float32, or in float64 for a weight in float64.

    They are drawn where the generator is, so that a generator on the CPU gives the same numbers
    to every device. For the meta device nothing is drawn.
    """
    dtype = torch.float64 if like.dtype is torch.float64 else torch.float32
    if like.is_meta:
        return torch.empty(shape, dtype=dtype, device="meta")
    place = like.device if generator is None else generator.device
    draw = torch.randn if law == "normal" else torch.rand
    return draw(shape, generator=generator, dtype=dtype, device=place).to(like.device)


def haar(shape: tuple[int, int, int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    r"""Draw (count, rows, columns) matrices Q, uniform on those with all singular values 1.

        A = Q R,    A_{ij} \sim N(0, 1),    R_{ii} > 0,

    with QᵀQ = 1 for rows >= columns and QQᵀ = 1 otherwise. Only with R_ii > 0 is the
    factorisation unique and Q uniform; libraries return either sign.

    References
    ----------
    Mezzadri 2007, "How to generate random matrices from the classical compact groups".
    """
    if like.is_meta:
        return torch.empty(shape, dtype=like.dtype, device="meta")
    count, rows, columns = shape
    long, short = max(rows, columns), min(rows, columns)
    q, r = torch.linalg.qr(entries("normal", (count, long, short), like, generator))
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q)
    q = torch.mul(q, signs.unsqueeze(-2))
    return q if rows >= columns else q.mT


def at_centre(matrices: Tensor, shape: Layout) -> Tensor:
    """Return kernels that are zero but for a matrix at their centre, the offset (k-1)//2."""
    kernel = matrices.new_zeros(*matrices.shape, *shape.offsets)
    centre: Any = (..., *((k - 1) // 2 for k in shape.offsets))
    kernel[centre] = matrices
    return kernel
