"""The solution of a Dyson equation off the negative axis: round circles of z."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from isometry.domain import Array
from isometry.laws.dyson.axis import Axis
from isometry.laws.dyson.equation import DysonEquation
from isometry.laws.dyson.newton import SETTLED, newton, require, tangent

#: angle of z that stands for the real axis
REAL_AXIS = 1e-12
_RATIO = 0.03  # of two successive angles
_MAX_BISECTIONS = 14
_LONGEST_MOVE = 2.0  # of the logarithm of an unknown, along one accepted step
_BLOCK = 400_000  # entries of the matrices that are solved together


def solve(
    equation: DysonEquation, axis: Axis, log_abs_z: Array, angle: float = REAL_AXIS
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """q = -1/z and the unknowns at z = exp(log_abs_z + i angle), for points within the axis.

    From the negative axis the angle of z decreases at fixed |z|, with a tangent predictor and
    Newton's method. A solution counts only with Re √q γ > 0 and Re √q γ̂ > 0, which one has.
    Steps that fail are bisected.

    Raises
    ------
    TheoryError
        When some point does not satisfy its equation to rounding error.
    """
    size = max(hub.transfer.size * hub.transfer.shape[1] for hub in equation.hubs)
    blocks = -(-log_abs_z.size * size // _BLOCK) or 1
    parts = [_solve_block(equation, axis, x, angle) for x in np.array_split(log_abs_z, blocks)]
    return np.concatenate([q for q, _ in parts]), np.concatenate([u for _, u in parts])


def circle(
    equation: DysonEquation, radius: float, n: int
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """q = -1/z and the unknowns at n equidistant points of |q| = radius, outside the spectrum."""
    turn = np.exp(2j * np.pi / n * np.arange(n))
    scale = np.repeat(equation.variances(), n, axis=0)
    u = scale.astype(complex)
    for part in np.linspace(0.125, 1.0, 8):
        u, solved = newton(equation, part * radius * turn, u, scale)
        require(solved, np.full(n, -math.log(part * radius)), np.pi)
    return radius * turn, u


def _solve_block(
    equation: DysonEquation, axis: Axis, log_abs_z: Array, angle: float
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    start = axis.at(-log_abs_z)
    start, solved = newton(equation, np.exp(-log_abs_z), start, start)
    u: NDArray[np.complex128] = start.astype(complex)
    here = np.pi
    while here > angle:
        there = max(_RATIO * here, angle)
        u, ok = _advance(equation, log_abs_z, u, start, (here, there), _MAX_BISECTIONS)
        solved &= ok
        require(solved, log_abs_z, there)
        here = there
    return _q(log_abs_z, angle), u


def _q(log_abs_z: Array, angle: float) -> NDArray[np.complex128]:
    return np.asarray(np.exp(-log_abs_z + 1j * (np.pi - angle)))


def _advance(
    equation: DysonEquation,
    log_abs_z: Array,
    u: NDArray[np.complex128],
    scale: Array,
    angles: tuple[float, float],
    left: int,
) -> tuple[NDArray[np.complex128], NDArray[np.bool_]]:
    """Move from one angle to the next; `left` counts the bisections still allowed."""
    here, there = angles
    q = _q(log_abs_z, there)
    with np.errstate(all="ignore"):
        move = 1j * (here - there) * tangent(equation, _q(log_abs_z, here), u)
        guess = np.where(np.abs(move) < _LONGEST_MOVE, u * np.exp(move), u)
    moved, solved = newton(equation, q, guess, scale)
    with np.errstate(all="ignore"):
        solved &= np.all(np.abs(np.log(moved / u)) < _LONGEST_MOVE, axis=1)
    solved &= np.all((np.sqrt(q)[:, None] * moved).real >= -SETTLED * np.abs(moved), axis=1)
    if left > 0 and not np.all(solved):
        again = np.flatnonzero(~solved)
        middle = float(np.sqrt(here * there))
        args = log_abs_z[again], u[again], scale[again]
        half, ok = _advance(equation, *args, (here, middle), left - 1)
        on = again[ok]  # the others have failed for good
        if on.size:
            moved[on], solved[on] = _advance(
                equation, log_abs_z[on], half[ok], scale[on], (middle, there), left - 1
            )
    return moved, solved
