"""The law of a function of one Gaussian variable: a single layer with orthogonal weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from isometry.domain import Array, finite
from isometry.errors import TheoryError
from isometry.laws.atom import Atom
from isometry.laws.law import Law

#: |z| beyond which a Gaussian has no mass in float64
_FAR = 38.0
_SAMPLES = 4001  # of the line, to find where the function turns or vanishes
_BISECTIONS = 64
_STEP = 1e-3  # of z, in the derivative of log g
_ROUNDING, _TINY = 1e-15, 1e-200  # of masses; of z
_ZERO = 1e-12  # beside the largest value, a zero that rounding hides
_GRADES = 0.15 ** np.arange(16, 0, -1)  # panels crowd the ends of a piece: log g may end there
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(20)


class PushforwardLaw(Law):
    r"""Law of σ = g(z), z ~ N(0, 1), for a function g >= 0.

    One layer D W with W orthogonal and D = diag φ′(h), h ~ N(0, q), has the singular values
    σ_w |φ′(√q z)|: no free convolution smooths them, and free products do not apply. On each
    interval where g is strictly monotone the law has the density
    exp(-z²/2) / √(2π) · |dz / d log σ|; an interval where g is constant is an atom.

    Parameters
    ----------
    function
        g, vectorised over arrays.
    breaks
        Places in z where g jumps or has a kink.
    name
        For a legend.

    Raises
    ------
    TheoryError
        When g is negative, not finite, or zero almost everywhere.
    """

    def __init__(
        self,
        function: Callable[[Array], Array],
        breaks: Iterable[float] = (),
        name: str = "a function of one Gaussian",
    ) -> None:
        """Cut the line into pieces on which g is monotone or constant."""
        self.name, self._function = name, function
        cuts = sorted({finite("a break", b) for b in breaks if abs(b) < _FAR})
        edges = [-_FAR, *cuts, _FAR]
        self._pieces: list[tuple[float, float]] = []
        found: dict[float, float] = {}
        for low, high in itertools.pairwise(edges):
            for a, b, value in self._cut(low, high):
                if value is None:
                    self._pieces.append((a, b))
                else:
                    found[value] = found.get(value, 0.0) + float(_mass(a, b))
        self._atoms = tuple(Atom(s, m) for s, m in sorted(found.items()) if m > _ROUNDING)
        if not self._pieces and all(atom.sigma == 0 for atom in self._atoms):
            raise TheoryError("the function vanishes everywhere; expected a law with mass at σ > 0")

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The values that g takes on whole intervals."""
        return self._atoms

    @cached_property
    def support(self) -> tuple[float, float]:
        """Lowest and highest log g over the pieces on which it is monotone."""
        ends = self._log(np.array([z for piece in self._pieces for z in _inside(*piece)]))
        if not ends.size:
            ends = np.log([atom.sigma for atom in self._atoms if atom.sigma > 0])
        lowest, highest = float(ends.min()), float(ends.max())
        return (lowest if lowest > highest + math.log(_ZERO) else -math.inf), highest

    def density(self, log_sigma: ArrayLike) -> Array:
        """A sum over the places where log g takes the value."""
        s = np.asarray(log_sigma, dtype=float)
        total = np.where(np.isnan(s), np.nan, 0.0)
        for a, b in self._pieces:
            z, inside = self._preimage(s, a, b)
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = self._slope(z, a, b)
                share = np.exp(-0.5 * z**2) / (math.sqrt(2 * math.pi) * slope)
            total = total + np.where(inside & (slope > 0), share, 0.0)
        return np.asarray(total)

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """Gaussian mass of the places where log g is no larger."""
        s = np.asarray(log_sigma, dtype=float)
        total = np.zeros(s.shape)
        for atom in self._atoms:
            at = math.log(atom.sigma) if atom.sigma > 0 else -math.inf
            total = total + atom.mass * (s >= at - 1e-12 * (1 + abs(at)) if atom.sigma else 1.0)
        for a, b in self._pieces:
            z, _ = self._preimage(s, a, b)
            total = total + (_mass(a, z) if self._rises(a, b) else _mass(z, b))
        return np.asarray(np.where(np.isnan(s), np.nan, total))

    @property
    def mean_log_sigma(self) -> float:
        """By Gauss–Legendre panels on the pieces."""
        log_x, mass = self._quadrature
        return float(0.5 * log_x @ mass / mass.sum())

    @property
    def std_log_sigma(self) -> float:
        """By Gauss–Legendre panels on the pieces."""
        log_x, mass = self._quadrature
        return math.sqrt(float((0.5 * log_x - self.mean_log_sigma) ** 2 @ mass / mass.sum()))

    @cached_property
    def _quadrature(self) -> tuple[Array, Array]:
        at, mass = self._alive_atoms
        values, masses = [at], [mass]
        for a, b in self._pieces:
            z, weight = _panels(a, b)
            values.append(2 * self._log(z))
            masses.append(weight * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))
        log_x, share = np.concatenate(values), np.concatenate(masses)
        keep = (share > 0) & np.isfinite(log_x)
        return log_x[keep], share[keep]

    def _log(self, z: Array) -> Array:
        with np.errstate(divide="ignore", under="ignore"):
            return np.asarray(np.log(self._function(z)))

    def _cut(self, low: float, high: float) -> Iterable[tuple[float, float, float | None]]:
        """Cut an interval between breaks where g turns; with its value where it is constant."""
        low, high = _inside(low, high)
        z = np.linspace(low, high, _SAMPLES)
        g = np.asarray(self._function(z), dtype=float)
        if g.shape != z.shape or not np.all(np.isfinite(g)) or np.any(g < 0):
            raise TheoryError(f"the function of {self.name} gave a negative or not finite value")
        if np.ptp(g) == 0:
            yield low, high, float(g[0])
            return
        ends = [low, *self._vanishes(z, g == 0), high]
        if len(ends) > 2:
            for a, b in itertools.pairwise(ends):
                yield from self._cut(a, b)
            return
        direction = np.sign(np.diff(g))
        moving = np.flatnonzero(direction)
        turns = moving[:-1][direction[moving[:-1]] != direction[moving[1:]]] + 1
        cuts = [low, *(self._turn(z[i - 1], z[min(i + 1, len(z) - 1)]) for i in turns), high]
        for a, b in itertools.pairwise(cuts):
            yield a, b, None

    def _vanishes(self, z: Array, zero: NDArray[np.bool_]) -> Iterable[float]:
        """Where stretches on which g is 0 begin and end: derivatives underflow."""
        inner = zero[1:-1] & zero[2:] & zero[:-2]
        for i in 1 + np.flatnonzero(inner[1:] != inner[:-1]):
            dead, alive = (z[i + 1], z[i - 1]) if inner[i] else (z[i], z[i + 2])
            for _ in range(_BISECTIONS):
                middle = 0.5 * (dead + alive)
                vanished = self._function(np.array([middle]))[0] == 0
                dead, alive = (middle, alive) if vanished else (dead, middle)
            yield float(dead)

    def _turn(self, low: float, high: float) -> float:
        """The place of an extremum of g between two samples, by golden sections."""
        ends = self._function(np.array([low, high]))
        sign = 1.0 if self._function(np.array([0.5 * (low + high)]))[0] >= ends.min() else -1.0
        for _ in range(_BISECTIONS):
            third = (high - low) / 3
            one, two = sign * self._function(np.array([low + third, high - third]))
            low, high = (low + third, high) if one < two else (low, high - third)
        return 0.5 * (low + high)

    def _rises(self, a: float, b: float) -> bool:
        first, last = self._function(np.array(_inside(a, b)))
        return bool(first < last)

    def _preimage(self, s: Array, a: float, b: float) -> tuple[Array, NDArray[np.bool_]]:
        """The z in [a, b] with log g(z) = s, the nearer end where there is none; and whether."""
        rises = self._rises(a, b)
        low, high = np.full(s.shape, a), np.full(s.shape, b)
        for _ in range(_BISECTIONS):
            z = 0.5 * (low + high)
            level = self._log(z)
            below = (level < s) if rises else (level > s)
            low, high = np.where(below, z, low), np.where(below, high, z)
        first, last = np.sort(self._log(np.array(_inside(a, b))))
        return 0.5 * (low + high), (s > first) & (s < last)

    def _slope(self, z: Array, a: float, b: float) -> Array:
        """|d log g / dz| by central differences that stay within the piece."""
        step = np.minimum(_STEP, np.maximum(0.3 * np.minimum(z - a, b - z), 1e-9))
        with np.errstate(invalid="ignore"):  # on both sides of z the function vanishes
            near = self._log(z + step) - self._log(z - step)
            far = self._log(z + 2 * step) - self._log(z - 2 * step)
        return np.asarray(np.nan_to_num(np.abs(8 * near - far) / (12 * step)))


def _inside(a: float, b: float) -> tuple[float, float]:
    """The ends of an interval, moved in by rounding: a jump belongs to neither side.

    At 0 by more than the smallest number, which is 0 again once it is multiplied.
    """
    return a + 4.0 * math.ulp(a) + _TINY, b - 4.0 * math.ulp(b) - _TINY


def _mass(a: ArrayLike, b: ArrayLike) -> Array:
    """Gaussian mass of [a, b], to full relative precision in both tails."""
    low, high = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    right = low > 0  # where 1 - Φ keeps its digits
    return np.asarray(ndtr(np.where(right, -low, high)) - ndtr(np.where(right, -high, low)))


def _panels(a: float, b: float) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights on panels no longer than ½ that crowd both ends."""
    a, b = max(a, -9.0), min(b, 9.0)
    if a >= b:
        return np.empty(0), np.empty(0)
    half = 0.5 * min(b - a, 1.0)
    regular = np.linspace(a + half, b - half, max(2, math.ceil(2 * (b - a - 2 * half)) + 1))
    cuts = np.concatenate([[a], a + half * _GRADES, regular, b - half * _GRADES[::-1], [b]])
    cuts = np.unique(cuts)
    middle, reach = 0.5 * (cuts[1:] + cuts[:-1]), 0.5 * np.diff(cuts)
    z = (middle[:, None] + reach[:, None] * _NODES).ravel()
    return z, (reach[:, None] * _NODE_WEIGHTS).ravel()
