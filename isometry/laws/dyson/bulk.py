"""The continuous part of the law of a Dyson equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isometry.domain import Array
from isometry.laws.dyson.axis import Axis
from isometry.laws.dyson.equation import DysonEquation
from isometry.laws.dyson.polar import REAL_AXIS, solve

_EPS = float(np.finfo(float).eps)
_DROWNED = 1e-6  # how near to an atom the density beside it is lost in rounding error
#: an edge is first bracketed by the mass beyond it, then found from the density
_BRACKET = 1e-6
_CLOSEST = 1e-9  # of an edge to the mean of log σ
_EDGE_MASS = 1e-11  # what a bracket of an edge may leave outside, for each weight of the network


@dataclass(frozen=True)
class Bulk:
    """What is left of a law without its atoms."""

    equation: DysonEquation
    axis: Axis
    rank: float  # r, that the widths allow
    zero: float  # mass at σ = 0
    skipped: Mapping[float, float]  # log σ and mass of the other atoms
    weights: int  # how many the network has

    @property
    def mass(self) -> float:
        """Of all of it."""
        return 1.0 - self.zero - sum(self.skipped.values())

    def at(self, s: Array) -> tuple[Array, Array]:
        """Mass of the continuous part below s, and its density there.

        z has a small angle, under which an atom is seen as a Lorentzian: it is subtracted.
        """
        q, u = solve(self.equation, self.axis, 2.0 * s)
        survival = self.equation.log_determinant(q, u).imag / (np.pi * self.rank)
        t = self.equation.trace(q, u) / self.rank
        drowned = np.zeros(s.shape, dtype=bool)
        for place, mass in self.skipped.items():
            away = 2.0 * (s - place) + 1j * REAL_AXIS
            survival = survival - mass / np.pi * np.angle(-np.expm1(-away))
            t = t - mass / np.expm1(away)
            drowned |= np.abs(s - place) < _DROWNED
        density = np.maximum(-2.0 / np.pi * t.imag, 0.0)
        below = np.clip(self.mass - survival, 0.0, self.mass)
        if np.any(drowned):
            aside, density[drowned] = self.at(s[drowned] + 2.0 * _DROWNED)
            below[drowned] = aside - 2.0 * _DROWNED * density[drowned]
        return below, density

    def edge(self, inner: float, outer: float, mean: float, width: float) -> float:
        """The end of it nearer to `outer`; all of it lies in between.

        `mean` and `width` are the mean and the standard deviation of log σ.
        """
        upper, width = outer > inner, max(width, _CLOSEST)
        bracket = _BRACKET * min(1.0, 100.0 * width)
        allowed = self.weights * _EDGE_MASS + _EPS / width**2  # a narrow law is known less well
        while abs(outer - inner) > bracket:
            at = np.linspace(inner, outer, 18)
            mass = self.at(at)[0]
            # a small angle of z blurs the law: that much of it seems to be outside
            blur = REAL_AXIS / np.maximum(np.abs(at - mean), _CLOSEST)
            beyond = (self.mass - mass if upper else mass) <= allowed + blur
            beyond[0], beyond[-1] = False, True
            k = int(np.argmax(beyond))
            inner, outer = float(at[k - 1]), float(at[k])
        # where the density vanishes like a square root, its square is a straight line
        edge, reach = outer, outer - inner
        for distance in (reach, 0.1 * reach):
            at = edge - distance * np.array([4.0, 2.0])
            far, near = self.at(at)[1] ** 2
            if not 0.0 < near < far:
                return outer
            edge = float(at[1] + (at[1] - at[0]) * near / (far - near))
        return edge if abs(edge - outer) <= 2.0 * bracket else outer
