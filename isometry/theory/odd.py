"""The odd ones out: weights unlike their siblings, or unlike what random matrices are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from scipy import stats

from isometry.part import Array, Matrix, Part
from isometry.report import Finding
from isometry.rules import rule
from isometry.theory.ensemble import ORTHOGONAL, SMALLEST, by_values
from isometry.theory.judgement import ALARMS, chance

T = TypeVar("T")

# What is odd differs by so much at least, however sure it is.
_NOTABLE = math.log(1.1)
_MANY_OFF = 0.05
_FEWEST = 3  # siblings, one of which may be odd
# How far scales may be from each other, beyond four of their own deviations, to be one convention.
_ALIKE = 0.01
# Of a normal variable, beyond the four deviations within which a unit is tried.
_ALWAYS_OFF = float(stats.norm.sf(4))
_SHOWN = 3
# The Tracy–Widom law of real matrices as a shifted gamma law (Chiani 2014): shape, scale, shift.
_TRACY_WIDOM = 46.446, 0.186054, 9.84801


@dataclass(frozen=True, eq=False)
class _Weight:
    """A weight, and what the tests share."""

    matrix: Matrix
    uses: Sequence[Matrix]

    @property
    def shape(self) -> object:
        """What siblings have in common."""
        return self.matrix.shape, self.matrix.offsets

    @property
    def kind(self) -> object:
        """What they have in common where there are too few."""
        return self.matrix.kernel > 0, self.matrix.offsets

    @cached_property
    def ensemble(self) -> str:
        """As it is recognised."""
        return by_values(self.matrix).name

    @cached_property
    def orthogonal(self) -> bool:
        """Whether all singular values are the same."""
        return bool(np.ptp(self.matrix.sigma) <= ORTHOGONAL * self.matrix.sigma.mean())

    @cached_property
    def rows(self) -> int:
        """How many are not empty."""
        return self.matrix.shape[0] - self.matrix.empty

    @cached_property
    def log_scale(self) -> float:
        """log σ_w, without empty rows and the largest singular value."""
        bulk = float(np.sum(np.sort(self.matrix.sigma)[:-1] ** 2))
        return 0.5 * math.log(bulk / self.rows) if bulk > 0 else -math.inf

    @cached_property
    def known(self) -> float:
        """Relative standard deviation of the σ_w of a random matrix."""
        return 1 / math.sqrt(2 * math.prod(self.matrix.shape))

    @cached_property
    def readings(self) -> Array:
        """log of what initialisers may hold fixed over all shapes: entries of variance v times
        n_in, n_out, their mean, their larger one, or v itself; NaN where the matrix is no random
        one.

        Of a kernel both count all offsets, but for the larger one, as PyTorch has it. What the
        largest singular value has of Σ σ² is made up for.
        """
        (rows, columns), offsets = self.matrix.shape, self.matrix.offsets
        if self.ensemble == "other" or min(rows, columns) < SMALLEST:
            return np.full(5, np.nan)
        inside, out = columns, rows * max(offsets, 1)
        largest = 1 / min(rows, columns)
        if not self.orthogonal:
            largest = (1 / math.sqrt(rows) + 1 / math.sqrt(columns)) ** 2
        sizes = np.array([inside, out, (inside + out) / 2, max(rows, columns), 1])
        return self.log_scale + 0.5 * np.log(sizes / inside / (1 - largest))


class _Family:
    """Weights of one shape or kind, with what each of them is compared with."""

    def __init__(self, weights: Sequence[_Weight]) -> None:
        self.weights = weights
        self.one_shape = len({w.shape for w in weights}) == 1
        self.units = sum(w.matrix.shape[0] for w in weights)
        self.log_scales = np.array([w.log_scale for w in weights])
        self.places = {id(w): i for i, w in enumerate(weights)}
        self.by_values: dict[bytes, list[_Weight]] = {}
        for w in weights:
            self.by_values.setdefault(w.matrix.sigma.tobytes(), []).append(w)

    def __len__(self) -> int:
        return len(self.weights)

    @cached_property
    def random(self) -> bool:
        """Whether all are random matrices."""
        return all(w.ensemble != "other" for w in self.weights)

    @cached_property
    def crooked(self) -> int:
        """How many are not orthogonal."""
        return sum(not w.orthogonal for w in self.weights)

    @cached_property
    def off(self) -> int:
        """How many units are off, in all weights together."""
        return sum(w.matrix.off for w in self.weights)

    def scales_beside(self, weight: _Weight) -> Array:
        """log σ_w of the siblings of one of them."""
        return np.delete(self.log_scales, self.places[id(weight)])

    @cached_property
    def readings(self) -> Array:
        """Those of all weights, one in each row."""
        return np.array([w.readings for w in self.weights])

    @cached_property
    def known(self) -> Array:
        """Standard deviations of all rows."""
        return np.array([w.known for w in self.weights])

    def readings_beside(self, weight: _Weight) -> Iterator[tuple[float, Array, float]]:
        """Scale of one, those of its siblings, and their deviation, where the latter are alike."""
        others = np.isfinite(self.readings[:, 0])
        others[self.places[id(weight)]] = False
        if not others.any():
            return
        known = float(self.known[others].max())
        for own, values in zip(weight.readings, self.readings[others].T, strict=True):
            if np.ptp(values) <= 2 * (4 * known + _ALIKE):
                yield float(own), values, known


class _Distribution(Protocol):
    def sf(self, x: float) -> float: ...


@dataclass(frozen=True)
class _Odd:
    where: str
    message: str
    p: float


def odd(parts: Sequence[Part]) -> list[Finding]:
    """Say which weights are odd, and which neighbours line up.

    Siblings are the weights of one shape, three at least; where these are fewer, all of one kind:
    matrices, or kernels of as many offsets. Of a hundred networks of independent layers one raises
    a false alarm, and one at its interfaces, whatever their depth: each of the K tests asks for
    p < 0.01 / K.

    Parameters
    ----------
    parts : sequence of Part

    Returns
    -------
    list of Finding
        At most one of each kind, which names the oddest.
    """
    each = [m for p in parts for m in ((p.matrix,) if p.matrix else p.inside)]
    uses = _grouped((m.storage or id(m), m) for m in each)
    weights = [_Weight(m, uses[m.storage or id(m)]) for m in each]
    shapes = {key: _Family(of) for key, of in _grouped((w.shape, w) for w in weights).items()}
    kinds = {key: _Family(of) for key, of in _grouped((w.kind, w) for w in weights).items()}
    found = {"ISO401": _lined_up(each)}
    for code, test in _TESTS.items():
        tried = [
            test(w, shapes[w.shape] if len(shapes[w.shape]) >= _FEWEST else kinds[w.kind])
            for w in weights
        ]
        found[code] = [o for o in tried if o is not None and o.p < ALARMS / (3 * len(weights))]
    return [_finding(code, ones) for code, ones in found.items() if ones]


def _grouped(pairs: Iterable[tuple[object, T]]) -> dict[object, list[T]]:
    found: dict[object, list[T]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _lined_up(weights: Sequence[Matrix]) -> list[_Odd]:
    """Interfaces whose mixed moment is beyond chance."""
    each = [w.interface for w in weights if w.interface is not None]
    return [
        _Odd(
            f"{i.before} → {i.after}",
            f"singular vectors {'line up' if i.z > 0 else 'avoid each other'}, z = {i.z:.1f}, "
            f"up to {most:.1f} is chance",
            0.0,
        )
        for i in sorted(each, key=lambda i: -abs(i.z))
        if abs(i.z) > (most := chance(i, len(each)))
    ]


def _scale(weight: _Weight, family: _Family) -> _Odd | None:
    """Test log σ_w against its siblings'.

    By Student's t of one more observation; where all are random matrices, whose σ_w has the
    relative standard deviation 1/√(2 n_out n_in), that is known and the test is a normal one.
    """
    if len(family) < _FEWEST or not family.one_shape:
        return _scale_across(weight, family)
    values = family.scales_beside(weight)
    law = stats.norm if family.random else stats.t(len(values) - 1)
    off, p = _off_scale(weight.log_scale, values, weight.known, law)
    if not abs(off) > _NOTABLE:
        return None
    here, there = math.exp(weight.log_scale), math.exp(weight.log_scale - off)
    return _Odd(
        weight.matrix.name,
        f"σ_w = {here:.3g}, that of its {len(values)} siblings is {there:.3g} ({_chance(p)})",
        p,
    )


def _scale_across(weight: _Weight, family: _Family) -> _Odd | None:
    """Test the scale of a random matrix against those of others of any shape.

    What initialisers hold fixed over all shapes is not known. So whatever is the same for all
    siblings is tried, and the weight is odd if it is by each of them. Of two either may be odd:
    the larger one is named.
    """
    tried = []
    for own, values, known in family.readings_beside(weight):
        off, p = _off_scale(own, values, max(known, weight.known), stats.norm)
        tried.append((p, off, len(values)))
    larger = all(off > _NOTABLE for _, off, _ in tried)
    smaller = all(off < -_NOTABLE for _, off, _ in tried)
    if not tried or not (larger or smaller):
        return None
    p, off, count = max(tried)
    if count == 1 and smaller:
        return None
    beside = f"its {count} siblings of other shapes" if count > 1 else "the only other one"
    scale = f"σ_w = {math.exp(weight.log_scale):.3g}"
    message = f"{scale}, {math.exp(off):.3g} times the scale of {beside} ({_chance(p)})"
    return _Odd(weight.matrix.name, message, p)


def _off_scale(own: float, values: Array, known: float, law: _Distribution) -> tuple[float, float]:
    """How far one logarithm is from the others, and how likely that is; 0 where one is none."""
    off = own - float(np.median(values))
    if not (np.isfinite(values).all() and math.isfinite(own)):
        return 0.0, 1.0
    deviation = float(values.std(ddof=1)) if len(values) > 1 else known
    spread = max(deviation, known) * math.sqrt(1 + 1 / len(values))
    return off, 2 * float(law.sf(abs(off) / spread))


def _spike(weight: _Weight, family: _Family) -> _Odd | None:
    """Test σ_max against the edge of the Marchenko–Pastur law, by the Tracy–Widom law there.

    σ_max² / σ² ≈ μ + s TW with μ = (√n_out + √n_in)² and s = (√n_out + √n_in)(1/√n_out +
    1/√n_in)^(1/3), for independent entries of variance σ² (Johnstone 2001). Where all siblings
    are orthogonal, whatever sticks out is odd.
    """
    rows, columns = weight.rows, weight.matrix.shape[1]
    if min(rows, columns) < SMALLEST or weight.orthogonal:
        return None
    top, name = float(weight.matrix.sigma.max()), weight.matrix.name
    flat = family.crooked == 1  # it alone is none
    if len(family) >= _FEWEST and flat and math.log(top) - weight.log_scale > _NOTABLE:
        ratio = top / math.exp(weight.log_scale)
        return _Odd(name, f"σ_max = {ratio:.3g} σ_w, its siblings are orthogonal", 0.0)
    variance = float(np.sum(weight.matrix.sigma**2)) / (rows * columns)
    edge = math.sqrt(rows) + math.sqrt(columns)
    width = edge * (1 / math.sqrt(rows) + 1 / math.sqrt(columns)) ** (1 / 3)
    shape, scale, shift = _TRACY_WIDOM
    p = float(stats.gamma.sf((top**2 / variance - edge**2) / width + shift, shape, scale=scale))
    ends = math.sqrt(variance) * edge
    message = f"σ_max = {top:.3g}, the Marchenko–Pastur law ends at {ends:.3g} ({_chance(p)})"
    return _Odd(name, message, p)


def _off(weight: _Weight, family: _Family) -> _Odd | None:
    """Test how many units are off against the share among its siblings.

    Where these are too few, against that of normal pre-activations beyond four deviations. That a
    weight is all zeros is meant, or said elsewhere.
    """
    off, units, others = weight.matrix.off, weight.matrix.shape[0], len(family) - 1
    if len(family) < _FEWEST:
        share, beside = _ALWAYS_OFF, "which a random weight and bias do not do"
        if weight.matrix.empty == units:
            return None
    else:
        elsewhere = family.off - off
        share = (elsewhere + 0.5) / (family.units - units + 1)
        beside = f"of its {others} siblings {elsewhere / others:.3g} on average"
    if off / units - share < _MANY_OFF:
        return None
    p = float(stats.binom.sf(off - 1, units, share))
    return _Odd(
        weight.matrix.name,
        f"{off} of {units} units let nothing through at any input of this size, {beside}",
        p,
    )


def _copy(weight: _Weight, family: _Family) -> _Odd | None:
    """Find other uses of a weight, or others with its very singular values; the first tells."""
    if weight.matrix is not weight.uses[0]:
        return None
    said = []
    if len(weight.uses) > 1:
        said.append(f"one weight, used {len(weight.uses)} times")
    alike = family.by_values[weight.matrix.sigma.tobytes()] if not weight.orthogonal else []
    others = (w.matrix.name for w in alike if w.matrix is w.uses[0] and w is not weight)
    if names := list(islice(others, _SHOWN)):
        said.append(f"equals {', '.join(names)}")
    return _Odd(weight.matrix.name, ", ".join(said), 0.0) if said else None


_TESTS = {"ISO402": _scale, "ISO403": _spike, "ISO404": _off, "ISO405": _copy}


def _chance(p: float) -> str:
    return f"p = {p:.1g}" if p > 1e-12 else "p < 1e-12"


def _finding(code: str, found: list[_Odd]) -> Finding:
    """Join what is odd in one way, the oddest first."""
    found = sorted(found, key=lambda o: o.p)
    shown = [f"{o.where}: {o.message}" for o in found[1:_SHOWN]]
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return Finding(
        code=code,
        severity="warning" if code == "ISO404" else "note",
        message="; ".join([found[0].message, *shown]) + more,
        where=found[0].where,
        fix=rule(code).remedy,
    )
