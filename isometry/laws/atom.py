"""A point mass of a law of singular values."""

from __future__ import annotations

import math
from typing import NamedTuple

_LOWEST, _HIGHEST = -744.0, 709.0  # log σ whose σ is a number


class Atom(NamedTuple):
    """A point mass of a law of singular values."""

    sigma: float  # location, σ >= 0; at the end of float64's range where σ is beyond it
    mass: float  # in (0, 1]

    @classmethod
    def at(cls, log_sigma: float, mass: float) -> Atom:
        """By log σ; at -inf σ = 0, at any other place neither 0 nor ∞."""
        inside = min(max(log_sigma, _LOWEST), _HIGHEST)
        return cls(0.0 if log_sigma == -math.inf else math.exp(inside), mass)
