"""One part of a network as it was measured: all that theory is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isometry.spectrum import Spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matrix:
    """The weight of a part.

    Attributes
    ----------
    shape : tuple of int
        (n_out, n_in); of a convolution, n_in counts all offsets of the kernel.
    sigma : ndarray, shape (min(shape),)
        Singular values; of a convolution, those of the kernel as a matrix of that shape, which
        tell how it was drawn and not what it does.
    offsets : int
        Of the kernel, those that are not zero: 1 for a matrix and for a delta kernel.
    bias_variance : float
        Mean square of the biases.
    bias_centred : bool
        Whether their mean is within four standard errors of zero.
    """

    shape: tuple[int, int]
    sigma: Array
    offsets: int = 1
    bias_variance: float = 0.0
    bias_centred: bool = True


@dataclass(frozen=True, eq=False)
class Part:
    """One block on the way from the input to the output.

    Attributes
    ----------
    name : str
    kind : str
        As `anatomy.Block` has it.
    shape : tuple of int
        (m, n) of its Jacobian.
    spectrum : Spectrum
        Its own singular values, over the min(m, n) directions that its shape allows.
    before, after : float
        Mean square of what comes in and goes out.
    matrix : Matrix or None
        Of a weight.
    activation : str or callable, optional
        Of an activation that is one function of every entry.
    slopes : ndarray or None
        Of an activation that leaves every entry in its place, the slope of each.
    branch : Spectrum or None
        Of a sum x + F(x), the singular values of F alone.
    ways : tuple of tuple of Part
        Of a sum, the parts of either way, () for the skip; left out where they are more than
        weights, activations and sums.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    spectrum: Spectrum
    before: float = 1.0
    after: float = 1.0
    matrix: Matrix | None = None
    activation: str | Callable[[Array], Array] | None = None
    slopes: Array | None = None
    branch: Spectrum | None = None
    ways: tuple[tuple[Part, ...], ...] = ()

    @property
    def positions(self) -> int:
        """How many positions its weight acts on alike."""
        return max(1, self.shape[0] // self.matrix.shape[0]) if self.matrix else 1
