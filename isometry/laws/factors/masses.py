"""Resolvent sums over the point masses of factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from isometry.domain import Array
from isometry.laws.monotone import invert
from isometry.laws.rows import places
from isometry.laws.share import Numbers, sided_log

#: spacing of tables in log ζ, and places beyond the masses' own scales, where less and less bends
_SPACING = 0.5
_TAIL = np.array([3.0, 3.5, 4.0, 4.6, 5.3, 6.2, 7.4, 9.0, 11.0, 14.0, 19.0, 30.0])
#: places in gaps: from the outermost masses in log ζ, and between two as a share of the gap
_OUTWARDS = np.log1p(np.exp(np.linspace(-34.0, 60.0, 189)))
_BETWEEN = 1.0 / (1.0 + np.exp(-np.linspace(-34.0, 34.0, 189)))
#: of one evaluation of the logit
_EPS = float(np.finfo(float).eps)
_ROUNDING = 8.0 * _EPS
_CANCELLED = 1e-100  # a sum of 0 has no logarithm
#: terms that are summed together: as many as the cache of one core holds
_BLOCK = 40_000


@dataclass(frozen=True)
class Masses:
    """Σ p δ_d over d > 0, p adding up to `alive` <= 1, seen from ζ = -exp(y).

    One law, with y of shape (n,), or several at once, each a row of d, p and y. With
    u = d / (d - ζ) and v = 1 - u = ζ / (ζ - d), sums keep their digits wherever ζ is: nothing is
    the difference of nearly equal numbers but where masses of opposite sides of ζ cancel by
    themselves.
    """

    d: Array  # (..., k), increasing, the largest is 1
    p: Array  # (..., k)

    @classmethod
    def rows(cls, laws: Sequence[Masses]) -> Masses:
        """Several laws as one; the shorter ones end in masses of 0."""
        shape = len(laws), max(law.d.size for law in laws)
        d, p = np.ones(shape), np.zeros(shape)
        for row, law in enumerate(laws):
            d[row, : law.d.size], p[row, : law.p.size] = law.d, law.p
        return cls(d, p)

    @cached_property
    def alive(self) -> Array:
        """Total mass of each law."""
        return np.asarray(self.p.sum(axis=-1))

    @cached_property
    def mean(self) -> Array:
        """Σ p d of each law."""
        return np.asarray(np.sum(self.p * self.d, axis=-1))

    @cached_property
    def _weights(self) -> Array:
        return np.stack([self.p * self.d, self.p], axis=-1)

    def sums(self, y: Numbers) -> Numbers:
        """Σ p d w, Σ p w, Σ p d v w and Σ p v w with w = exp(max(Re y, 0)) / (d + exp(y)).

        Each term lies in the closed upper half plane where Im y is in [-π, 0].
        """
        return self._by_blocks(_sums, 4, y)

    def logit(self, y: Numbers) -> tuple[Numbers, Numbers]:
        """log(P / (alive - P)) with P = Σ p u = -E d/(ζ - d), and its derivative in y."""
        value, slope = self._by_blocks(_logit, 2, y)
        return value, slope

    def log_determinant(self, y: Numbers) -> Numbers:
        """Σ p log(1 - d/ζ)."""
        return np.asarray(self._by_blocks(_log_determinant, 1, y)[0])

    def from_logit(self, logit: Array) -> Array:
        """y on the negative axis, where the logit decreases with it; to the accuracy of a table."""
        y, known, slope = (np.atleast_2d(column) for column in self._table)
        at = np.clip(np.atleast_2d(logit), known[:, -1:], known[:, :1])
        left, right = places(-known, -at)
        low, high, first, last, start, end = (
            np.take_along_axis(column, place, axis=1)
            for column in (known, slope, y)
            for place in (left, right)
        )
        rise, part = end - start, (at - low) / (high - low)
        bend = (1.0 - part) * ((high - low) / first - rise) - part * ((high - low) / last - rise)
        inner = np.clip(start + part * (rise + (1.0 - part) * bend), start, end)
        # beyond the table the logit is -y plus a constant
        return np.asarray((inner + at - logit).reshape(logit.shape))

    def inverse(self, logit: Array) -> Array:
        """y of one law on the negative axis, by Newton's method in a bracket.

        Between masses that are far apart the logit is a staircase, on which Newton's method
        by itself leaps from step to step.
        """
        # P / alive is an average of shares whose logits are log d - y
        low, high = np.log(self.d[[0, -1]])[:, None] - logit

        def rising(y: Array) -> tuple[Array, Array]:
            value, slope = self.logit(y)
            return -value, -slope

        return invert(rising, -logit, low, high, tolerance=_ROUNDING * (1.0 + np.abs(logit)))

    @cached_property
    def _table(self) -> tuple[Array, Array, Array]:
        low = -np.log(np.sum(self.p / self.d, axis=-1) / self.alive) - _TAIL[0]
        high = np.log(self.mean / self.alive) + _TAIL[0]
        inner = np.linspace(low, high, 2 + int(np.max(high - low) / _SPACING), axis=-1)
        beyond = _TAIL[1:] - _TAIL[0]
        y = np.concatenate(
            [low[..., None] - beyond[::-1], inner, high[..., None] + beyond], axis=-1
        )
        return y, *self.logit(y)

    def gap(self, above: int) -> Array:
        """log ζ of increasing ζ between d[above - 1] and d[above], crowding both ends.

        Ends at a mass are approached to rounding error, 0 and infinity to exp(±60).
        """
        if above == 0:
            return np.asarray(np.log(self.d[0]) - _OUTWARDS[::-1])
        low = self.d[above - 1]
        if above == self.d.size:
            return np.asarray(np.log(low) + _OUTWARDS)
        return np.asarray(np.log(low + (self.d[above] - low) * _BETWEEN))

    def _by_blocks(
        self, function: Callable[[Array, Array, Numbers], Sequence[Numbers]], count: int, y: Numbers
    ) -> Numbers:
        """What a function of d, of (p d, p) and of y finds, by parts that fit into the cache."""
        found = np.empty((count, *y.shape), dtype=y.dtype)
        n, k = max(y.shape[-1], 1), self.d.shape[-1]
        few = max(1, _BLOCK // k)
        some = max(1, few // n)
        for i in range(0, len(y) if y.ndim > 1 else 1, some):
            laws = (slice(i, i + some),) if y.ndim > 1 else ()
            for j in range(0, n, few):
                here = (*laws, slice(j, j + few))
                part = function(self.d[laws], self._weights[laws], y[here])
                for row, values in zip(found, part, strict=True):
                    row[here] = values
        return found


def _sums(d: Array, weights: Array, y: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    peak = np.maximum(y.real, 0.0)
    far, near = np.exp(y - peak), np.exp(-peak)
    # of w: its square neither overflows nor underflows then
    unit = 1.0 / np.sqrt(np.maximum(np.abs(far), near * d[..., :1]))
    if np.all(y.imag == -np.pi):  # a gap of the spectrum, where all is real
        far = far.real
    terms = (unit * near)[..., None] * d[..., None, :]
    once, twice = _filled((unit * far)[..., None], terms, weights)
    unit = unit[..., None]
    once *= unit
    twice *= (unit * unit) * far[..., None]
    return once[..., 0], once[..., 1], twice[..., 0], twice[..., 1]


def _logit(d: Array, weights: Array, y: Numbers) -> tuple[Numbers, Numbers]:
    du, v, du_slope, v_slope = _sums(d, weights, y)
    du, v = du.astype(y.dtype, copy=False), v.astype(y.dtype, copy=False)
    value = sided_log(du, 1) - sided_log(v, 1) - y
    return value, v_slope / v - du_slope / du - 1.0


def _log_determinant(d: Array, weights: Array, y: Numbers) -> tuple[Numbers]:
    p = weights[..., 1:]
    far = y.real > 0  # of ζ: then 1 - d/ζ is near 1, else log(d - ζ) and log(-ζ) are apart
    small = np.exp(np.where(far, -y, y))
    # of d - ζ: its square neither overflows nor underflows then
    unit = 1.0 / np.sqrt(np.maximum(np.abs(small), d[..., :1]))
    value = np.where(far, 0.0, -p.sum(axis=-2) * (y + np.log(unit)))
    of_d, rest = np.where(far, small, unit), np.where(far, 1.0, unit * small)
    d = d[..., None, :]
    re = of_d.real[..., None] * d + rest.real[..., None]
    im = of_d.imag[..., None] * d + rest.imag[..., None]
    value += 0.5 * (np.log(re * re + im * im) @ p)[..., 0]
    if np.iscomplexobj(y):
        side = np.sign(y.imag) * np.where(far, -1.0, 1.0)
        value += 1j * side * (np.arctan2(np.abs(im), re) @ p)[..., 0]
    return (value,)


def _filled(far: Numbers, re: Array, weights: Array) -> tuple[Numbers, Numbers]:
    """Sums of w and of w², w = 1 / (far + re): in real numbers, twice as fast; `re` is used up."""
    if not np.iscomplexobj(far):
        return _filled_real(far, re, weights)
    im = far.imag
    re += far.real
    q = re * re
    q += im * im
    np.reciprocal(q, out=q)  # |w|²
    square = q @ weights
    re *= q  # Re w
    first = re @ weights - 1j * (im * square)
    q *= im  # -Im w
    re *= q
    cross = re @ weights
    q *= q
    return first, square - 2.0 * (q @ weights) - 2j * cross


def _filled_real(far: Array, re: Array, weights: Array) -> tuple[Array, Array]:
    """The same on the real axis."""
    re += far
    in_gap = bool(np.any(far < 0))
    if in_gap:  # there ζ may be on a mass, to rounding, and masses on either side may cancel
        np.copyto(re, _EPS * far, where=re == 0)
    np.reciprocal(re, out=re)
    first = re @ weights
    if in_gap:
        first[first == 0] = _CANCELLED
    re *= re
    return first, re @ weights


def masses(values: Array, weights: Array) -> tuple[float, Masses]:
    """The largest value, and the positive values in units of it."""
    alive = values > 0
    return float(values[-1]), Masses(values[alive] / values[-1], weights[alive])


def run(key: Array, *columns: Array, from_last: bool) -> tuple[Array, ...]:
    """The first stretch on which the key is finite and monotone, from one end, key increasing.

    Where it is finite nowhere, one key that no number reaches.
    """
    order = slice(None, None, -1 if from_last else 1)
    key, columns = key[order], tuple(column[order] for column in columns)
    step = np.diff(key)
    known = np.isfinite(step)
    if not np.any(known):
        return np.array([np.inf]), *(column[:1] for column in columns)
    good = known & (np.sign(step) == np.sign(step[known][0]))
    first = int(np.argmax(good))
    last = first + int(np.argmin(np.append(good[first:], False))) + 1
    order = (
        slice(first, last) if step[first] > 0 else slice(last - 1, first - 1 if first else None, -1)
    )
    return key[order], *(column[order] for column in columns)
