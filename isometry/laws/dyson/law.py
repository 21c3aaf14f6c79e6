"""The law of a network of Gaussian weights, by the matrix Dyson equation."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import Array, finite, whole
from isometry.errors import TheoryError
from isometry.laws.atom import Atom
from isometry.laws.dyson.axis import negative_axis, on_axis
from isometry.laws.dyson.bulk import Bulk
from isometry.laws.dyson.equation import DysonEquation
from isometry.laws.dyson.network import Neurons, Node, residual_network
from isometry.laws.dyson.polar import circle, solve
from isometry.laws.dyson.rank import rank, shape_rank, skipped
from isometry.laws.dyson.types import NeuronTypes
from isometry.laws.law import Law
from isometry.laws.monotone import invert

#: masses below this are rounding of exact zeros
_ROUNDING = 1e-10
#: two log σ this close, relatively, are one place
_SAME_PLACE = 1e-12
#: an exponent at 0 this close to 1 means that the law stays away from 0
_NO_TAIL = 1e-3


class DysonLaw(Law):
    r"""Singular values of the Jacobian of a network of Gaussian weights, skips included.

    The network is a directed acyclic graph of tangents (see `Node`): elementwise maps, whose
    coefficients have any joint law over the neurons, and independent Gaussian weights.
    Where free products need the masks of different layers to be free of each other, the
    matrix Dyson equation takes their joint law as it is: in x + W φ(x) the skip makes them
    strongly correlated, and the law of a product is off by 0.03 to 0.08 in KS distance.

    With t(z) = Tr x/(z-x) / r and V(z) = Tr log(1 - x/z) / r from `DysonEquation`, r the rank
    that the widths allow and x = σ²,

        density of log σ = -2 Im t / π,    P(x > z) = Im V / π,    z on the real axis

    Exact for width → ∞ at fixed depth, with masks independent of the weights; in a real
    network at initialisation they become so as the width grows. Weights are Gaussian: with
    orthogonal ones the equation is another.

    The atom at σ = 0 and those that a skip a x passes on untouched, at σ = |a|, are counted by
    paths (`dyson.rank`) and kept apart from the density. With a fraction p of neurons that no
    weight reads in any layer, as where ReLU masks them everywhere, the latter has the mass 2p - 1
    if p > 1/2; at p = 1/2 the density diverges as (|a| - σ)^{-1/2} from below, with a gap above;
    below 1/2 it is finite, with a peak.

    Parameters
    ----------
    output
        The last node; it knows the others.
    name
        For a legend.

    Raises
    ------
    TheoryError
        When the network has not one input, when no weight carries a signal from it to the
        output, or when the equation could not be solved.

    References
    ----------
    Helton, Rashidi Far and Speicher, Operator-valued semicircular elements: solving a
    quadratic matrix equation with positivity constraints, 2007. Erdős, The matrix Dyson
    equation and its applications for random matrices, 2019.

    Examples
    --------
    >>> law = DysonLaw.from_masks([[0, 1, 1], [0, 0, 1]], 2 / 2)  # three neurons, two layers
    >>> round(law.std_log_sigma, 6)
    0.750818
    """

    merged: float = 0.0

    def __init__(self, output: Node, name: str | None = None) -> None:
        """Write down the equation and solve it on the negative axis."""
        weights = sum(len(node.weights) for node in output.ancestors())
        self.name = name or f"Dyson equation: {weights} Gaussian weights, infinite width"
        self._equation = DysonEquation.of(output)
        self._r = shape_rank(output)
        alive = rank(output)
        self._axis = negative_axis(self._equation, alive)
        self._zero = 1.0 - alive / self._r if self._r - alive > _ROUNDING * self._r else 0.0
        self._skipped = {
            0.5 * math.log(x): number / self._r for x, number in sorted(skipped(output).items())
        }
        self._bulk = Bulk(self._equation, self._axis, self._r, self._zero, self._skipped, weights)

    @classmethod
    def from_masks(
        cls,
        slopes: ArrayLike,
        variances: ArrayLike,
        *,
        skip: float = 1.0,
        activation: Literal["before", "after"] = "before",
        max_types: int = 64,
        name: str | None = None,
    ) -> DysonLaw:
        """Law of a residual network whose slopes were measured.

        Parameters
        ----------
        slopes : (layers, neurons) array
            φ'(h_l) of each neuron in each layer: 0 and 1 for ReLU.
        variances : float or (layers,) array
            Variance of an entry of a weight times the number of neurons, the scale of
            the branch included.
        skip
            a in x_l = a x_{l-1} + branch.
        activation
            "before": W φ(x) with J_l = a + W_l D_l. "after": φ(W x) with J_l = a + D_l W_l.
        max_types
            Types of neurons that are told apart; the time is proportional to it. The
            attribute `merged` of the law is the fraction of neurons that had to join another type.
        name
            For a legend.

        Raises
        ------
        TheoryError
            When an argument is outside the domain above.
        """
        if activation not in ("before", "after"):
            raise TheoryError(f'activation is {activation!r}; expected "before" or "after"')
        types = NeuronTypes.of(slopes, max_types)
        layers = types.slopes.shape[1]
        variance = np.asarray(variances, dtype=float)
        if variance.shape not in ((), (layers,)):
            raise TheoryError(
                f"variances have shape {variance.shape}; expected one number or {layers}"
            )
        neurons = Neurons(np.shape(slopes)[1], types.fractions.tolist())
        output = residual_network(
            neurons,
            list(types.slopes.T),
            np.broadcast_to(variance, (layers,)).tolist(),
            finite("skip", skip),
            activation_first=activation == "before",
        )
        count = len(types.fractions)
        law = cls(output, name or f"Dyson equation: {layers} residual layers, {count} neuron types")
        law.merged = types.merged
        return law

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The dead fraction at σ = 0, and what a skip passes on untouched."""
        zero = (Atom(0.0, self._zero),) if self._zero > 0 else ()
        return zero + tuple(Atom(math.exp(s), mass) for s, mass in self._skipped.items())

    @cached_property
    def support(self) -> tuple[float, float]:
        """Outer edges of log σ.

        Where the density vanishes like a square root they are found to 1e-11, else to 1e-6. A law
        of which less than 1e-8 lies near σ = 0 may be said to reach it.
        """
        near, far = -0.5 * float(self._axis.log_q[-1]), -0.5 * float(self._axis.log_q[0])
        width, edge = self.std_log_sigma, self._bulk.edge
        low = -np.inf if self._has_tail else edge(far, near, self.mean_log_sigma, width)
        return low, edge(near, far, self.mean_log_sigma, width)

    def density(self, log_sigma: ArrayLike) -> Array:
        """2/π times -Im t on the real axis."""
        s = np.asarray(log_sigma, dtype=float)
        return self._cdf_and_density(s.ravel())[1].reshape(s.shape)

    def cdf(self, log_sigma: ArrayLike) -> Array:
        """From the free log-determinant, which needs no integral of the density."""
        s = np.asarray(log_sigma, dtype=float)
        return self._cdf_and_density(s.ravel())[0].reshape(s.shape)

    def moments(self, k: int) -> Array:
        """From the powers of 1/z in t, by Cauchy's formula on a circle outside the support."""
        orders = np.arange(1, whole("the number of moments", k, 1) + 1)
        top = max([self.support[1], *self._skipped])
        q, u = circle(self._equation, 0.5 * math.exp(-2.0 * top), 64 + 4 * k)
        t = self._equation.trace(q, u) / self._r
        return np.asarray(np.mean(t[:, None] / (-q[:, None]) ** orders, axis=0).real)

    def s_transform(self, m: ArrayLike) -> Array:
        """S(m) = (1 + m) / (m z(m)), by the solution on the negative axis."""
        alive = 1.0 - self._zero
        wanted = self._inside_domain(m, alive)
        p = -wanted.ravel()
        knots, reached = self._axis.log_q, alive * self._axis.reached
        after = np.searchsorted(reached, p)
        if np.any((after == 0) | (after == knots.size)):
            raise TheoryError(
                f"the S-transform was asked for at m = {m!r}; expected -m between "
                f"{reached[0]:.3g} and {alive:.6g} less {alive * (1 - self._axis.reached[-1]):.3g}"
            )

        def share(log_q: Array) -> tuple[Array, Array]:
            found, slope = on_axis(self._equation, self._axis, log_q)
            return found / self._r, slope / self._r

        log_q = invert(share, p, knots[after - 1], knots[after], tolerance=1e-15)
        return np.asarray(np.exp(log_q + np.log1p(-p) - np.log(p)).reshape(wanted.shape))

    @property
    def mean_log_sigma(self) -> float:
        """From a real quadrature on the negative axis."""
        return 0.5 * self._axis.log_moments()[0]

    @property
    def std_log_sigma(self) -> float:
        """From a real quadrature on the negative axis."""
        return 0.5 * math.sqrt(max(self._axis.log_moments()[1], 0.0))

    @property
    def score(self) -> float:
        """-2 Im t(i), for Im x / (i - x) = -x / (1 + x²): one point, away from every edge."""
        beyond = self._axis.score_beyond()
        if beyond is not None:
            return beyond * (1.0 - self._zero)
        q, u = solve(self._equation, self._axis, np.zeros(1), 0.5 * math.pi)
        return -2.0 * float(self._equation.trace(q, u).imag[0]) / self._r

    @property
    def _has_tail(self) -> bool:
        """Whether the continuous part reaches σ = 0."""
        return self._axis.exponent < 1.0 - _NO_TAIL

    def _cdf_and_density(self, log_sigma: Array) -> tuple[Array, Array]:
        s, (low, high) = log_sigma, self.support
        with np.errstate(invalid="ignore"):
            inside = (s > low) & (s < high)
        # below the last knot of the axis, where 1e-8 of the mass is left, the law is a power
        at = np.maximum(s[inside], -0.5 * float(self._axis.log_q[-1]))
        tail = np.exp(2.0 * self._axis.exponent * (s[inside] - at))
        cdf, density = np.where(s >= high, self._bulk.mass, 0.0), np.zeros(s.shape)
        if np.any(inside):
            below, bare = self._bulk.at(at)
            cdf[inside], density[inside] = below * tail, bare * tail
        cdf += self._zero
        for place, mass in self._skipped.items():
            cdf[s >= place - _SAME_PLACE * (1 + abs(place))] += mass
        missing = np.isnan(s)
        cdf[missing], density[missing] = np.nan, np.nan
        return cdf, density
