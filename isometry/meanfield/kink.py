"""Where a function that is known only by its values is not smooth."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.polynomial import Chebyshev

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.meanfield.activation import Pointwise
from isometry.meanfield.panels import DEGREE, Cell, compare, split

#: octaves by which φ is followed outwards; they begin at no round number
_OCTAVES = 1.0137 * np.exp2(np.arange(-20.0, 25.0))
#: octaves that meet at the origin, and parts of each that follows: a bump is missed where it is
#: narrower than a hundredth of a part, and leaves nothing on either side
_INNER, _PARTS = 15, 8
_NEAR = 8.0  # as far as φ must be known
#: a place counts as the round number within this share of the cell that it was found in, or,
#: where no smooth pieces meet, within the cell or this
_ROUND, _ORIGIN = 1e-3, 1e-12
#: pieces that are smooth over fewer widths of the cell prove nothing
_AMPLE = 256.0
#: a jump that is no more than this share of the largest |φ| is somebody's rounding
_ROUNDING = 1e-9
#: |φ(κ + r) - φ(κ)| falls like r^p from one distance to the closer; a finite slope has p = 1
_CLOSER, _JUMP, _STEEP = 2.0**-10, 0.1, 0.9
#: what the misfit of a cell is at least, beside the rise of φ over it, where φ jumps or is steep
_MILD = 1e-3


def explore(function: Pointwise) -> tuple[tuple[float, ...], Array]:
    """Kinks of φ, and ends of panels on which it is a polynomial to rounding, both increasing.

    As far as |h| = 1.7e7, or as φ is finite and can be followed: beyond the last end nothing
    is known. Panels shrink around a kink until rounding hides it; it is then put where the
    smooth pieces on both sides meet.

    Raises
    ------
    TheoryError
        When φ cannot be followed as far as |h| = 8, or when it jumps or is infinitely steep
        anywhere: E φ'² need not exist.
    """
    unit = float(np.abs(function(np.linspace(-1.0, 1.0, 65))).max())
    inner = np.concatenate([-_OCTAVES[_INNER::-1], _OCTAVES[: _INNER + 1]])
    cells = _cells(function, inner, unit)
    kinks = _places(function, cells, inner, unit)
    ends = [split(function, np.union1d(inner, kinks), unit).ends]
    for side in (-1.0, 1.0):
        size = unit
        for octave in pairwise(side * _OCTAVES[_INNER:]):
            parts = np.linspace(min(octave), max(octave), _PARTS + 1)
            try:
                cells = _cells(function, parts, size)
            except TheoryError:
                if np.abs(parts).min() < _NEAR:
                    raise
                break
            here = _places(function, cells, parts, size)
            found = split(function, np.union1d(parts, here), size)
            if found.ends.size == parts.size + len(here):  # nothing hides in a part
                found = split(function, np.union1d(parts[[0, -1]], here), size)
            kinks, size = kinks + here, found.size
            ends.append(found.ends)
    return tuple(sorted(kinks)), np.unique(np.concatenate(ends))


def _cells(function: Pointwise, parts: Array, size: float) -> list[Cell]:
    """Where kinks are: seen from each part, or where they are weak, from all of it."""
    cells = split(function, parts, size).cells + split(function, parts[[0, -1]], size).cells
    kept: list[Cell] = []
    for a, b in sorted(cells, key=lambda cell: cell[1] - cell[0]):  # of two that overlap, one
        if not any(a < other[1] and other[0] < b for other in kept):
            kept.append((a, b))
    return sorted(kept)


def _places(function: Pointwise, cells: list[Cell], bounds: Array, size: float) -> list[float]:
    """The kink of each cell."""
    before = [float(bounds[0]), *(b for _, b in cells)]
    after = [*(a for a, _ in cells[1:]), float(bounds[-1])]
    places = set()
    for (a, b), low, high in zip(cells, before, after, strict=False):
        room = min(a - low, high - b)
        place, slack = _place(function, a, b, room, size)
        if abs(place - round(place, 3)) <= slack:  # kinks are mostly written by hand
            place = round(place, 3) + 0.0
        places.add(place)
    return sorted(places)


def _place(
    function: Pointwise, a: float, b: float, room: float, size: float
) -> tuple[float, float]:
    """Where the pieces that are smooth over `room` on both sides meet, and to what accuracy."""
    centre, width, farthest = 0.5 * (a + b), b - a, room
    while room >= _AMPLE * width:
        sides = np.array([a - room, b]), np.array([a, b + room])
        if compare(function, *sides, size)[1].all():
            break
        room *= 0.25
    else:
        _refuse_steep(function, a, b, farthest)
        return centre, max(width, _ORIGIN)
    pieces = (Chebyshev.interpolate(function, DEGREE, domain=d) for d in np.transpose(sides))
    apart = np.array([[p.deriv(m)(centre) if m else p(centre) for m in range(3)] for p in pieces])
    value, slope, bend = (apart[1] - apart[0]).tolist()
    if abs(value) > abs(slope) * width + abs(bend) * width**2 + _ROUNDING * size:
        raise _jumps(centre)
    steps = [-slope / bend if bend else math.inf, -value / slope if slope else math.inf]
    near = [step for step in steps if abs(step) <= width]  # where φ'' jumps, both are
    return (centre + near[0], _ROUND * width) if near else (centre, max(width, _ORIGIN))


def _refuse_steep(function: Pointwise, a: float, b: float, room: float) -> None:
    """Raise where φ, singular from one side at least, jumps or is infinitely steep."""
    place, near = 0.5 * (a + b), 4.0 * (b - a)
    far = near / _CLOSER if room < 8.0 * near else min(near / _CLOSER, room)
    around = function(place + np.array([-near, near, -far, far])) - function(np.array([place]))
    close, wide = np.abs(around).reshape(2, 2).max(axis=1).tolist()
    misfit = float(compare(function, np.array([a]), np.array([b]), 0.0)[0][0])
    if close == 0.0 or misfit <= _MILD * close:
        return  # the rise is a smooth one beside a weaker kink
    power = math.log(max(wide, close) / close) / math.log(far / near)
    if power < _JUMP:
        raise _jumps(place)
    if power < _STEEP:
        raise TheoryError(
            f"the activation is infinitely steep near {_shown(place)}, where its slope passes "
            f"{close / near:.3g}; expected a finite slope: E φ'² need not exist"
        )


def _jumps(place: float) -> TheoryError:
    return TheoryError(
        f"the activation jumps near {_shown(place)}; expected a continuous function: where φ "
        "jumps, E φ'² does not exist"
    )


def _shown(place: float) -> str:
    return f"{round(place, 9) + 0.0:.6g}"
