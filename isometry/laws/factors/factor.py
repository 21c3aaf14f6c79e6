"""What a free product asks of its factors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from isometry.domain import Array, positive
from isometry.errors import TheoryError
from isometry.laws.share import Numbers, Share

#: values this close, relatively, are one: a matrix is orthogonal to rounding error only
_SAME = 1e-12
#: beside the largest, values below this are 0: their inverses overflow
_SMALLEST = 1e-290
#: less mass at 0 than this is a value of a quadrature that underflowed, not a rank that is lost
_UNDERFLOW = 1e-15


class Eigenspace(NamedTuple):
    """A point mass of a factor's own law, away from zero."""

    log_x: float
    dimension: float
    place: int  # for the factor's own use


class Factor(ABC):
    """A random matrix that is free of its neighbours, in the limit of large dimensions.

    Dimensions are real numbers: only their ratios count. The unnormalised moment transform of
    a factor, t = Tr X (z - X)⁻¹ with X = A Aᵀ, has an inverse χ(t), and for a product with
    interfaces of dimensions n_j, by the multiplicativity of the S-transform,

        z(t) = Π_l χ_l(t) Π_j t / (n_j + t).

    A factor says its χ through `log_scale` and `powers` where χ has a closed form. Where χ is
    itself the root of an equation a `Hidden` has it, for that factor or for several of a kind.
    """

    rows: float
    columns: float

    @property
    def parts(self) -> tuple[Factor, ...]:
        """What stands for it in a product: itself, or several factors free of each other."""
        return (self,)

    @property
    @abstractmethod
    def rank(self) -> float:
        """Dimension of the space that the factor does not annihilate."""

    @property
    @abstractmethod
    def log_scale(self) -> float:
        """Constant part of log(χ t)."""

    @property
    def powers(self) -> tuple[float, ...]:
        """The n_k in log(χ t) = log_scale + Σ_k log(n_k + t); none where χ is hidden."""
        return ()

    @property
    def eigenspaces(self) -> tuple[Eigenspace, ...]:
        """Point masses at x > 0, in increasing order of x; none where the law is continuous."""
        return ()

    @property
    def largest_eigenspace(self) -> Eigenspace | None:
        """The first of those of the largest dimension."""
        return max(self.eigenspaces, key=lambda space: space.dimension, default=None)


class Block(NamedTuple):
    """One Newton step of hidden factors, as a function of the step in a.

    Hidden unknowns move by `correction + response da`; log(-χ), summed over the factors, is
    `value + slope da` after it.
    """

    value: Numbers  # (n,)
    slope: Numbers  # (n,)
    correction: Numbers  # (h, n)
    response: Numbers  # (h, n)
    blur: Array | float  # (h, n) rounding error of the correction
    error: Array | float  # (n,) rounding error of the value, beyond that of the unknowns' own size


class Hidden(ABC):
    """One or more factors of one rank whose χ(t) are roots of equations with unknowns."""

    #: lowest and highest imaginary part of each unknown, for z in the upper half plane
    strips: tuple[tuple[float, float], ...]

    #: logit(-t / rank) up to which the unknowns can be resolved on the negative axis
    reach: float = math.inf

    @abstractmethod
    def linearise(self, unknowns: Numbers, share: Share) -> Block:
        """Linearise the equation at the unknowns, shape (h, n), and at a share of the rank."""

    @abstractmethod
    def start(self, share: Share) -> Array:
        """Good guesses of the unknowns on the negative axis, where `share` is real; (h, n)."""

    def surely(self, share: Share) -> Array:
        """The same, slowly, where Newton's method does not get from there to the unknowns."""
        return self.start(share)

    @abstractmethod
    def branch(self, share: Share, side: int, places: Mapping[Factor, int] | None) -> Numbers:
        """Good guesses of the unknowns on the positive axis, in a gap of the spectrum; (h, n).

        There t is real, positive for side = 1 and below -rank for side = -1. Without places
        the gap is the one above (1) or below (-1) the whole spectrum, else the one on that
        side of the eigenspaces with those places.
        """

    @abstractmethod
    def log_determinant(self, unknowns: Numbers, share: Share) -> Numbers:
        """E log(1 - x/z) per dimension of the rank, at z = χ, summed over the factors."""

    @abstractmethod
    def series(self, order: int) -> Array:
        """Coefficients of Σ log(χ t) in powers of t / rank around t = 0, shape (order,)."""


def fits(label: str, value: object, largest: float) -> float:
    """`value` as a float in (0, largest]."""
    number = positive(label, value)
    if number > largest * (1 + 1e-12):
        raise TheoryError(f"{label} is {value!r}; expected at most {largest:g}")
    return min(number, largest)


def distribution(values: object, weights: object) -> tuple[Array, Array]:
    """Distinct increasing values >= 0 with weights that add up to 1, both checked.

    Values whose inverse would overflow beside the largest are taken as 0.

    Raises
    ------
    TheoryError
        When shapes differ, a number is negative or not finite, the weights do not add up to
        1 within 1e-9, or there is no mass at values > 0.
    """
    x = np.array(values, dtype=float)
    w = np.full(x.shape, 1.0 / max(x.size, 1)) if weights is None else np.array(weights, float)
    if x.ndim != 1 or x.shape != w.shape or x.size == 0:
        raise TheoryError(
            f"values have shape {x.shape} and weights {w.shape}; expected the same (k,) twice"
        )
    for label, numbers in (("values", x), ("weights", w)):
        bad = numbers[~(np.isfinite(numbers) & (numbers >= 0))]
        if bad.size:
            raise TheoryError(f"{label} hold {bad[0]}; expected finite numbers >= 0")
    if abs(w.sum() - 1.0) > 1e-9:
        raise TheoryError(f"the weights add up to {w.sum():.12g}; expected 1: divide by their sum")
    if not (w[x > 0] > 0).any():
        raise TheoryError("the law has no mass at values > 0; expected some")
    x = np.where(x < _SMALLEST * x.max(), 0.0, x)
    order = np.argsort(x)
    x, w = x[order], w[order]
    first = np.append(0, 1 + np.flatnonzero(x[1:] - x[:-1] > _SAME * x[1:]))
    if first.size < x.size:
        total = np.add.reduceat(w, first)
        x, w = np.add.reduceat(w * x, first) / np.where(total > 0, total, 1.0), total
    if w[0] < _UNDERFLOW and x[0] == 0:
        w[0] = 0.0
    return x[w > 0], w[w > 0] / w.sum()
