"""An infinitely wide network: what mean-field theory and free probability say of its Jacobian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from isometry.domain import finite, whole
from isometry.errors import TheoryError
from isometry.laws.factors import Diagonal, Factor, Gaussian, Isometry, Residual
from isometry.laws.free import free_product
from isometry.laws.law import Law
from isometry.laws.pushforward import PushforwardLaw
from isometry.meanfield import (
    Activation,
    OperatingPoint,
    activation,
    operating_point,
    q_profile,
    residual_profile,
    slope_law,
)
from isometry.meanfield.representatives import representatives

Array = NDArray[np.float64]
Ensemble = Literal["gaussian", "orthogonal"]

_SMALLEST, _LARGEST = 1e-100, 1e100  # of scales: their squares are numbers still
_DEEPEST = 100_000
#: spread by which neighbours hide the nodes of a quadrature: less is little; and at least
_LITTLE, _LEAST = 0.9, 1e-4
_CORRELATED = (
    "the law takes the slopes of different blocks to be independent; skips carry them from block "
    "to block, and the CDF of real networks is 0.02 to 0.05 away"
)


@dataclass(frozen=True)
class WideNetwork:
    r"""A chain of L layers h^l = W^l φ(h^{l-1}) + b^l, each as wide as its share, n → ∞.

    Its Jacobian is J = D^L W^L ⋯ D^1 W^1 with D^l = diag φ′(h^l): every layer ends in its
    activation. W is σ_w times Haar orthogonal, or has entries N(0, σ_w²/n_in); b has entries
    N(0, σ_b²). A matrix that widens, n_out > n_in, is scaled by √(n_out / n_in) where it is
    orthogonal, so that both ensembles give every unit the same variance.

    With `residual` = (a, b) a layer is x^l = a x^{l-1} + b (W^l φ(x^{l-1}) + b^l) instead; a = 0
    leaves a plain chain, b = 0 the input times a^L. The law takes the slopes of different layers
    to be independent, but the skip carries the signs of x from layer to layer: real networks are
    a Kolmogorov–Smirnov distance of 0.02 to 0.05 away at every depth, though E σ² and E log σ are
    right. `DysonLaw.from_masks` with measured slopes is exact; `notes` repeats this.

    Parameters
    ----------
    activation
        φ: a name, a callable or an `Activation`.
    weights
        "gaussian" or "orthogonal".
    depth
        L from 1 to 100,000.
    sigma_w, sigma_b
        Standard deviations of weights (times √n_in) and biases.
    input_variance
        Mean square of the input's entries; by default pre-activations start, and stay, at
        the fixed point q* (at variance 1 in a residual network, which has none).
    widths
        n_0, …, n_L in any unit; by default all are equal.
    residual
        (a, b): the scales of the skip and of the branch.
    fixed_point
        A fixed point of these scales to stand at, stable or not, as from `critical_point`; by
        default the one that a variance of 1 is drawn to.

    Raises
    ------
    TheoryError
        When an argument is outside its domain, the fixed point is another network's, or the
        variance has none to start at.

    References
    ----------
    Pennington, Schoenholz and Ganguli, Resurrecting the sigmoid in deep learning through
    dynamical isometry: theory and practice, NeurIPS 2017. Tarnowski et al., Dynamical
    isometry is achieved in residual networks in a universal way for any activation
    function, AISTATS 2019.

    Examples
    --------
    >>> net = WideNetwork("relu", "gaussian", depth=10, sigma_w=2**0.5)
    >>> round(net.law.score, 6)
    0.088589
    """

    activation: Activation | str
    weights: Ensemble
    depth: int
    sigma_w: float
    sigma_b: float = 0.0
    input_variance: float | None = None
    widths: tuple[int, ...] = ()
    residual: tuple[float, float] | None = None
    fixed_point: OperatingPoint | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", activation(self.activation))
        if self.weights not in get_args(Ensemble):
            raise TheoryError(f'weights is {self.weights!r}; expected "gaussian" or "orthogonal"')
        widths = tuple(whole("a width", n, 1) for n in self.widths)
        object.__setattr__(self, "widths", widths)
        if len(widths) == 1:
            raise TheoryError(f"widths are {widths}; expected two or more, the input's first")
        object.__setattr__(self, "depth", whole("the depth", self.depth, 1))
        if self.depth > _DEEPEST:
            raise TheoryError(
                f"the depth is {self.depth}; expected at most {_DEEPEST:,}: the limit of infinite "
                "width says little of networks that are deeper than they are wide"
            )
        if widths and len(widths) != self.depth + 1:
            raise TheoryError(
                f"got {len(widths)} widths for a depth of {self.depth}; expected "
                f"{self.depth + 1}, one more than layers: the input's first"
            )
        if self.residual is not None:
            self._check_residual()
        self._check_scales()

    def _check_scales(self) -> None:
        for label in ("sigma_w", "sigma_b", "input_variance"):
            value = getattr(self, label)
            if value is None and label == "input_variance":
                continue
            least = 0.0 if label == "sigma_b" else _SMALLEST
            if not least <= finite(label, value) <= _LARGEST:
                raise TheoryError(
                    f"{label} is {value!r}; expected a number from {least:g} to {_LARGEST:g}"
                )
        at, own = self.fixed_point, (self._phi.name, self.sigma_w, self.sigma_b)
        if at is not None and (at.activation, at.sigma_w, at.sigma_b) != own:
            raise TheoryError(
                f"fixed_point is one of {at.activation} at sigma_w = {at.sigma_w:g}, sigma_b = "
                f"{at.sigma_b:g}; expected {own[0]}, {own[1]:g}, {own[2]:g}: "
                "take both from one point"
            )

    def _check_residual(self) -> None:
        try:
            a, b = (finite("a scale of a skip", scale) for scale in self.residual or ())
        except (TypeError, ValueError) as e:
            raise TheoryError(
                f"residual is {self.residual!r}; expected two finite numbers, skip and branch"
            ) from e
        object.__setattr__(self, "residual", (a, b))
        if a == b == 0.0:
            raise TheoryError("both scales of residual are 0: such a layer forgets its input")
        if len(set(self.widths)) > 1:
            raise TheoryError("skips join layers of one width; expected equal widths")

    @cached_property
    def point(self) -> OperatingPoint | None:
        """The fixed point that signals are at or drawn to; None where their variance has none."""
        if self.residual is not None:
            return None
        if self.fixed_point is not None:
            return self.fixed_point
        try:
            return operating_point(self._phi, self.sigma_w, self.sigma_b)
        except TheoryError:
            if self.input_variance is None and self._phi.homogeneous is None:
                raise
            return None

    @cached_property
    def q(self) -> Array:
        """Variances at which the slopes of layers 1 … L are taken, shape (L,).

        All infinite where they leave float64 and the slopes have one law at every variance.
        """
        try:
            return self._variances()
        except TheoryError:
            if self._phi.homogeneous is None:
                raise
            return np.full(self.depth, np.inf)

    def _variances(self) -> Array:
        if self.residual is not None:
            return self._stream(*self.residual)
        if self.input_variance is not None:
            start = float(self.input_variance)
            return q_profile(self._phi, start, self.sigma_w, self.sigma_b, self.depth)
        fixed = 1.0 if self.point is None else self.point.q_star
        return np.full(self.depth, fixed)

    @cached_property
    def law(self) -> Law:
        """Limiting law of the singular values of J."""
        widens = bool(self.widths) and self.widths[1] > self.widths[0]
        skip, branch = self._scales
        if self.depth == 1 and self.weights == "orthogonal" and not (skip or widens) and branch:
            return self._single_layer(branch)
        return free_product(self._factors(), name=self.name)

    @property
    def name(self) -> str:
        """For a legend."""
        layers = f"{self.depth} layer{'s' if self.depth > 1 else ''}"
        skip = f", skip {self.residual[0]:g} + {self.residual[1]:g}·branch" if self.residual else ""
        return f"{self._phi.name}, {layers}, {self.weights} weights{skip}, infinite width"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers do not say."""
        of_point = () if self.point is None else self.point.notes
        return (*of_point, _CORRELATED) if self.depth > 1 and all(self._scales) else of_point

    def to_dict(self, points: int = 400) -> dict[str, Any]:
        """All that theory says, with the law on a grid; what `isometry theory --json` writes."""
        law, at = self.law, self.point
        grid = law.grid(points)
        with np.errstate(divide="ignore", invalid="ignore"):
            m1, m2 = law.moments(2)
            spread = float(m2 / m1**2)  # NaN where σ² leaves the range of float64
        zero = sum(atom.mass for atom in law.atoms if atom.sigma == 0)
        return {
            "activation": self._phi.name,
            "weights": self.weights,
            "depth": self.depth,
            "widths": list(self.widths),
            "residual": None if self.residual is None else list(self.residual),
            "sigma_w": self.sigma_w,
            "sigma_b": self.sigma_b,
            "q": self.q.tolist() if len(set(self.q.tolist())) > 1 else [float(self.q[0])],
            **{
                key: None if at is None else getattr(at, key)
                for key in ("q_star", "chi_1", "chi_q", "c_star", "xi_q", "xi_c", "phase", "stable")
            },
            "mean_log_sigma": law.mean_log_sigma,
            "std_log_sigma": law.std_log_sigma,
            "log_sigma_max": max([law.support[1], *(place for place, _ in law.log_atoms)]),
            "rank_fraction": 1.0 - zero,
            "m2_over_m1_squared": spread,
            "score": law.score,
            "atoms": [[atom.sigma, atom.mass] for atom in law.atoms],
            "log_atoms": [list(place) for place in law.log_atoms],
            "grid": grid.tolist(),
            "cdf": law.cdf(grid).tolist(),
            "density": law.density(grid).tolist(),
            "notes": list(self.notes),
        }

    @property
    def _phi(self) -> Activation:
        return activation(self.activation)

    def _stream(self, skip: float, branch: float) -> Array:
        """Variance of the stream before each block, where the block's slopes are taken."""
        first = 1.0 if self.input_variance is None else float(self.input_variance)
        if self.depth == 1:
            return np.array([first])
        profile = residual_profile(
            self._phi, first, self.sigma_w, self.sigma_b, self.depth - 1, skip=skip, branch=branch
        )
        return np.concatenate([[first], profile.q])

    @property
    def _scales(self) -> tuple[float, float]:
        """(a, b); (0, 1) of a plain chain."""
        return self.residual or (0.0, 1.0)

    def _single_layer(self, scale: float) -> Law:
        # a kink at 0 has slopes on both sides, also in the limit q → 0
        root, derivative = max(math.sqrt(float(self.q[0])), _SMALLEST), self._phi.derivative
        breaks = [k / root for k in self._phi.kinks]
        scale *= self.sigma_w
        return PushforwardLaw(lambda z: np.abs(scale * derivative(root * z)), breaks, self.name)

    def _factors(self) -> list[tuple[Factor, int]]:
        """Factors with their powers; layers of one variance and one shape make one power."""
        n = np.array(self.widths or (1,) * (self.depth + 1), dtype=float)
        shapes = np.column_stack([n[1:], n[:-1]])
        q = np.empty(self.depth)
        for shape in np.unique(shapes, axis=0):
            alike = np.all(shapes == shape, axis=1)
            q[alike] = self._shared(self.q[alike])
        laws = {variance: slope_law(self._phi, variance) for variance in set(q.tolist())}
        blurs = self._blurs(n / n.min(), [laws[variance] for variance in q.tolist()])
        found: list[tuple[Factor, int]] = []
        layers = zip(*shapes.T.tolist(), q.tolist(), blurs.tolist(), strict=True)
        for (rows, columns, variance, blur), same in groupby(layers):
            times = len(list(same))
            slopes = (
                laws[variance] if blur == math.inf else slope_law(self._phi, variance, blur=blur)
            )
            found += [(factor, times) for factor in self._layer(rows, columns, *slopes)]
        return found

    def _blurs(self, n: Array, laws: list[tuple[Array, Array]]) -> Array:
        """E x² / (E x)² less what each layer's slopes bring to it, where that is little; else ∞.

        Nothing else hides the nodes of their quadrature: layers of one width hide each other's.
        """
        ones, twos = np.array([(d @ p, d**2 @ p) for d, p in laws]).T
        own = twos / ones**2
        if all(self._scales):
            ratios = np.array([self._moments(*pair)[1] for pair in zip(ones, twos, strict=True)])
            branch = (self._scales[1] * self.sigma_w) ** 2 * ones
            share = branch / (self._scales[0] ** 2 + branch)
            own = share**2 * own + 2.0 * share * (1.0 - share)  # half of what the skip spreads
            total = 1.0 + np.sum(ratios - 1.0)
        else:
            own /= n[1:]
            total = 1.0 / n[0] + np.sum(own)
            if self.weights == "orthogonal":
                total -= np.sum(1.0 / np.maximum(n[1:], n[:-1]))
        unequal = len(set(self.widths)) > 1
        little = _LITTLE if unequal else 0.5 * (twos / ones**2 - 1.0)
        return np.where(total - own < little, np.maximum(total - own, _LEAST), math.inf)

    def _layer(self, rows: float, columns: float, slopes: Array, shares: Array) -> list[Factor]:
        """One layer's factors, in the order in which they act; `slopes` are those of φ′²."""
        skip, branch = self._scales
        if branch == 0.0:
            return [Isometry(rows, columns, scale=abs(skip))]
        if skip != 0.0:
            return [Residual(skip, branch, slopes, shares, self.weights, self.sigma_w**2)]
        scale = self.sigma_w * abs(branch)
        if self.weights == "gaussian":
            weight: Factor = Gaussian(rows, columns, scale**2)
        else:
            weight = Isometry(rows, columns, scale=scale * max(1.0, rows / columns) ** 0.5)
        return [weight, Diagonal(slopes, shares, rows)]

    def _shared(self, q: Array) -> Array:
        """Variances of layers of one shape, few of them different."""
        if self._phi.homogeneous is not None:
            return np.ones(q.size)  # slopes have one law at every variance
        if np.all(q == q[0]):
            return q
        return representatives(self._phi, q, self._moments)

    def _moments(self, first: float, second: float) -> tuple[float, float]:
        """log E x and E x² / (E x)² of one square layer with E d and E d²."""
        skip, branch = self._scales
        branch *= self.sigma_w * math.sqrt(first)
        unit = max(abs(skip), abs(branch))  # whose fourth power may not be a number
        skip, branch = (skip / unit) ** 2, (branch / unit) ** 2
        spread = second / first**2 + (1.0 if self.weights == "gaussian" else 0.0)
        total = skip + branch
        ratio = (skip**2 + 4.0 * skip * branch + branch**2 * spread) / total**2
        return 2.0 * math.log(unit) + math.log(total), ratio
