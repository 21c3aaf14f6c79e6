"""The inverse moment transform of a product of free factors, linearised for the solver."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.laws.factors.factor import Factor
from isometry.laws.factors.groups import counted, groups
from isometry.laws.linear import Linear
from isometry.laws.series import exp
from isometry.laws.share import Numbers, Share, share_of_rank

#: two dimensions this close, relatively, are one: quotients of the same numbers round differently
_SAME = 2e-15
_EPS = float(np.finfo(float).eps)
#: hidden unknowns whose Newton step is this small are exact to rounding after the step
_SETTLED = 1e-9
#: and this small where log(-z) is corrected to first order afterwards, or where its slope is
_CLOSE, _EXACT = 1e-8, 1e-13
_POLISHES = 30
#: of a on the negative axis; exp(-80) is rounding even beside 1 - p = 1e-16
_FAR_KNOTS = np.array([16.0, 20.0, 26.0, 34.0, 44.0, 60.0, 80.0])
_KNOTS = np.concatenate([-_FAR_KNOTS[::-1], np.arange(-13.0, 14.0, 2.0), _FAR_KNOTS])
_ROUGH = 1e-3  # what its unknowns are solved to


class Transform:
    r"""log(-z) as a function of a = logit(-t / r), for factors that may be hidden.

    t(z) = E[x / (z - x)], normalised by the smallest dimension of the product, and r is the
    rank in the same unit. With exponents c_k collected from closed forms and interfaces,

        log(-z) = const + Σ_k c_k log(n_k + t) - log(-t) + Σ_g (log(-χ_g) + log(-t)),

    equal factors collected into one term with its multiplicity: neither cost nor rounding grows
    with the depth but through those numbers. a is the logarithm of minus the eta transform, in
    which log(-z) is nearly affine at any depth. The upper half plane of z is the strip
    0 < Im a < π, the negative axis Im a = 0, gaps of the spectrum on the positive axis Im a = π.

    Parameters
    ----------
    factors
        Factors with multiplicities; dimensions are not checked here.
    interfaces
        Dimensions of the spaces between neighbours, with multiplicities.

    Attributes
    ----------
    strips : (1 + h, 2) array
        Lowest and highest imaginary part of each unknown, for z in the upper half plane.
    reach : float
        a up to which states are resolved on the negative axis.
    unit : float
        The smallest dimension.
    rank : float
        r, in (0, 1].
    log_scale : float
        What log x gains over the unit scale at which the solver works.
    hidden_count : int
        How many factors, with their multiplicities, are hidden.
    """

    def __init__(
        self, factors: Iterable[tuple[Factor, int]], interfaces: Iterable[tuple[float, int]]
    ) -> None:
        self.factors, self.interfaces = counted(factors), counted(interfaces)
        self.unit = min(min(f.rows, f.columns) for f in self.factors)
        self._ranks: list[float] = []
        self.rank = self._same(min(f.rank for f in self.factors) / self.unit)
        exponents: Counter[float] = Counter()
        for n, times in self.interfaces.items():
            exponents[self._same(n / self.unit)] -= times
        for factor, times in self.factors.items():
            for n in factor.powers:
                exponents[self._same(n / self.unit)] += times
        self.powers = [(n, c) for n, c in exponents.items() if c != 0]
        self._groups = groups(self.factors, lambda f: self._same(f.rank / self.unit))
        strips = (strip for group in self._groups for strip in group.hidden.strips)
        self.strips = np.array([(0.0, math.pi), *strips])
        self.reach = min((group.hidden.reach for group in self._groups), default=math.inf)
        self.hidden_count = sum(times for f, times in self.factors.items() if not f.powers)
        # a Gaussian brings two exponents, other closed forms and minus an interface one
        self._gaussians = sum(exponents.values()) - 1 + self.hidden_count
        self.log_scale = sum(times * f.log_scale for f, times in self.factors.items())
        self.log_scale += self._gaussians * math.log(self.unit)
        self._size = 1.0 + 2.0 * self.hidden_count + sum(abs(c) for _, c in self.powers)

    def _same(self, n: float) -> float:
        """One number for dimensions that differ by rounding."""
        for known in self._ranks:
            if abs(n - known) <= _SAME * known:
                return known
        self._ranks.append(n)
        return n

    def t(self, a: Numbers) -> Numbers:
        """t = -r logistic(a); Im t keeps its digits also where t is close to -r."""
        return -self.rank * share_of_rank(a).mu

    def linearise(self, state: Numbers) -> Linear:
        """At a state of shape (1 + h, n): a, then the unknowns of the hidden factors."""
        a, unknowns = state[0], state[1:]
        top = share_of_rank(a)
        shares = self._shares(top)
        value = (self.hidden_count - 1) * (math.log(self.rank) + top.log_mu)
        slope = (self.hidden_count - 1) * top.slope_mu
        for n, c in self.powers:
            value = value + c * (math.log(n) + shares[n].log_rest)
            slope = slope + c * shares[n].slope_rest
        correction, response = np.empty_like(unknowns), np.empty_like(unknowns)
        rounding = 4.0 * _EPS * self._size * (1.0 + np.abs(a))
        settled = np.ones(a.shape, dtype=bool)
        for rows, n, hidden in self._groups:
            block = hidden.linearise(unknowns[rows], shares[n])
            value = value + block.value
            slope = slope + block.slope
            correction[rows], response[rows] = block.correction, block.response
            small = _SETTLED * (1.0 + np.abs(unknowns[rows])) + block.blur
            settled &= np.all(np.abs(block.correction) <= small, axis=0)
            rounding = rounding + block.error
        rounding = rounding + 2.0 * _EPS * np.abs(slope * a)  # what rounding of a does
        return Linear(value, slope, correction, response, settled, rounding)

    def log_determinant(self, state: Numbers) -> Numbers:
        """E log(1 - x/z), the free log-determinant: its derivative in log z is t.

        On the real axis its imaginary part is π P(x > z), so it gives the CDF exactly.
        """
        top = share_of_rank(state[0])
        shares = self._shares(top)
        value: Numbers = -self._gaussians * self.rank * top.mu
        for n, c in self.powers:
            value = value - c * n * shares[n].log_rest
        for rows, n, hidden in self._groups:
            value = value + n * hidden.log_determinant(state[1:][rows], shares[n])
        return value

    def start(self, a: Array) -> Array:
        """States on the negative axis, where a is real."""
        return self._on_negative_axis(a, _CLOSE)[0]

    def log_minus_z(self, a: Array, close: float = _CLOSE) -> tuple[Array, Array]:
        """log(-z) on the negative axis to the square of `close`, where a is real; and its slope."""
        return self._on_negative_axis(a, close)[1:]

    def _on_negative_axis(self, a: Array, close: float) -> tuple[Array, Array, Array]:
        """States, log(-z) to the square of `close`, and its slope."""
        shares = self._shares(share_of_rank(a))
        guesses = [hidden.start(shares[n]) for _, n, hidden in self._groups]
        state, settled, value, slope = self.polish(np.concatenate([a[None], *guesses]), close)
        if not np.all(settled):
            again = np.flatnonzero(~settled)
            shares = self._shares(share_of_rank(a[again]))
            guesses = [hidden.surely(shares[n]) for _, n, hidden in self._groups]
            found = self.polish(np.concatenate([a[None, again], *guesses]), close)
            state[:, again], settled[again], value[again], slope[again] = found
        if not np.all(settled):
            raise TheoryError(
                f"the factors could not be solved at {np.count_nonzero(~settled)} of "
                f"{settled.size} points of the negative axis; please report the product asked for"
            )
        return state, value, slope

    @cached_property
    def table(self) -> tuple[Array, Array, Array, Array]:
        """States on the negative axis, with log(-z), its slope and the hidden responses there."""
        state = self._on_negative_axis(_KNOTS[self.reach >= _KNOTS], _ROUGH)[0]
        linear = self.linearise(state)
        return state, linear.value, linear.slope, linear.response

    def in_gap(
        self, a: Numbers, side: int, places: Mapping[Factor, int] | None
    ) -> tuple[Array, Array]:
        """log z in a gap of the spectrum, where t is real, and its slope; NaN where there is none.

        Parameters
        ----------
        a
            α + iπ with α < 0 where t > 0, with α > 0 where t < -r, and α where t is between.
        side
            1 for the gap above the whole spectrum or above an atom, -1 for the one below.
        places
            The eigenspace of each factor that makes up the atom beside the gap; None for the
            outer gaps.
        """
        shares = self._shares(share_of_rank(a))
        guesses = [f.branch(shares[n], side, places) for _, n, f in self._groups]
        state, settled, _, _ = self.polish(np.concatenate([a[None], *guesses]), real=True)
        with np.errstate(all="ignore"):
            value, slope, last = self.linearise(state)[:3]
            missed = np.max(np.abs(last.real) / (1.0 + np.abs(state[1:])), axis=0, initial=0.0)
            # the slope asks for every digit
            again = np.flatnonzero(missed > _EXACT)
            if again.size:
                state[1:, again] += last[:, again].real
                value[again], slope[again] = self.linearise(state[:, again])[:2]
        # a step that is not small has left the gap, past a node of a quadrature that weighs next
        # to nothing
        lost = ~(settled & (missed <= _CLOSE))
        value[lost], slope[lost] = np.nan, np.nan
        return value.real, slope.real

    def polish(
        self, state: Numbers, close: float = _CLOSE, real: bool = False
    ) -> tuple[Numbers, NDArray[np.bool_], Numbers, Numbers]:
        """Newton's method for the hidden unknowns at fixed a, until a step is `close` to none.

        Also where it got there, and log(-z), to the square of `close`, with its slope. `real`:
        keep imaginary parts.
        """
        state, settled = state.copy(), np.zeros(state.shape[1], dtype=bool)
        value, slope = np.empty((2, state.shape[1]), dtype=state.dtype)
        active = np.arange(state.shape[1])
        for _ in range(_POLISHES):
            if active.size == 0:
                break
            with np.errstate(all="ignore"):
                linear = self.linearise(state[:, active])
            value[active], slope[active] = linear.value, linear.slope
            step = linear.correction.real if real else linear.correction
            usable = np.all(np.isfinite(step), axis=0)
            small = np.abs(step) <= close * (1.0 + np.abs(state[1:, active]))
            done = linear.settled | np.all(small, axis=0)
            step = step / np.maximum(1.0, np.max(np.abs(step), axis=0, initial=0.0))
            state[1:, active] += np.where(usable, step, 0.0)
            settled[active] = done & usable
            active = active[usable & ~done]
        return state, settled, value, slope

    def log_moments(self, k: int) -> Array:
        """log E[x^j] for j = 1 … k at unit scale, by Lagrange's inversion of 1/z = t exp(-f(t)).

        f(t) = log(z t) is analytic at t = 0, and E[x^j] is the coefficient of t^(j-1) in
        exp(j f(t)), over j.
        """
        j = np.arange(1, k)
        f = np.zeros(k)
        for n, c in self.powers:
            f[0] += c * math.log(n)
            f[1:] -= c * (-1.0 / n) ** j / j
        for _, n, hidden in self._groups:
            f += hidden.series(k) / n ** np.arange(k)
        for factor, times in self.factors.items():
            if not factor.powers:
                f[0] += times * math.log(factor.rank / self.unit)
        order = np.arange(1, k + 1)
        bend = np.where(np.arange(k) > 0, f, 0.0)
        return np.asarray(order * f[0] + np.log([exp(n * bend)[n - 1] / n for n in order]))

    def _shares(self, top: Share) -> dict[float, Share]:
        return {n: top.of(self.rank / n, (n - self.rank) / n) for n in self._ranks}
