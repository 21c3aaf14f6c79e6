"""The solution of a Dyson equation on the negative axis of z, where everything is real."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.laws.dyson.equation import DysonEquation
from isometry.laws.dyson.newton import newton, require, tangent

_STEP = 0.5  # of log q
_MAX_KNOTS = 20_000
#: parts of the rank that are left unresolved at the ends
_FIRST, _LAST = 1e-12, 1e-8


@dataclass(frozen=True)
class Axis:
    """The solution on the negative axis of z, at equidistant log q.

    Attributes
    ----------
    log_q : (knots,) array
        -log(-z), increasing.
    unknowns : (knots, ports) array
        γ and γ̂, all > 0.
    slopes : (knots, ports) array
        Derivatives of log γ and log γ̂ in log q.
    reached : (knots,) array
        P = -Tr x/(z-x) / rank, from nearly 0 to nearly 1.
    growth : (knots,) array
        dP / d log q.
    """

    log_q: Array
    unknowns: Array
    slopes: Array
    reached: Array
    growth: Array

    @property
    def exponent(self) -> float:
        """β of P(x < ε | x > 0) ~ ε^β as ε tends to 0; 1 also where x stays away from 0."""
        return float(self.growth[-1] / (1.0 - self.reached[-1]))

    def at(self, log_q: Array) -> Array:
        """An approximation between the knots, for Newton's method to start from."""
        spline = CubicHermiteSpline(self.log_q, np.log(self.unknowns), self.slopes)
        return np.asarray(np.exp(spline(log_q)))

    def log_moments(self) -> tuple[float, float]:
        """Mean and variance of log x given x > 0.

        1 - P is the distribution function of log x plus an independent logistic variable,
        whose mean is 0 and whose variance is π²/3, at log(-z). The trapezoid rule
        converges geometrically; beyond the axis P and 1 - P are powers of q.
        """
        beyond = _STEP * np.arange(1.0, 40.0 / (_STEP * self.exponent))
        above = _STEP * np.arange(1.0, 40.0 / _STEP)
        s = np.concatenate(
            [above - self.log_q[0], -self.log_q, -beyond - self.log_q[-1]],
        )
        weight = _STEP * np.concatenate(
            [
                self.growth[0] * np.exp(-above),
                self.growth,
                self.growth[-1] * np.exp(-self.exponent * beyond),
            ]
        )
        mean = float(weight @ s)
        return mean, float(weight @ (s - mean) ** 2) - math.pi**2 / 3.0

    def score_beyond(self) -> float | None:
        """E[2 / (x + 1/x) | x > 0] where 1 lies beyond the axis; None where it does not.

        There nearly all x are below or above 1, and 1 - P or P is a power of q.
        """
        if self.log_q[0] > 0:
            return float(2.0 * self.reached[0] * np.exp(-self.log_q[0]))
        if self.log_q[-1] < 0:
            rest = (1.0 - self.reached[-1]) * np.exp(self.exponent * self.log_q[-1])
            return float(2.0 * np.sin(0.5 * np.pi * self.exponent) * rest)
        return None


def negative_axis(equation: DysonEquation, rank: float) -> Axis:
    """March from z = -∞, where signals only add up, to z = 0, where all of the rank is resolved.

    Parameters
    ----------
    equation
        What to solve.
    rank
        -Tr x/(z-x) at z = 0: the rank of J.

    Raises
    ------
    TheoryError
        When a step fails, or the rank is not the one given.
    """
    u = equation.variances()
    log_q = math.log(_FIRST * rank / (equation.width * u[0, equation.output]))
    knots: list[tuple[float, Array, Array, float, float]] = []
    while not knots or knots[-1][3] < 1.0 - _LAST:
        q = np.exp([log_q])
        u, solved = newton(equation, q, u, np.abs(u))
        if not (solved[0] and np.all(u > 0)):
            left = 1.0 - knots[-1][3] if knots else 1.0
            raise TheoryError(
                f"float64 does not resolve the Dyson equation below log σ = {-0.5 * log_q:.3g}, "
                f"where {left:.2g} of the law is left; expected weaker branches: a variance times "
                "the mean squared slope of less than about 1"
            )
        slope = tangent(equation, q, u)
        reached = float(-equation.trace(q, u)[0]) / rank
        growth = reached * (1.0 + float(slope[0, equation.output]))
        if reached > 1.0 or (reached > 0.5 and growth < 1e-4 * _LAST):
            raise TheoryError(
                f"the rank of J is {reached * rank:.9g} where its pattern of zeros gives "
                f"{rank:.9g}: elementwise paths cancel; expected coefficients that do not"
            )
        knots.append((log_q, u[0], slope[0], reached, growth))
        if len(knots) == _MAX_KNOTS:
            raise TheoryError(
                f"the law reaches below log x = {-log_q:.6g}; expected a network of less depth"
            )
        log_q += _STEP
        u = u * np.exp(_STEP * slope)
    columns = [np.array(column) for column in zip(*knots, strict=True)]
    return Axis(*columns)


def on_axis(equation: DysonEquation, axis: Axis, log_q: Array) -> tuple[Array, Array]:
    """-Tr x/(z-x) on the negative axis, between its knots, and its derivative in log q."""
    start, q = axis.at(log_q), np.exp(log_q)
    u, solved = newton(equation, q, start, start)
    require(solved, -log_q, np.pi)
    value = -equation.trace(q, u)
    return value, value * (1.0 + tangent(equation, q, u)[:, equation.output])
