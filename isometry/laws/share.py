"""The moment transform in the coordinates of the solver."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: real on the negative axis, complex elsewhere: one code for both
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Share:
    """μ = -t / n for one dimension n, and 1 - μ, both to full relative precision.

    The solver's unknown is a = logit(-t / r) = logit u, where r is the rank of the product. With
    f = r / n <= 1, μ = f u and 1 - μ = (1 - f) + f (1 - u). In the upper half plane of z, a is in
    the strip 0 < Im a < π, μ above the real axis and 1 - μ below; the logarithms are continued
    from there to the boundary.
    """

    mu: Numbers
    rest: Numbers  # 1 - μ
    log_mu: Numbers
    log_rest: Numbers
    slope_mu: Numbers  # d log μ / da
    slope_rest: Numbers  # d log(1 - μ) / da

    def of(self, fraction: float, complement: float) -> Share:
        """The same t as a share of a dimension n = r / fraction, given also 1 - fraction.

        `self` is the share of r itself, u = -t / r.
        """
        if complement == 0.0:
            return self
        mu = fraction * self.mu
        rest = complement + fraction * self.rest
        slope = -mu * self.rest / rest
        log_mu = self.log_mu + math.log(fraction)
        return Share(mu, rest, log_mu, sided_log(rest, -1), self.slope_mu, slope)

    @property
    def real(self) -> Share:
        """Its real parts."""
        fields = (self.mu, self.rest, self.log_mu, self.log_rest, self.slope_mu, self.slope_rest)
        return Share(*(field.real for field in fields))


def share_of_rank(a: Numbers) -> Share:
    """u = logistic(a) and its relatives."""
    right = a.real >= 0
    e = np.exp(np.where(right, -a, a))
    large, small, shared = 1.0 / (1.0 + e), e / (1.0 + e), np.log1p(e)
    u, rest = np.where(right, large, small), np.where(right, small, large)
    log_u, log_rest = np.where(right, 0.0, a) - shared, np.where(right, -a, 0.0) - shared
    return Share(u, rest, log_u, log_rest, rest, -u)


def sided_log(w: Numbers, side: Numbers | int) -> Numbers:
    """log w of a w whose imaginary part has the sign `side`, or is 0, but for rounding."""
    if np.iscomplexobj(w):
        found = np.empty_like(w)  # several times as fast as a complex logarithm
        found.real, found.imag = np.log(np.abs(w)), np.arctan2(np.copysign(w.imag, side), w.real)
        return found
    return np.asarray(np.log(w))
