"""Polar homotopy: the moment transform of a free product, followed round the circle |z|."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.laws.monotone import invert
from isometry.laws.share import Numbers
from isometry.laws.transform import Transform

#: angle of z that stands for the real axis: what it blurs is of the size of rounding in log x
REAL_AXIS = 1e-12
_RATIO = 0.25  # of two successive angles
_MAX_NEWTON = 20
_MAX_BISECTIONS = 12
_LONGEST_MOVE = 1.5  # of a, along one accepted step
#: a step to the last angle is tried where its tangent is this short, and accepted where the
#: tangent was right to this fraction: then there is no branch point between
_LEAP = 0.3
_STRAIGHT = 0.1


def solve(transform: Transform, log_abs_z: Array, angle: float = REAL_AXIS) -> Numbers:
    """The state (a and the hidden unknowns) at z = exp(log_abs_z + i angle), all points together.

    On the negative axis, at angle π, the equation is real and monotone. From there the
    angle decreases at fixed |z|, with a tangent predictor and Newton's method in a and all
    hidden unknowns jointly. z stays in the upper half plane, where t(z) and the subordination
    functions are analytic, so there is one branch to follow and none to choose. What is
    resolved at a given angle depends on that angle alone: the cost does not grow with the depth
    of the product. Steps that fail are bisected; points whose path is straight to the end, as
    in the bulk of a deep product, leap there.

    Parameters
    ----------
    transform
        The product of free factors.
    log_abs_z : (n,) array
        Finite logarithms of |z|.
    angle
        Of z, in (0, π].

    Returns
    -------
    (1 + h, n) array

    Raises
    ------
    TheoryError
        When some point does not satisfy its equation to rounding error.
    """
    state = _negative_axis(transform, log_abs_z)
    todo, here = np.arange(log_abs_z.size), np.pi
    while here > angle and todo.size:
        moved, solved = _leap(transform, log_abs_z[todo], state[:, todo], here, angle)
        state[:, todo[solved]] = moved[:, solved]
        todo = todo[~solved]
        there = max(_RATIO * here, angle)
        moved, solved = _advance(
            transform, log_abs_z[todo], state[:, todo], here, there, _MAX_BISECTIONS
        )
        if not np.all(solved):
            worst = log_abs_z[todo][~solved][0]
            raise TheoryError(
                f"the limiting law could not be solved at {np.count_nonzero(~solved)} of "
                f"{log_abs_z.size} points, the first at log x = {worst:.6g} (unit scales) and "
                f"angle {there:.1e}; please report the chain that was asked for"
            )
        state[:, todo], here = moved, there
    return state


def _negative_axis(transform: Transform, log_abs_z: Array) -> Numbers:
    """States with real a and log(-z) = log_abs_z: a table, then Newton's method."""
    table, value, slope, response = transform.table
    at = log_abs_z
    rises = np.concatenate([np.ones((1, value.size)), response]) / slope
    order = slice(None, None, -1)  # log(-z) decreases with a
    spline = CubicHermiteSpline(value[order], table[:, order], rises[:, order], axis=1)
    guess = spline(at)
    # beyond the table the map is affine to rounding error
    for end, beyond in ((0, at > value[0]), (-1, at < value[-1])):
        a = (at[beyond] - value[end]) / slope[end]
        guess[:, beyond] = table[:, [end]] + np.concatenate([[a], response[:, [end]] * a])
    root, solved = newton(transform, at.astype(complex), guess.astype(complex))
    if not np.all(solved):
        again = np.flatnonzero(~solved)
        found = _surely(transform, at[again], guess[0, again])
        root[:, again], solved[again] = newton(transform, at[again].astype(complex), found)
    if not np.all(solved):
        raise TheoryError(
            f"the limiting law could not be started at {np.count_nonzero(~solved)} of "
            f"{solved.size} points; please report the chain that was asked for"
        )
    return root


def _surely(transform: Transform, log_abs_z: Array, guess: Array) -> Numbers:
    """The same in a bracket: slowly, and past every stair."""
    known = transform.table[0][0]

    def rising(a: Array) -> tuple[Array, Array]:
        value, slope = transform.log_minus_z(a)
        return -value, -slope

    low, high = np.minimum(guess, known[0]) - 1.0, np.maximum(guess, known[-1]) + 1.0
    a = invert(rising, -log_abs_z, low, high, tolerance=1e-9 * (1.0 + np.abs(log_abs_z)))
    return transform.start(a).astype(complex)


def _advance(
    transform: Transform, log_abs_z: Array, state: Numbers, here: float, there: float, left: int
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Move from one angle to the next; `left` counts the bisections still allowed."""
    move = tangent(transform, state, 1j * (there - here))
    short = np.abs(move[0]) < _LONGEST_MOVE
    guess = np.where(short, state + move, state)
    target = log_abs_z.astype(complex) + 1j * (there - np.pi)
    moved, solved = newton(transform, target, guess)
    solved &= np.abs(moved[0] - state[0]) < _LONGEST_MOVE
    if left > 0 and not np.all(solved):
        again = np.flatnonzero(~solved)
        middle = float(np.sqrt(here * there))
        half, ok = _advance(transform, log_abs_z[again], state[:, again], here, middle, left - 1)
        on = again[ok]  # the others have failed for good
        moved[:, on], solved[on] = _advance(
            transform, log_abs_z[on], half[:, ok], middle, there, left - 1
        )
    return moved, solved


def _leap(
    transform: Transform, log_abs_z: Array, state: Numbers, here: float, there: float
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Move to the last angle at once; and which points did so along their tangents."""
    move = tangent(transform, state, 1j * (there - here))
    size = np.max(np.abs(move), axis=0)
    tried = np.flatnonzero(size < _LEAP)
    target = log_abs_z[tried].astype(complex) + 1j * (there - np.pi)
    moved, leapt = state.copy(), np.zeros(log_abs_z.size, dtype=bool)
    guess = state[:, tried] + move[:, tried]
    moved[:, tried], solved = newton(transform, target, guess)
    missed = np.max(np.abs(moved[:, tried] - guess), axis=0)
    leapt[tried] = solved & (missed <= _STRAIGHT * size[tried])
    return moved, leapt


def tangent(transform: Transform, state: Numbers, turn: complex) -> Numbers:
    """First-order change of the state as log z changes by `turn`; 0 where it is not finite."""
    with np.errstate(all="ignore"):
        linear = transform.linearise(state)
        a = turn / linear.slope
        change = np.concatenate([a[None], linear.response * a])
    return np.where(np.all(np.isfinite(change), axis=0), change, 0.0)


def newton(
    transform: Transform, target: Numbers, guess: Numbers, steps: int = _MAX_NEWTON
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Newton's method kept in the strips; and which points satisfy log(-z) = target.

    A point is solved when its residual is within rounding error: its a is then exact for a
    log z that differs by rounding. It still takes the step it has paid for.
    """
    state = guess.copy()
    solved = np.zeros(target.shape, dtype=bool)
    active = np.arange(target.size)
    low, high = transform.strips.T[:, :, None]
    for _ in range(steps):
        if active.size == 0:
            break
        x = state[:, active]
        with np.errstate(all="ignore"):
            linear = transform.linearise(x)
            miss = linear.value - target[active]
            da = -miss / linear.slope
            step = np.concatenate([da[None], linear.correction + linear.response * da])
            length = np.max(np.abs(step), axis=0)
            step = step / np.maximum(length, 1.0)
        within = linear.rounding + 1e-15 * np.abs(target[active])
        done = (np.abs(miss) <= within) & linear.settled
        usable = np.isfinite(length)
        new = np.where(usable & ~(done & (length > 1e-6)), x + step, x)
        state[:, active] = new.real + 1j * np.clip(new.imag, low, high)
        solved[active[done]] = True
        active = active[~done & usable]
    return state, solved
