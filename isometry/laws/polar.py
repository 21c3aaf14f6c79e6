"""Polar homotopy: the moment transform of a free product, followed round the circle |z|."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isometry.errors import TheoryError
from isometry.laws.law import Array

ComplexArray = NDArray[np.complex128]

#: angle of z that stands for the real axis: what it blurs is of the size of rounding in log x
REAL_AXIS = 1e-12
_RATIO = 0.25  # of two successive angles
_MAX_NEWTON = 20
_MAX_BISECTIONS = 12
_LONGEST_MOVE = 1.5  # of a, along one accepted step


class Transform(Protocol):
    """log(-z) as a function of a = logit(-t / r), as the solver needs it."""

    def log_minus_z(self, a: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """log(-z) and its derivative."""

    def rounding(self, a: ComplexArray) -> Array:
        """Bound on the rounding error of log(-z)."""


def solve(transform: Transform, log_abs_z: Array, angle: float = REAL_AXIS) -> ComplexArray:
    """The a at z = exp(log_abs_z + i angle), all points together.

    On the negative axis, at angle π, the equation is real and monotone. From there the
    angle decreases at fixed |z|, with a tangent predictor and Newton's method. z stays in
    the upper half plane, where t(z) is analytic, so there is one branch to follow and none
    to choose. What is resolved at a given angle depends on that angle alone: the cost does
    not grow with the depth of the chain. Steps that fail are bisected.

    Parameters
    ----------
    transform
        The product of free factors.
    log_abs_z : (n,) array
        Finite logarithms of |z|.
    angle
        Of z, in (0, π).

    Raises
    ------
    TheoryError
        When some point does not satisfy its equation to rounding error.
    """
    a = _negative_axis(transform, log_abs_z)
    here = np.pi
    while here > angle:
        there = max(_RATIO * here, angle)
        a, solved = _advance(transform, log_abs_z, a, here, there, _MAX_BISECTIONS)
        if not np.all(solved):
            worst = log_abs_z[~solved][0]
            raise TheoryError(
                f"the limiting law could not be solved at {np.count_nonzero(~solved)} of "
                f"{solved.size} points, the first at log x = {worst:.6g} (unit scales) and "
                f"angle {there:.1e}; please report the chain that was asked for"
            )
        here = there
    return a


def _negative_axis(transform: Transform, log_abs_z: Array) -> ComplexArray:
    """Real a with log(-z) = log_abs_z: a table, then Newton's method."""
    knots = np.linspace(-80.0, 80.0, 641)  # exp(-80) is rounding even beside 1 - p = 1e-16
    value, slope = (part.real for part in transform.log_minus_z(knots.astype(complex)))
    a = np.interp(log_abs_z, value[::-1], knots[::-1])  # log(-z) decreases with a
    # beyond the table the map is affine to rounding error
    left, right = log_abs_z > value[0], log_abs_z < value[-1]
    a = np.where(left, knots[0] + (log_abs_z - value[0]) / slope[0], a)
    a = np.where(right, knots[-1] + (log_abs_z - value[-1]) / slope[-1], a)
    root, solved = _newton(transform, log_abs_z.astype(complex), a.astype(complex))
    if not np.all(solved):
        raise TheoryError(
            f"the limiting law could not be started at {np.count_nonzero(~solved)} of "
            f"{solved.size} points; please report the chain that was asked for"
        )
    return root


def _advance(
    transform: Transform, log_abs_z: Array, a: ComplexArray, here: float, there: float, left: int
) -> tuple[ComplexArray, NDArray[np.bool_]]:
    """Move from one angle to the next; `left` counts the bisections still allowed."""
    _, slope = transform.log_minus_z(a)
    with np.errstate(divide="ignore", invalid="ignore"):
        guess = a + 1j * (there - here) / slope
    guess = np.where(np.isfinite(guess) & (np.abs(guess - a) < _LONGEST_MOVE), guess, a)
    target = log_abs_z.astype(complex) + 1j * (there - np.pi)
    moved, solved = _newton(transform, target, guess)
    solved &= np.abs(moved - a) < _LONGEST_MOVE
    if left > 0 and not np.all(solved):
        again = np.flatnonzero(~solved)
        middle = float(np.sqrt(here * there))
        half, ok = _advance(transform, log_abs_z[again], a[again], here, middle, left - 1)
        on = again[ok]  # the others have failed for good
        moved[on], solved[on] = _advance(
            transform, log_abs_z[on], half[ok], middle, there, left - 1
        )
    return moved, solved


def _newton(
    transform: Transform, target: ComplexArray, guess: ComplexArray
) -> tuple[ComplexArray, NDArray[np.bool_]]:
    """Newton's method kept in the strip 0 <= Im a <= π; and which points satisfy log(-z) = target.

    A point is solved when its residual is within rounding error: its a is then exact for a
    log z that differs by rounding. It still takes the step it has paid for.
    """
    a = guess.copy()
    solved = np.zeros(a.shape, dtype=bool)
    active = np.arange(a.size)
    for _ in range(_MAX_NEWTON):
        if active.size == 0:
            break
        x = a[active]
        value, slope = transform.log_minus_z(x)
        miss = value - target[active]
        done = np.abs(miss) <= transform.rounding(x) + 1e-15 * np.abs(target[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            step = -miss / slope
            step = step / np.maximum(np.abs(step), 1.0)
        usable = np.isfinite(step)
        new = np.where(usable, x + step, x)
        new = new.real + 1j * np.clip(new.imag, 0.0, np.pi)
        a[active] = np.where(done & (np.abs(step) > 1e-6), x, new)
        solved[active[done]] = True
        active = active[~done & usable]
    return a, solved
