"""Resolvent sums over the point masses of a factor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from isometry.laws.law import Array
from isometry.laws.share import Numbers, sided_log

#: spacing of tables in log ζ, and how far they reach beyond the masses' own scales
_SPACING = 0.25
_REACH = 85.0
_SMALLEST = 1e-140


@dataclass(frozen=True)
class Masses:
    """Σ p δ_d over d > 0, p adding up to `alive` <= 1, seen from ζ = -exp(y).

    With u = d / (d - ζ) and v = 1 - u = ζ / (ζ - d), sums keep their digits wherever ζ is:
    nothing is the difference of nearly equal numbers but where masses of opposite sides of ζ
    cancel by themselves.
    """

    d: Array  # (k,), increasing, the largest is 1
    p: Array  # (k,)

    @property
    def alive(self) -> float:
        """Total mass."""
        return float(self.p.sum())

    @property
    def mean(self) -> float:
        """Σ p d."""
        return float(self.p @ self.d)

    def sums(self, y: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Σ p d w, Σ p w, Σ p d v w and Σ p v w with w = exp(max(Re y, 0)) / (d + exp(y)).

        Each term lies in the closed upper half plane where Im y is in [-π, 0].
        """
        peak = np.maximum(y.real, 0.0)
        far, near = np.exp(y - peak), np.exp(-peak)
        w = np.reciprocal(far[:, None] + near[:, None] * self.d)
        weights = np.stack([self.p * self.d, self.p], axis=1).astype(w.dtype)
        first = w @ weights
        if self.d[0] < _SMALLEST:  # its w² may overflow
            second = (far[:, None] * w * w) @ weights
        else:
            second = far[:, None] * ((w * w) @ weights)
        return first[:, 0], first[:, 1], second[:, 0], second[:, 1]

    def logit(self, y: Numbers) -> tuple[Numbers, Numbers]:
        """log(P / (alive - P)) with P = Σ p u = -E d/(ζ - d), and its derivative in y."""
        du, v, du_slope, v_slope = self.sums(y)
        value = sided_log(du, 1) - sided_log(v, 1) - y
        return value, v_slope / v - du_slope / du - 1.0

    def log_determinant(self, y: Numbers) -> Numbers:
        """Σ p log(1 - d/ζ)."""
        peak = np.maximum(y.real, 0.0)
        terms = np.exp(y - peak)[:, None] + np.exp(-peak)[:, None] * self.d
        terms = sided_log(terms, np.sign(y.imag)[:, None])
        return np.asarray(terms @ self.p - self.alive * (y - peak))

    def from_logit(self, logit: Array) -> Array:
        """y on the negative axis, where the logit decreases with it; to the accuracy of a table."""
        y, known = self._table
        inner = np.interp(logit, known[::-1], y[::-1])
        # beyond the table the logit is -y plus a constant
        return np.asarray(
            inner - np.maximum(logit - known[0], 0) - np.minimum(logit - known[-1], 0)
        )

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        lowest = -float(np.log(np.sum(self.p / self.d) / self.alive)) - _REACH
        y = np.arange(lowest, _REACH + np.log(self.mean / self.alive), _SPACING)
        return y, self.logit(y)[0]

    def gap(self, above: int) -> Array:
        """log ζ of increasing ζ between d[above - 1] and d[above], crowding both ends.

        Ends at a mass are approached to rounding error, 0 and infinity to exp(±60).
        """
        if above == 0:
            return np.asarray(
                np.log(self.d[0]) - np.log1p(np.exp(-np.arange(-60.0, 34.0, _SPACING)))
            )
        low = self.d[above - 1]
        if above == len(self.d):
            return np.asarray(np.log(low) + np.log1p(np.exp(np.arange(-34.0, 60.0, _SPACING))))
        share = 1.0 / (1.0 + np.exp(-np.arange(-34.0, 34.0, _SPACING)))
        return np.asarray(np.log(low + (self.d[above] - low) * share))


def masses(values: Array, weights: Array) -> tuple[float, Masses]:
    """The largest value, and the positive values in units of it."""
    alive = values > 0
    return float(values[-1]), Masses(values[alive] / values[-1], weights[alive])


def run(key: Array, *columns: Array, from_last: bool) -> tuple[Array, ...]:
    """The first stretch on which the key is finite and monotone, from one end, key increasing."""
    order = slice(None, None, -1 if from_last else 1)
    key, columns = key[order], tuple(column[order] for column in columns)
    step = np.diff(key)
    good = np.isfinite(step) & (np.sign(step) == np.sign(step[np.isfinite(step)][0]))
    first = int(np.argmax(good))
    last = first + int(np.argmin(np.append(good[first:], False))) + 1
    order = (
        slice(first, last) if step[first] > 0 else slice(last - 1, first - 1 if first else None, -1)
    )
    return key[order], *(column[order] for column in columns)
