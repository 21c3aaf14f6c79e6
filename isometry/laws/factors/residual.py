"""A residual layer: a skip connection beside a branch of one activation and one weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import finite, positive
from isometry.errors import TheoryError
from isometry.laws.factors.diagonal import Diagonal
from isometry.laws.factors.factor import Block, Eigenspace, Factor, Hidden, distribution
from isometry.laws.factors.gaussian import Gaussian
from isometry.laws.factors.isometry import Isometry
from isometry.laws.factors.masses import masses, run
from isometry.laws.law import Array
from isometry.laws.series import composed, log, log_over_argument, power_sums, reverted, times
from isometry.laws.share import Numbers, Share, share_of_rank, sided_log

Kind = Literal["gaussian", "orthogonal"]

#: of one evaluation of the two equations
_ROUNDING = 64.0 * float(np.finfo(float).eps)
_BISECTIONS = 50
_FAINT = 1e-6  # -C_X of a branch beside whose skip digits are lost
_WIDEST_GAIN = 500.0  # |log| of the largest x of the branch beside that of the skip
_WIDEST_LOGIT = 120.0


class Residual(Factor, Hidden):
    r"""One layer a I + b X with X = D W, or W D, or W₂ D W₁, square.

    D is diagonal and W Gaussian with entries N(0, variance / size), or √variance times a Haar
    orthogonal matrix, free of D; so X is R-diagonal. The symmetrised laws of the singular values
    of a I and b X are added freely (Haagerup and Larsen). With m = t / size, w² = z and g the
    Cauchy transform of the symmetrised sum, 1 + m = w g and

        m = C_a(g²) + C_X(b² g²),   a² g² = C_a (1 + C_a),   χ = (1 + m)² / g²,

    where C_X = E d / (ζ - d) with b² variance g² = G(ζ) for Gaussian weights and ζ G(ζ)² for
    orthogonal ones, G(ζ) = E 1 / (ζ - d). Unknowns are logit(-C_a) and log(-ζ).

    Products of such layers are exact where each branch starts and ends with a rotation of its
    own, as in W₂ D W₁. For D W or W D with independent D the layers do not rotate each other's
    D: the error is about 1 % of the density at depth 4 and vanishes as the depth grows. Where
    the D of different layers are correlated, as in x + b W φ(x), whose skip carries the signs
    of x from layer to layer, the error does NOT vanish with depth: for ReLU with the same D in
    all layers Var log x is 2.13 where this law says 2.32 (depth 20, b² variance E d = 1 / depth),
    a Kolmogorov–Smirnov distance of 0.06 to 0.08, and 0.03 to 0.04 in real networks. E log x and
    E x are right all the same. The matrix Dyson equation with the joint law of the D is exact.

    Parameters
    ----------
    a, b
        Scales of the skip and of the branch; signs do not matter. Without a skip, a = 0, the layer
        is a weight and a diagonal; a branch of 0 is refused.
    values, weights : (k,) arrays
        d >= 0, the squares of D, and their masses: for an activation φ′(h)².
    kind
        "gaussian" or "orthogonal".
    variance
        σ_w² of W, positive.
    size
        The dimension; only ratios count.

    Raises
    ------
    TheoryError
        When an argument is outside its domain.

    References
    ----------
    Haagerup and Larsen, Brown's spectral distribution measure for R-diagonal elements in
    finite von Neumann algebras, J. Funct. Anal. 2000. Tarnowski et al., Dynamical isometry is
    achieved in residual networks in a universal way for any activation function, AISTATS 2019.
    """

    #: ζ may leave the upper half plane: its square root does not
    strips = ((-math.pi, math.pi), (-math.pi, math.pi))
    #: 1 + m is a difference of numbers that are not small where no gap opens at σ = 0
    reach = 40.0

    def __init__(
        self,
        a: float,
        b: float,
        values: ArrayLike,
        weights: ArrayLike | None = None,
        kind: Kind = "gaussian",
        variance: float = 1.0,
        size: float = 1.0,
    ) -> None:
        if kind not in get_args(Kind):
            raise TheoryError(f'the kind is {kind!r}; expected "gaussian" or "orthogonal"')
        self.a, self.b = abs(finite("a", a)), abs(finite("b", b))
        if self.b == 0:
            raise TheoryError(
                f"the scale of the branch is {b!r}; expected a number other than 0: "
                "without a branch use Isometry"
            )
        self.rows = self.columns = positive("size", size)
        self.kind, self.variance = kind, positive("variance", variance)
        self.values, self.weights = distribution(values, weights)
        unit, self._masses = masses(self.values, self.weights)
        self._dead = float(self.weights[0]) if self.values[0] == 0 else 0.0
        # in units of the skip: x = a² (1 + …), and the branch's largest d is 1
        ratio = 2 * math.log(self.b / self.a) if self.a else math.inf
        self._log_gain = ratio + math.log(self.variance) + math.log(unit)
        if self.a and abs(self._log_gain) > _WIDEST_GAIN:
            raise TheoryError(
                f"skip and branch differ by a factor e^{0.5 * self._log_gain:.0f}; expected scales "
                "that float64 holds beside each other"
            )
        self._turns = 1 if kind == "gaussian" else 2
        self._tables: dict[tuple[int, bool], tuple[Array, ...]] = {}
        laws = self.values.tobytes(), self.weights.tobytes()
        self._key = (self.a, self.b, self.kind, self.variance, self.rows, *laws)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Residual) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Residual({self.a:g}, {self.b:g}, {self.values.size} values, {self.kind!r})"

    @property
    def parts(self) -> tuple[Factor, ...]:
        """The layer itself, or its weight and its diagonal where it has no skip."""
        if self.a:
            return (self,)
        size, variance = self.rows, self.b**2 * self.variance
        diagonal = Diagonal(self.values, self.weights, size)
        if self.kind == "gaussian":
            return Gaussian(size, size, variance), diagonal
        return Isometry(size, size, scale=math.sqrt(variance)), diagonal

    @property
    def rank(self) -> float:
        """All of it: with a skip a I + b X has no null space."""
        return self.rows

    @property
    def log_scale(self) -> float:
        """2 log a."""
        return 2.0 * math.log(self.a)

    @property
    def eigenspaces(self) -> tuple[Eigenspace, ...]:
        """Where both X and its adjoint vanish, a² remains: more than half of D has to be 0."""
        both = 2.0 * self._dead - 1.0
        return (Eigenspace(self.log_scale, self.rows * both, 0),) if both > 0 else ()

    def linearise(self, unknowns: Numbers, share: Share) -> Block:
        """Two equations, t = size (C_a + C_X) and the equality of g², eliminated together."""
        h, y = unknowns
        skip = share_of_rank(h)  # of -C_a and 1 + C_a
        log_p, log_q, log_moved = self._branch_sums(y)
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
        correction = np.stack([total_y * gap - gap_y * total, gap_h * total - total_h * gap]) / det
        response = np.stack([-gap_y * total_a, gap_h * total_a]) / det
        value = 2.0 * share.log_rest - log_g2 + gap_y * correction[1]
        slope = 2.0 * share.slope_rest + gap_y * response[1]

        # C_a is large beside h = iπ, and log(-C_a) no better known than h relative to it
        of_gap = _ROUNDING * (1.0 + np.abs(y) + np.abs(h) * np.maximum(1.0, np.abs(skip.mu)))
        blur = of_gap * np.abs(np.stack([total_y, total_h]))
        blur = (blur + _ROUNDING * np.abs(np.stack([gap_y, gap_h]))) / np.abs(det)
        return Block(value, slope, correction, response, blur, np.abs(gap_y) * blur[1])

    def start(self, share: Share) -> Array:
        """By bisection in logit(-C_a): the equality of g² is monotone in it at a given t."""
        reach = _WIDEST_LOGIT + abs(self._log_gain)
        low, high = np.full(share.mu.shape, -reach), np.full(share.mu.shape, reach)
        for _ in range(_BISECTIONS):
            h = 0.5 * (low + high)
            of_branch, of_skip, _ = self._log_zeta(h, share)
            rises = of_branch < of_skip
            low, high = np.where(rises, h, low), np.where(rises, high, h)
        of_branch, of_skip, p = self._log_zeta(h, share)
        # a faint branch is the difference of numbers that are not
        return np.stack([h, np.where(p > _FAINT, of_branch, of_skip)])

    def branch(self, share: Share, side: int, places: Mapping[Factor, int] | None) -> Numbers:
        """From a table in ζ on which C_a, C_X and t are explicit."""
        key, h, y = self._gap_table(side, places is not None)
        wanted = -share.mu.real if side > 0 else -share.rest.real
        with np.errstate(divide="ignore", invalid="ignore"):
            at = np.log(wanted) if places is None else np.arcsinh(wanted)
        at = np.where((at < key[0]) | (at > key[-1]), np.nan, at)  # there is no such t
        real = np.stack([np.interp(at, key, h), np.interp(at, key, y)])
        found = real + 1j * np.pi * np.array([[1.0], [-float(side)]])
        # between -size and 0, t still belongs to the negative axis
        own = (share.mu.real > 0) & (share.rest.real > 0) & (places is None)
        return np.asarray(np.where(own, self.start(share.real), found) if np.any(own) else found)

    def log_determinant(self, unknowns: Numbers, share: Share) -> Numbers:
        """E log(1 - x/z), from those of the skip and of the branch."""
        h, y = unknowns
        log_p, log_q, _ = self._branch_sums(y)
        branch = self._masses.log_determinant(y)
        if self.kind == "gaussian":
            branch = branch - np.exp(log_p) - log_q
        return np.asarray(branch + 2.0 * log_q - 2.0 * share.log_rest + share_of_rank(h).log_rest)

    def series(self, order: int) -> Array:
        """From m = C_a + C_X as a series in a² g²."""
        moments = power_sums(self._masses.d, self._masses.p, order)
        one_plus = np.concatenate([[1.0], moments[:-1]])
        turned = times(one_plus, one_plus) if self._turns == 2 else one_plus
        inverse_zeta = np.concatenate([[0.0], reverted(turned / math.exp(self._log_gain))])
        branch = composed(np.concatenate([[0.0], moments]), inverse_zeta)[1:]
        one_plus_m = np.where(np.arange(order) < 2, 1.0, 0.0)
        skip = reverted(one_plus_m)  # a² g² = C_a (1 + C_a)
        return 2.0 * log(one_plus_m) - log_over_argument(reverted(skip + branch))

    def _branch_sums(self, y: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Logarithms of -C_X, of 1 + C_X, and of the derivative of 1 + C_X in y."""
        peak = np.maximum(y.real, 0.0)
        du, v, du_slope, _ = self._masses.sums(y)
        side = np.sign(y.imag)  # of every term of q, and opposite to that of the others
        q = self._dead + np.exp(y - peak) * v
        log_q = sided_log(q, side)
        return sided_log(du, -side) - peak, log_q, np.log(du_slope) - peak

    def _log_zeta(self, h: Array, share: Share) -> tuple[Array, Array, Array]:
        """log(-ζ) on the negative axis where t is what it should be; where g² is; and -C_X."""
        skip = share_of_rank(h)
        p = np.where(skip.mu < 0.5, share.mu - skip.mu, skip.rest - share.rest)
        q = share.rest + skip.mu
        with np.errstate(divide="ignore", invalid="ignore"):
            y = self._masses.from_logit(np.log(p) - np.log(q - self._dead))
        y = np.where(p <= 0, np.inf, np.where(q <= self._dead, -np.inf, y))
        return y, self._turns * np.log(q) - skip.log_mu - skip.log_rest - self._log_gain, p

    def _gap_table(self, side: int, at_atom: bool) -> tuple[Array, ...]:
        """An increasing function of m or of -1 - m, and the real parts of both unknowns."""
        if (side, at_atom) not in self._tables:
            self._tables[side, at_atom] = self._tabulate(side, at_atom)
        return self._tables[side, at_atom]

    def _tabulate(self, side: int, at_atom: bool) -> tuple[Array, ...]:
        skip_rules = float(self._masses.mean) * math.exp(self._log_gain) < 1.0
        outer = not at_atom and (side > 0 or skip_rules)
        below = side < 0 and (at_atom or skip_rules)  # C_a < -1, otherwise C_a > 0
        log_zeta = self._masses.gap(self._masses.d.size if outer else 0)
        log_p, log_q, _ = self._branch_sums(log_zeta - 1j * np.pi)
        p, q = -np.exp(log_p).real, np.exp(log_q).real  # C_X and 1 + C_X
        c = np.exp(self._turns * log_q.real - log_zeta - self._log_gain)  # a² g²
        c = 2.0 * c / (1.0 + np.sqrt(1.0 + 4.0 * c))
        h = np.log(c) - np.log1p(c)
        with np.errstate(divide="ignore", invalid="ignore"):
            key = c + p if side > 0 else c - p if below else -q - c
            key = np.arcsinh(key) if at_atom else np.log(key)
        return run(key, -h if below else h, log_zeta, from_last=outer)
