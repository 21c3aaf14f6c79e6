"""One part of a network as it was measured: all that theory is told of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isometry.spectrum import Spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interface:
    """How two neighbouring weights lie to each other.

    Attributes
    ----------
    before, after : str
        Names of the two.
    z : float
        Normalised mixed moment of their Grams (`measure.interfaces`): mean 0 and standard deviation
        1 where they are free of each other, positive where large meets large.
    peak : float
        What the two largest eigenvalues have of it, in (0, 1]: how far its tail is from a normal
        one's.
    """

    before: str
    after: str
    z: float
    peak: float


@dataclass(frozen=True, eq=False)
class Matrix:
    """The weight of a part.

    Attributes
    ----------
    name : str
    shape : tuple of int
        (n_out, n_in); of a convolution, n_in counts all offsets of the kernel.
    sigma : ndarray, shape (min(shape),)
        Singular values; of a convolution, those of the kernel as a matrix of that shape, which
        tell how it was drawn and not what it does.
    offsets : int
        Of the kernel, those that are not zero: 1 for a matrix and for a delta kernel.
    kernel : int
        How many offsets the kernel has, zeros among them; 0 of a matrix.
    kurtosis : float
        E w⁴ / (E w²)² of the entries in rows that are not empty: 3 of normal ones, 1.8 of uniform
        ones; NaN where it is not known.
    storage : tuple of int or None
        Place and size in memory, the same for all uses of a weight.
    alike : bool
        Whether it is that matrix at every position, or one such at every frequency: no stride
        within the kernel, and no padding but a circular one.
    bias_variance : float
        Mean square of the biases.
    bias_centred : bool
        Whether their mean is within four standard errors of zero.
    empty : int
        How many rows are zero.
    off : int
        How many units let nothing through at any input of the size that was measured, those of
        empty rows among them.
    interface : Interface or None
        With the weight before it.
    """

    name: str
    shape: tuple[int, int]
    sigma: Array
    offsets: int = 1
    kernel: int = 0
    kurtosis: float = math.nan
    storage: tuple[int, int] | None = None
    alike: bool = True
    bias_variance: float = 0.0
    bias_centred: bool = True
    empty: int = 0
    off: int = 0
    interface: Interface | None = None


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
    inside : tuple of Matrix
        Of a sum, all weights on its ways.
    channels : int
        Of a weight, how many entries it gives each position; 0 where it is none.
    groups : int
        Of a convolution, into how many parts its channels fall.
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
    inside: tuple[Matrix, ...] = ()
    channels: int = 0
    groups: int = 1

    @property
    def positions(self) -> int:
        """How many positions its weight, or the last one inside, acts on alike."""
        channels = self.channels or (self.inside[-1].shape[0] if self.inside else 0)
        return max(1, self.shape[0] // channels) if channels else 1

    @property
    def apart(self) -> int:
        """Into how many matrices its weight falls: groups, and positions that do not meet."""
        alone = self.matrix is not None and self.matrix.offsets == 1
        return self.groups * (self.positions if alone else 1)
