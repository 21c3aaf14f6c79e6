"""Where a function that is known only by its values is not smooth."""

from __future__ import annotations

import math

import numpy as np

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.meanfield.activation import Pointwise

#: kinks are looked for on [-32, 32], jumps of the m-th derivative on cells that are halved while
#: they look bent: a weak jump of φ' shows among short cells, one of φ'' drowns in rounding there
_REACH, _NEARBY = 32.0, 0.0625
_FIRST_CELL = {0: 2.0**-4, 1: 2.0**-8, 2: 2.0**-4}
_LAST_CELL = {0: 2.0**-24, 1: 2.0**-24, 2: 2.0**-13}


def find_kinks(function: Pointwise) -> tuple[float, ...]:
    """Points of [-32, 32] where φ' or φ'' jumps, increasing, if they are 1/16 apart or more.

    On a cell that shrinks around a jump of the m-th derivative, the difference between the
    m-th derivatives on its two sides stays; elsewhere it shrinks with the cell. The slope
    is taken care of first, then the curvature away from the kinks already found. A jump of the
    slope below a hundredth of the curvature beside it may be taken for curvature.

    Raises
    ------
    TheoryError
        When φ itself jumps: E φ'² does not exist.
    """
    for place in _jumps(function, 0, ()):
        raise TheoryError(
            f"the activation jumps near {place:.6g}; expected a continuous function: where φ "
            "jumps, E φ'² does not exist"
        )
    bent = _jumps(function, 1, ())
    return tuple(sorted({*bent, *_jumps(function, 2, bent)}))


def _jumps(function: Pointwise, order: int, known: tuple[float, ...]) -> tuple[float, ...]:
    # an irrational offset keeps the likely kinks, which are round numbers, off the ends of cells
    cell = _FIRST_CELL[order]
    left = np.arange(-_REACH, _REACH, cell) - cell / math.pi
    before, size = _jump_over(function, left, cell, order)
    floor = 1e-3 * float(size.max())
    keep = before > 1e-5 * np.maximum(size, floor)
    while cell > _LAST_CELL[order]:
        for place in known:  # the stencil must not reach over a kink of the slope
            keep &= np.abs(left - place) > 4.0 * cell
        left, before = np.repeat(left[keep], 2), np.repeat(before[keep], 2)
        if left.size == 0:
            return ()
        cell *= 0.5
        left[1::2] += cell
        after, size = _jump_over(function, left, cell, order)
        keep = (after > 0.7 * before) & (after > 1e-5 * np.maximum(size, floor))
        before = after
    return _places(function, left[keep], before[keep], cell, order)


def _jump_over(function: Pointwise, left: Array, cell: float, order: int) -> tuple[Array, Array]:
    """|derivative after the cell - derivative before it| and the larger of the two."""
    steps = cell * np.arange(order + 1)
    after = np.diff(function(left[:, None] + cell + steps), n=order)[:, 0] / cell**order
    prior = np.diff(function(left[:, None] - steps[::-1]), n=order)[:, 0] / cell**order
    return np.abs(after - prior), np.maximum(np.abs(after), np.abs(prior))


def _places(
    function: Pointwise, left: Array, jump: Array, cell: float, order: int
) -> tuple[float, ...]:
    """One place for each run of neighbouring cells: the cell with the largest jump."""
    runs = np.split(np.arange(left.size), np.flatnonzero(np.diff(left) > 4.0 * cell) + 1)
    best = [float(left[run[np.argmax(jump[run])]]) for run in runs if run.size]
    slack = 1e-3 * cell if order == 1 else cell  # of a place between lines, of one in a cell
    return tuple(_snapped(_refined(function, x, cell, order), slack) for x in best)


def _refined(function: Pointwise, left: float, cell: float, order: int) -> float:
    """Where the lines on both sides meet; the middle of the cell for other jumps."""
    middle = left + 0.5 * cell
    if order != 1:
        return middle
    # from two cells away: the kink may sit on the end of its cell
    far, near, here, next_ = function(left + cell * np.array([-3.0, -2.0, 3.0, 4.0]))
    before, after = near - far, next_ - here  # slopes, per cell
    nearby = np.diff(function(left + _NEARBY * np.array([-1.0, 0.0, 1.0]))) / _NEARBY
    steepest = max(abs(before), abs(after)) / cell
    if steepest > 50.0 * float(np.abs(nearby).max()):
        raise TheoryError(
            f"the activation is infinitely steep near {middle:.6g}, where its slope passes "
            f"{steepest:.3g}; expected a finite slope: E φ'² does not exist"
        )
    met = (here - near - 2.0 * before - 3.0 * after) / (before - after)
    return left + cell * float(np.clip(met, -2.0, 3.0))


def _snapped(place: float, slack: float) -> float:
    """The round number so near, if there is one: kinks are mostly written by hand."""
    round_ = round(place, 3)
    return float(round_) + 0.0 if abs(place - round_) <= slack else place
