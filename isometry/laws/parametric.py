"""Laws whose spectral curve has an explicit parameter: a map is inverted, no equation solved."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isometry.domain import Array
from isometry.laws.law import Law
from isometry.laws.monotone import invert

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


class Curve(NamedTuple):
    """The boundary of the spectrum in the plane of m(z), at some values of the parameter."""

    log_x: Array  # decreasing along the parameter
    slope: Array  # d log x / d parameter, negative
    density: Array  # of log x
    survival: Array  # P(X > x), an atom above included


class ParametricLaw(Law):
    """A law given by x(p), density(p) and P(X > x(p)) for a parameter p."""

    log_scale: float
    #: open interval of the parameter, from the upper edge to the lower one
    _interval: tuple[float, float]

    @abstractmethod
    def _curve(self, parameter: Array) -> Curve:
        """At unit scale."""

    def density(self, log_sigma: ArrayLike) -> Array:
        """Twice the density of log x."""
        s = np.asarray(log_sigma, dtype=float)
        inside, p = self._parameter(s)
        out = np.where(np.isnan(s), np.nan, 0.0)
        out[inside] = 2.0 * self._curve(p).density
        return out

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """From the free log-determinant, which needs no integral."""
        s = np.asarray(log_sigma, dtype=float)
        inside, p = self._parameter(s)
        top = sum(mass for _, mass in self.log_atoms)
        out = np.where(np.isnan(s), np.nan, np.where(s >= self.support[1], 1.0 - top, 0.0))
        out[inside] = np.clip(1.0 - self._curve(p).survival, 0.0, 1.0)
        for here, _ in self.log_atoms:
            out = np.where(s >= here - 1e-12 * (1 + abs(here)), 1.0, out)
        return np.asarray(out)

    @cached_property
    def _quadrature(self) -> tuple[Array, Array]:
        low, high = self._interval
        half = 0.5 * (high - low)
        c = self._curve(low + half * (1 + _NODES))
        at, mass = self._alive_atoms
        log_x = np.concatenate([c.log_x + 2 * self.log_scale, at])
        return log_x, np.concatenate([-c.density * c.slope * half * _WEIGHTS, mass])

    def _parameter(self, log_sigma: Array) -> tuple[NDArray[np.bool_], Array]:
        """Which points lie inside the support, and their parameters."""
        lowest, highest = self.support
        with np.errstate(invalid="ignore"):
            inside = (log_sigma > lowest) & (log_sigma < highest)
        target = -2.0 * (log_sigma[inside] - self.log_scale)

        def rising(p: Array) -> tuple[Array, Array]:
            c = self._curve(p)
            return -c.log_x, -c.slope

        low, high = (np.full(target.shape, end) for end in self._interval)
        return inside, invert(rising, target, low, high, tolerance=1e-14)
