"""The equations of several diagonal factors, solved together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isometry.domain import Array
from isometry.laws.factors.diagonal import Diagonal
from isometry.laws.factors.factor import Block, Factor, Hidden
from isometry.laws.factors.masses import Masses
from isometry.laws.rows import interpolated
from isometry.laws.series import log_over_argument, power_sums, reverted
from isometry.laws.share import Numbers, Share

#: of one evaluation of the logit
_ROUNDING = 2.0 * float(np.finfo(float).eps)
#: a slope of the logit so small, and a miss of it, that rounding hides where the root is
_FLAT, _BLANK = 1e-6, 4.0 * _ROUNDING


class Diagonals(Hidden):
    r"""χ of each factor is the root ζ of t = E d / (ζ - d) times the rank: unknown y = log(-ζ).

    The factors have one rank, and their unknowns do not meet: one row each of the same arrays.

    Parameters
    ----------
    factors
        Different factors of one rank, with their multiplicities.
    """

    def __init__(self, factors: Sequence[tuple[Diagonal, int]]) -> None:
        self.factors = [factor for factor, _ in factors]
        self.strips = ((-math.pi, 0.0),) * len(factors)
        self._times = np.array([times for _, times in factors], dtype=float)
        self._tables: dict[tuple[int, ...], tuple[Array, Array, NDArray[np.bool_]]] = {}

    @cached_property
    def _masses(self) -> Masses:
        return Masses.rows([factor.masses for factor in self.factors])

    def linearise(self, unknowns: Numbers, share: Share) -> Block:
        """The logit of P = -t / rank, from ζ and from a."""
        logit, slope = self._masses.logit(unknowns)
        miss = share.log_mu - share.log_rest - logit
        size = 1.0 + np.abs(unknowns)
        # on a stair, between masses that are far apart, t tells nothing of ζ
        blank = (np.abs(slope) < _FLAT) & (np.abs(miss) <= _BLANK * (size + np.abs(logit)))
        correction = np.where(blank, 0.0, miss / slope)
        response = (share.slope_mu - share.slope_rest) / slope
        error = _ROUNDING * size / np.abs(slope)
        value, total = self._times @ (unknowns + correction), self._times @ response
        return Block(value, total, correction, response, 0.0, self._times @ error)

    def start(self, share: Share) -> Array:
        """From a table on ζ < 0, along which the logit decreases."""
        logit = share.log_mu - share.log_rest
        return self._masses.from_logit(np.broadcast_to(logit, (len(self.factors), logit.size)))

    def surely(self, share: Share) -> Array:
        """Each by itself, to rounding error."""
        logit = share.log_mu - share.log_rest
        return np.stack([factor.masses.inverse(logit) for factor in self.factors])

    def branch(self, share: Share, side: int, places: Mapping[Factor, int] | None) -> Numbers:
        """From tables between two neighbouring values, or beyond the last."""
        with np.errstate(divide="ignore"):
            logit = np.log(np.abs(share.mu.real)) - np.log(np.abs(share.rest.real))
        if places is None:
            above = [factor.masses.d.size if side > 0 else 0 for factor in self.factors]
        else:
            above = [places[factor] + (side > 0) for factor in self.factors]
        key, log_zeta, inner = self._gap_table(tuple(above))
        wanted = np.where(inner, np.arcsinh(share.mu.real), logit)
        found = interpolated(key, log_zeta, wanted) - 1j * np.pi
        # in an outer gap t between -rank and 0 belongs to ζ < 0
        own = (share.mu.real > 0) & (share.rest.real > 0)
        if np.any(own):
            found = np.where(own & ~inner, self.start(share.real), found)
        return np.asarray(found)

    def log_determinant(self, unknowns: Numbers, share: Share) -> Numbers:
        """E log(1 - d/ζ)."""
        times = self._times / self._masses.alive
        return np.asarray(times @ self._masses.log_determinant(unknowns))

    def series(self, order: int) -> Array:
        """From t = E Σ_k (d/ζ)^k reverted to 1/ζ as a series in t."""
        total = np.zeros(order)
        for factor, times in zip(self.factors, self._times, strict=True):
            law = factor.masses
            moments = power_sums(law.d, law.p / law.alive, order)
            total -= times * log_over_argument(reverted(moments))
        return total

    def _gap_table(self, above: tuple[int, ...]) -> tuple[Array, Array, NDArray[np.bool_]]:
        """An increasing function of P with the log ζ between two values that belong to it.

        In an outer gap P does not pass 0 or 1, and its logit resolves them; in an inner one it
        takes all real values, and passes both smoothly. Also which gaps are inner ones.
        """
        if above not in self._tables:
            laws = [factor.masses for factor in self.factors]
            gaps = list(zip(laws, above, strict=True))
            log_zeta = np.array([law.gap(place) for law, place in gaps])
            inner = np.array([[0 < place < law.d.size] for law, place in gaps])
            logit = self._masses.logit(log_zeta - 1j * np.pi)[0]
            key = np.where(inner, np.arcsinh((1.0 / (1.0 + np.exp(-logit))).real), logit.real)
            order = np.argsort(key, axis=1)
            key, log_zeta = (np.take_along_axis(a, order, axis=1) for a in (key, log_zeta))
            self._tables[above] = key, log_zeta, inner
        return self._tables[above]
