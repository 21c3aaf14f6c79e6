"""Newton's method for a Dyson equation, at many points together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.laws.dyson.equation import DysonEquation
from isometry.laws.dyson.hub import Numbers

#: a relative step after which the method is exact; and by how much a sign may be wrong
SETTLED = 1e-8
_SOLVED = 1e-13  # residual that is rounding error, relative
_NOISE = 1e-5  # a longer step at rounding error follows the error
_LONGEST_STEP = 10.0  # relative
_MAX_STEPS = 12


def tangent(equation: DysonEquation, q: Numbers, u: Numbers) -> Numbers:
    """Derivative of the logarithms of the unknowns in log q."""
    near = equation.linearise(q, u)
    return -_solve_balanced(near.jacobian, near.by_log_q, u)


def newton(
    equation: DysonEquation, q: Numbers, guess: Numbers, scale: Array
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Newton's method at all points; and which of them satisfy the equation.

    A point is solved when its residual is within rounding error, or when the step that it
    takes is so small that the method has converged. `scale` is the size of the unknowns on
    the negative axis: one may pass through zero between two parts of the spectrum.
    """
    u = guess.copy()
    solved = np.zeros(q.shape, dtype=bool)
    active = np.arange(q.size)
    for _ in range(_MAX_STEPS):
        if active.size == 0:
            break
        x = u[active]
        with np.errstate(all="ignore"):  # far from a solution numbers may overflow
            near = equation.linearise(q[active], x)
            size = scale[active] + np.abs(x)
            miss = np.max(np.abs(near.residual) / size, axis=1)
            step = _solve_balanced(near.jacobian, near.residual, size)
            length = np.max(np.abs(step), axis=1)
        done = miss <= np.maximum(_SOLVED, near.rounding)
        done |= (length <= SETTLED) & (miss <= SETTLED)
        usable = np.isfinite(length) & (length < _LONGEST_STEP)
        take = usable & ~(done & (length > _NOISE))
        u[active] = np.where(take[:, None], x - size * step, x)
        solved[active[done]] = True
        active = active[~done & usable]
    return u, solved


def _solve_balanced(jacobian: Numbers, right: Numbers, size: Numbers) -> Numbers:
    """J⁻¹ right in units of `size`; not a number where J is singular."""
    balanced = jacobian * (size[:, None, :] / size[:, :, None])
    right = right / size
    try:
        return np.asarray(np.linalg.solve(balanced, right[..., None])[..., 0])
    except np.linalg.LinAlgError:  # one of many
        return np.asarray([_solve_one(J, b) for J, b in zip(balanced, right, strict=True)])


def _solve_one(jacobian: Numbers, right: Numbers) -> Numbers:
    try:
        return np.asarray(np.linalg.solve(jacobian, right))
    except np.linalg.LinAlgError:
        return np.full_like(right, np.nan)


def require(solved: NDArray[np.bool_], log_abs_z: Array, angle: float) -> None:
    """Raise where a point is not solved."""
    if not np.all(solved):
        raise TheoryError(
            f"the Dyson equation could not be solved at {np.count_nonzero(~solved)} of "
            f"{solved.size} points, the first at log |z| = {log_abs_z[~solved][0]:.6g} and "
            f"angle {angle:.1e}; please report the network that was asked for"
        )
