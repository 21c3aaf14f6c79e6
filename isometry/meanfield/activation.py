"""What mean-field theory needs to know of an activation function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from isometry.domain import Array

Pointwise = Callable[[Array], Array]


class ClosedForm(Protocol):
    """Gaussian moments of an activation φ that are known exactly.

    u, u_1 and u_2 are centred Gaussians; u has variance q, the other two have variances
    q_1 and q_2 and correlation c.
    """

    def second_moment(self, q: float) -> float:
        """E φ(u)²."""

    def response(self, q: float) -> float:
        """Derivative of E φ(u)² with respect to q."""

    def slope_moment(self, q: float, k: int) -> float:
        """E φ'(u)^{2k}."""

    def pair(self, q1: float, q2: float, c: float) -> float:
        """E φ(u_1) φ(u_2)."""

    def slope_pair(self, q1: float, q2: float, c: float) -> float:
        """E φ'(u_1) φ'(u_2)."""

    def gap(self, q: float, apart: float) -> float:
        """E φ(u_1)² - E φ(u_1) φ(u_2) at q_1 = q_2 = q and c = 1 - apart, exact as apart → 0."""


@dataclass(frozen=True, eq=False)
class Activation:
    """A pointwise nonlinearity φ as data.

    Two activations are equal only when they are one object, which makes them keys of caches.

    Parameters
    ----------
    name
        As in the catalogue, or made up from a callable.
    function, derivative
        φ and φ', both from an array to an array of its shape. At a kink φ' may be either
        one-sided value: a kink has probability 0.
    kinks
        Where φ, φ' or φ'' is not smooth, increasing: quadrature splits there.
    slopes
        For a piecewise linear φ, its slopes left to right, one more than there are kinks.
    odd
        Whether φ(-h) = -φ(h), so that φ'² is even.
    closed
        Moments in closed form; None leaves them to quadrature.
    period
        Of φ'², where it has one: at a large variance its phase is uniform.
    panels
        For a φ that came from a callable, ends of the panels on which it is a polynomial to
        rounding: quadrature ends panels there, goes no further and is checked against a
        finer one. None for the others, whose functions bend on the scale of 1.
    """

    name: str
    function: Pointwise
    derivative: Pointwise
    kinks: tuple[float, ...] = ()
    slopes: tuple[float, ...] | None = None
    odd: bool = False
    closed: ClosedForm | None = None
    period: float | None = None
    panels: tuple[float, ...] | None = None

    @property
    def homogeneous(self) -> tuple[float, float] | None:
        """Slopes on the left and the right of 0 where φ(λh) = λ φ(h) for λ > 0, else None."""
        if self.slopes is None or self.kinks not in ((), (0.0,)) or self.at_zero != 0.0:
            return None
        return self.slopes[0], self.slopes[-1]

    @property
    def at_zero(self) -> float:
        """φ(0)."""
        return float(self.function(np.zeros(1))[0])

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"
