"""The singular values of a convolution with circular padding, frequency by frequency."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from isometry.anatomy import Block
from isometry.measure.interfaces import groups


def symbol(block: Block) -> Tensor | None:
    r"""Return all singular values of a circular convolution of stride 1, or None.

    A circular convolution commutes with shifts, so the Fourier modes f split it into the matrices

        K̂(f) = Σ_o K(o) e^{2πi f·o},    (n_out × n_in),

    one for every place, whose singular values together are those of the whole [1]_.

    Parameters
    ----------
    block : Block
        A weight; None is the answer where it is no such convolution.

    Returns
    -------
    Tensor, shape (min(m, n),) or None

    References
    ----------
    .. [1] Sedghi, Gupta & Long, The singular values of convolutional layers, ICLR 2019.
    """
    kernel = block.kernel
    if kernel is None or not is_circular(block):
        return None
    places, shared = block.point.shape[-(kernel.ndim - 2) :], groups(block)
    examples = block.point.numel() // (places.numel() * kernel.shape[1] * shared)
    grid = _laid_out(kernel.double(), places, steps(block, "dilation", 5, 1))
    modes = torch.fft.fftn(grid, dim=tuple(range(2, grid.ndim)))
    matrices = modes.flatten(2).movedim(2, 0)  # (places, n_out, n_in / groups)
    matrices = matrices.unflatten(1, (shared, -1))
    values: Tensor = torch.linalg.svdvals(matrices)
    return values.flatten().repeat(examples)


def is_circular(block: Block) -> bool:
    """Whether a weight is a convolution of stride 1 with circular padding, and no other."""
    kernel = block.kernel
    if kernel is None or not block.circular:
        return False
    strides, zeros = steps(block, "stride", 3, 1), steps(block, "padding", 4, 0)
    into = kernel.shape[1] * groups(block)
    # Padding of another width would change the number of places.
    same_places = block.shape[0] * into == block.point.numel() * kernel.shape[0]
    return set(strides) == {1} and set(zeros) == {0} and same_places


def _laid_out(kernel: Tensor, places: torch.Size, dilation: tuple[int, ...]) -> Tensor:
    """Put every offset of a kernel at its place on the torus; offsets beyond it wrap around."""
    grid = kernel.new_zeros((*kernel.shape[:2], *places))
    for offset in np.ndindex(*kernel.shape[2:]):
        at = tuple(o * d % p for o, d, p in zip(offset, dilation, places, strict=True))
        grid[(..., *at)] += kernel[(..., *offset)]
    return grid


def steps(block: Block, name: str, place: int, default: int) -> tuple[int, ...]:
    """Return an argument of a convolution, one for each dimension."""
    call, kernel = block.call, block.kernel
    dimensions = 0 if kernel is None else kernel.ndim - 2
    given = call.kwargs.get(name, call.args[place] if len(call.args) > place else default)
    steps = tuple(given) if isinstance(given, tuple | list) else (given,)
    return steps * dimensions if len(steps) == 1 else steps
