"""The equations of several residual layers, solved together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from isometry.domain import Array
from isometry.laws.factors.factor import Block, Factor, Hidden
from isometry.laws.factors.masses import Masses, run
from isometry.laws.factors.residual import Residual
from isometry.laws.series import composed, log, log_over_argument, power_sums, reverted, times
from isometry.laws.share import Numbers, Share, share_of_rank, sided_log

#: of one evaluation of the two equations
_ROUNDING = 64.0 * float(np.finfo(float).eps)
_BISECTIONS = 50
_FAINT = 1e-6  # -C_X of a branch beside whose skip digits are lost
_WIDEST_LOGIT = 120.0


class Residuals(Hidden):
    r"""χ of each layer a I + b X by a free sum of symmetrised laws: two unknowns a layer.

    With m = t / size, w² = z and g the Cauchy transform of the symmetrised sum, 1 + m = w g and

        m = C_a(g²) + C_X(b² g²),   a² g² = C_a (1 + C_a),   χ = (1 + m)² / g²,

    where C_X = E d / (ζ - d) with b² variance g² = G(ζ) for Gaussian weights and ζ G(ζ)² for
    orthogonal ones, G(ζ) = E 1 / (ζ - d). Unknowns are logit(-C_a) of all layers, then log(-ζ)
    of all: the layers have one size and kind, and their unknowns do not meet.

    Parameters
    ----------
    factors
        Different layers of one size and kind, with their multiplicities.
    """

    #: 1 + m is a difference of numbers that are not small where no gap opens at σ = 0
    reach = 40.0

    def __init__(self, factors: Sequence[tuple[Residual, int]]) -> None:
        self.factors = [factor for factor, _ in factors]
        #: ζ may leave the upper half plane: its square root does not
        self.strips = ((-math.pi, math.pi),) * (2 * len(factors))
        self._times = np.array([times for _, times in factors], dtype=float)
        self._turns = 1 if self.factors[0].kind == "gaussian" else 2
        self._dead = np.array([[factor.dead] for factor in self.factors])
        self._log_gain = np.array([[factor.log_gain] for factor in self.factors])
        self._tables: dict[tuple[Residual, int, bool], tuple[Array, ...]] = {}

    @cached_property
    def _masses(self) -> Masses:
        return Masses.rows([factor.masses for factor in self.factors])

    def linearise(self, unknowns: Numbers, share: Share) -> Block:
        """Two equations, t = size (C_a + C_X) and the equality of g², eliminated together."""
        h, y = np.split(unknowns, 2)
        skip = share_of_rank(h)  # of -C_a and 1 + C_a
        log_p, log_q, log_moved = _branch_sums(self._masses, self._dead, y)
        moved = np.exp(log_moved - log_q)

        # log(-a² g²) from the skip less that from the branch
        log_g2 = self._turns * log_q - y - self._log_gain
        gap = skip.log_mu + skip.log_rest - log_g2
        gap_h, gap_y = skip.rest - skip.mu, 1.0 - self._turns * moved

        # -C_a - C_X + t / size in units of its smallest term: t / size may be close to 0 or -1
        few = share.mu.real < 0.5
        by_q = ~few & (log_q.real < skip.log_rest.real)
        unit = np.where(few, skip.log_mu, np.where(by_q, log_q, skip.log_rest))
        s, p, mu = (np.exp(term - unit) for term in (skip.log_mu, log_p, share.log_mu))
        rest = np.exp(share.log_rest - unit)
        total = np.where(few, 1.0 + p - mu, np.where(by_q, s + rest - 1.0, p + rest - 1.0))
        total_h, total_y = s * skip.rest, -np.exp(log_moved - unit)
        total_a = -mu * share.slope_mu

        det = total_h * gap_y - total_y * gap_h
        det = np.where(det == 0, np.inf, det)  # nothing to be told: stay
        moved_y, answer_y = (gap_h * total - total_h * gap) / det, gap_h * total_a / det
        correction = np.concatenate([(total_y * gap - gap_y * total) / det, moved_y])
        response = np.concatenate([-gap_y * total_a / det, answer_y])
        value = 2.0 * share.log_rest - log_g2 + gap_y * moved_y
        slope = 2.0 * share.slope_rest + gap_y * answer_y

        # C_a is large beside h = iπ, and log(-C_a) no better known than h relative to it
        of_gap = _ROUNDING * (1.0 + np.abs(y) + np.abs(h) * np.maximum(1.0, np.abs(skip.mu)))
        blur_h = (of_gap * np.abs(total_y) + _ROUNDING * np.abs(gap_y)) / np.abs(det)
        blur_y = (of_gap * np.abs(total_h) + _ROUNDING * np.abs(gap_h)) / np.abs(det)
        error = self._times @ (np.abs(gap_y) * blur_y)
        total, rise = self._times @ value, self._times @ slope
        return Block(total, rise, correction, response, np.concatenate([blur_h, blur_y]), error)

    def start(self, share: Share) -> Array:
        """By bisection in logit(-C_a): the equality of g² is monotone in it at a given t."""
        reach = np.broadcast_to(
            _WIDEST_LOGIT + np.abs(self._log_gain), (len(self.factors), share.mu.size)
        )
        low, high = -reach, reach
        for _ in range(_BISECTIONS):
            h = 0.5 * (low + high)
            of_branch, of_skip, _ = self._log_zeta(h, share)
            rises = of_branch < of_skip
            low, high = np.where(rises, h, low), np.where(rises, high, h)
        of_branch, of_skip, p = self._log_zeta(h, share)
        # a faint branch is the difference of numbers that are not
        return np.concatenate([h, np.where(p > _FAINT, of_branch, of_skip)])

    def branch(self, share: Share, side: int, places: Mapping[Factor, int] | None) -> Numbers:
        """From tables in ζ on which C_a, C_X and t are explicit."""
        wanted = -share.mu.real if side > 0 else -share.rest.real
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.log(wanted) if places is None else np.arcsinh(wanted)
        rows = []
        for factor in self.factors:
            key, h, y = self._gap_table(factor, side, places is not None)
            at = np.where((wanted < key[0]) | (wanted > key[-1]), np.nan, wanted)  # no such t
            rows.append([np.interp(at, key, h), np.interp(at, key, y)])
        h, y = np.swapaxes(np.array(rows), 0, 1)
        found = np.concatenate([h + 1j * np.pi, y - 1j * np.pi * side])
        # between -size and 0, t still belongs to the negative axis
        own = (share.mu.real > 0) & (share.rest.real > 0) & (places is None)
        return np.asarray(np.where(own, self.start(share.real), found) if np.any(own) else found)

    def log_determinant(self, unknowns: Numbers, share: Share) -> Numbers:
        """E log(1 - x/z), from those of the skip and of the branch."""
        h, y = np.split(unknowns, 2)
        log_p, log_q, _ = _branch_sums(self._masses, self._dead, y)
        branch = self._masses.log_determinant(y)
        if self._turns == 1:
            branch = branch - np.exp(log_p) - log_q
        own = branch + 2.0 * log_q - 2.0 * share.log_rest + share_of_rank(h).log_rest
        return np.asarray(self._times @ own)

    def series(self, order: int) -> Array:
        """From m = C_a + C_X as a series in a² g²."""
        one_plus_m = np.where(np.arange(order) < 2, 1.0, 0.0)
        skip = reverted(one_plus_m)  # a² g² = C_a (1 + C_a)
        total = np.zeros(order)
        for factor, count in zip(self.factors, self._times, strict=True):
            moments = power_sums(factor.masses.d, factor.masses.p, order)
            one_plus = np.concatenate([[1.0], moments[:-1]])
            turned = times(one_plus, one_plus) if self._turns == 2 else one_plus
            inverse_zeta = np.concatenate([[0.0], reverted(turned / math.exp(factor.log_gain))])
            branch = composed(np.concatenate([[0.0], moments]), inverse_zeta)[1:]
            total += count * (2.0 * log(one_plus_m) - log_over_argument(reverted(skip + branch)))
        return total

    def _log_zeta(self, h: Array, share: Share) -> tuple[Array, Array, Array]:
        """log(-ζ) on the negative axis where t is what it should be; where g² is; and -C_X."""
        skip = share_of_rank(h)
        p = np.where(skip.mu < 0.5, share.mu - skip.mu, skip.rest - share.rest)
        q = share.rest + skip.mu
        with np.errstate(divide="ignore", invalid="ignore"):
            y = self._masses.from_logit(np.log(p) - np.log(q - self._dead))
        y = np.where(p <= 0, np.inf, np.where(q <= self._dead, -np.inf, y))
        return y, self._turns * np.log(q) - skip.log_mu - skip.log_rest - self._log_gain, p

    def _gap_table(self, factor: Residual, side: int, at_atom: bool) -> tuple[Array, ...]:
        """An increasing function of m or of -1 - m, and the real parts of both unknowns."""
        place = factor, side, at_atom
        if place not in self._tables:
            self._tables[place] = self._tabulate(*place)
        return self._tables[place]

    def _tabulate(self, factor: Residual, side: int, at_atom: bool) -> tuple[Array, ...]:
        law = factor.masses
        skip_rules = float(law.mean) * math.exp(factor.log_gain) < 1.0
        outer = not at_atom and (side > 0 or skip_rules)
        below = side < 0 and (at_atom or skip_rules)  # C_a < -1, otherwise C_a > 0
        log_zeta = law.gap(law.d.size if outer else 0)
        log_p, log_q, _ = _branch_sums(law, factor.dead, log_zeta - 1j * np.pi)
        p, q = -np.exp(log_p).real, np.exp(log_q).real  # C_X and 1 + C_X
        c = np.exp(self._turns * log_q.real - log_zeta - factor.log_gain)  # a² g²
        c = 2.0 * c / (1.0 + np.sqrt(1.0 + 4.0 * c))
        h = np.log(c) - np.log1p(c)
        with np.errstate(divide="ignore", invalid="ignore"):
            key = c + p if side > 0 else c - p if below else -q - c
            key = np.arcsinh(key) if at_atom else np.log(key)
        return run(key, -h if below else h, log_zeta, from_last=outer)


def _branch_sums(law: Masses, dead: Array | float, y: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Logarithms of -C_X, of 1 + C_X, and of the derivative of 1 + C_X in y."""
    peak = np.maximum(y.real, 0.0)
    du, v, du_slope, _ = law.sums(y)
    side = np.sign(y.imag)  # of every term of q, and opposite to that of the others
    q = dead + np.exp(y - peak) * v
    log_q = sided_log(q, side)
    return sided_log(du, -side) - peak, log_q, np.log(du_slope) - peak
