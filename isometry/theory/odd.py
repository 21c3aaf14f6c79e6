"""The odd ones out: weights unlike their siblings, or unlike what random matrices are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from isometry.part import Array, Matrix, Part
from isometry.report import Finding
from isometry.rules import rule
from isometry.theory.ensemble import ORTHOGONAL, SMALLEST, recognise
from isometry.theory.judgement import ALARMS, chance

# What is odd differs by so much at least, however sure it is.
_NOTABLE = math.log(1.1)
_MANY_OFF = 0.05
_FEWEST = 3  # siblings, one of which may be odd
_SHOWN = 3
# The Tracy–Widom law of real matrices as a shifted gamma law (Chiani 2014): shape, scale, shift.
_TRACY_WIDOM = 46.446, 0.186054, 9.84801


@dataclass(frozen=True, eq=False)
class _Weight:
    """A weight, and what the tests share."""

    matrix: Matrix

    @property
    def family(self) -> object:
        """What siblings have in common."""
        return self.matrix.shape, self.matrix.offsets

    @cached_property
    def ensemble(self) -> str:
        """As `recognise` names it."""
        return recognise(self.matrix.sigma, *self.matrix.shape).name

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


class _Family:
    """Weights of one shape, with what each of them is compared with."""

    def __init__(self, weights: Sequence[_Weight]) -> None:
        self.weights = weights
        self.log_scales = np.array([w.log_scale for w in weights])
        self.places = {id(w): i for i, w in enumerate(weights)}
        self.by_values: dict[bytes, list[str]] = {}
        for w in weights:
            self.by_values.setdefault(w.matrix.sigma.tobytes(), []).append(w.matrix.name)

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


@dataclass(frozen=True)
class _Odd:
    where: str
    message: str
    p: float


def odd(parts: Sequence[Part]) -> list[Finding]:
    """Say which weights are odd, and which neighbours line up.

    Siblings are the weights of one shape, three at least. Of a hundred networks of independent
    layers one raises a false alarm, and one at its interfaces, whatever their depth: each of the
    K tests asks for p < 0.01 / K.

    Parameters
    ----------
    parts : sequence of Part

    Returns
    -------
    list of Finding
        At most one of each kind, which names the oddest.
    """
    weights = [_Weight(m) for p in parts for m in ((p.matrix,) if p.matrix else p.inside)]
    siblings: dict[object, list[_Weight]] = {}
    for weight in weights:
        siblings.setdefault(weight.family, []).append(weight)
    families = {key: _Family(each) for key, each in siblings.items()}
    found = {"ISO401": _lined_up([w.matrix for w in weights])}
    for code, test in _TESTS.items():
        tried = [test(w, families[w.family]) for w in weights]
        found[code] = [o for o in tried if o is not None and o.p < ALARMS / (3 * len(weights))]
    return [_finding(code, ones) for code, ones in found.items() if ones]


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
    if len(family) < _FEWEST:
        return None
    values = family.scales_beside(weight)
    centre = float(np.median(values))
    off = weight.log_scale - centre
    if not (np.isfinite(values).all() and abs(off) > _NOTABLE):
        return None
    known = 1 / math.sqrt(2 * math.prod(weight.matrix.shape))
    spread = max(float(values.std(ddof=1)), known) * math.sqrt(1 + 1 / len(values))
    law = stats.norm if family.random else stats.t(len(values) - 1)
    p = 2 * float(law.sf(abs(off) / spread))
    here, there = math.exp(weight.log_scale), math.exp(centre)
    return _Odd(
        weight.matrix.name,
        f"σ_w = {here:.3g}, that of its {len(values)} siblings is {there:.3g} ({_chance(p)})",
        p,
    )


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
    """Test how many units are off against the share among its siblings."""
    if len(family) < _FEWEST:
        return None
    off, units, others = weight.matrix.off, weight.matrix.shape[0], len(family) - 1
    elsewhere = family.off - off
    share = (elsewhere + 0.5) / (units * others + 1)
    if off / units - share < _MANY_OFF:
        return None
    p = float(stats.binom.sf(off - 1, units, share))
    return _Odd(
        weight.matrix.name,
        f"{off} of {units} units let nothing through at any input of this size, of its "
        f"{others} siblings {elsewhere / others:.3g} on average",
        p,
    )


def _copy(weight: _Weight, family: _Family) -> _Odd | None:
    """Find another weight with the very same singular values, which are not those of a rotation."""
    alike = family.by_values[weight.matrix.sigma.tobytes()]
    if len(alike) == 1 or weight.orthogonal:
        return None
    others = list(alike)
    others.remove(weight.matrix.name)
    return _Odd(weight.matrix.name, f"equals {', '.join(others[:_SHOWN])}", 0.0)


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
