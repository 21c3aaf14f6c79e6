"""What every limiting law of singular values offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Atom(NamedTuple):
    """A point mass of a law of singular values."""

    sigma: float  # location, σ >= 0
    mass: float  # in (0, 1]


class Law(ABC):
    """Limiting law of the singular values σ of a random matrix.

    The law is a probability measure on σ >= 0. It is the sum of point masses
    (`atoms`, the one at σ = 0 included) and of an absolutely continuous part whose
    density is given per unit of the natural logarithm of σ. With x = σ² an eigenvalue
    of J Jᵀ, log σ = ½ log x, so a density per unit log σ is twice that per unit log x.
    """

    #: what the law is and what it assumes, for a figure's legend
    name: str

    @property
    @abstractmethod
    def atoms(self) -> tuple[Atom, ...]:
        """Point masses in increasing order of σ; empty when there are none."""

    @property
    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Edges (lowest, highest) of log σ over the continuous part; -inf when it reaches σ = 0.

        For a purely atomic law, the lowest and highest log σ of its atoms with σ > 0.
        """

    @abstractmethod
    def density(self, log_sigma: ArrayLike) -> Array:
        """Density of log σ, atoms excluded; integrates to 1 minus the mass of the atoms."""

    @abstractmethod
    def cdf(self, log_sigma: ArrayLike) -> Array:
        """P(log σ <= log_sigma), atoms included; right-continuous, tends to P(σ = 0) at -inf."""

    @property
    @abstractmethod
    def mean_log_sigma(self) -> float:
        """E[log σ | σ > 0]."""

    @property
    @abstractmethod
    def std_log_sigma(self) -> float:
        """Standard deviation of log σ given σ > 0."""

    @property
    @abstractmethod
    def score(self) -> float:
        """Isometry score I = E[2 / (σ² + σ⁻²)] = E[sech(2 log σ)], zeros contributing 0."""
