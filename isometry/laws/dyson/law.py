"""The law of a network of Gaussian weights, by the matrix Dyson equation."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import finite, whole
from isometry.errors import TheoryError
from isometry.laws.dyson.axis import negative_axis, on_axis
from isometry.laws.dyson.equation import DysonEquation
from isometry.laws.dyson.network import Neurons, Node, residual_network
from isometry.laws.dyson.polar import REAL_AXIS, circle, solve
from isometry.laws.dyson.rank import rank, shape_rank, skipped
from isometry.laws.dyson.types import NeuronTypes
from isometry.laws.law import Array, Atom, Law
from isometry.laws.monotone import invert

#: masses below this are rounding of exact zeros
_ROUNDING = 1e-10
#: two log σ this close, relatively, are one place
_SAME_PLACE = 1e-12
_DROWNED = 1e-6  # how near to an atom the density beside it is lost in rounding error
#: an exponent at 0 this close to 1 means that the law stays away from 0
_NO_TAIL = 1e-3
#: an edge is first bracketed by the mass beyond it, then found from the density
_BRACKET = 1e-6
_CLOSEST = 1e-9  # of an edge to the mean of log σ
_EDGE_MASS = 1e-11  # what a bracket of an edge may leave outside, for each weight of the network


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
        self._weights = sum(len(node.weights) for node in output.ancestors())
        self.name = name or f"Dyson equation: {self._weights} Gaussian weights, infinite width"
        self._equation = DysonEquation.of(output)
        self._r = shape_rank(output)
        alive = rank(output)
        self._axis = negative_axis(self._equation, alive)
        self._zero = 1.0 - alive / self._r if self._r - alive > _ROUNDING * self._r else 0.0
        self._skipped = {
            0.5 * math.log(x): number / self._r for x, number in sorted(skipped(output).items())
        }

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
        return -np.inf if self._has_tail else self._edge(far, near), self._edge(near, far)

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
        cdf, density = np.where(s >= high, self._full, 0.0), np.zeros(s.shape)
        if np.any(inside):
            below, bare = self._continuous(at)
            cdf[inside], density[inside] = below * tail, bare * tail
        cdf += self._zero
        for place, mass in self._skipped.items():
            cdf[s >= place - _SAME_PLACE * (1 + abs(place))] += mass
        missing = np.isnan(s)
        cdf[missing], density[missing] = np.nan, np.nan
        return cdf, density

    @property
    def _full(self) -> float:
        """Mass of the continuous part."""
        return 1.0 - self._zero - sum(self._skipped.values())

    def _continuous(self, s: Array) -> tuple[Array, Array]:
        """Mass of the continuous part below s, and its density there.

        z has a small angle, under which an atom is seen as a Lorentzian: it is subtracted.
        """
        q, u = solve(self._equation, self._axis, 2.0 * s)
        survival = self._equation.log_determinant(q, u).imag / (np.pi * self._r)
        t = self._equation.trace(q, u) / self._r
        drowned = np.zeros(s.shape, dtype=bool)
        for place, mass in self._skipped.items():
            away = 2.0 * (s - place) + 1j * REAL_AXIS
            survival = survival - mass / np.pi * np.angle(-np.expm1(-away))
            t = t - mass / np.expm1(away)
            drowned |= np.abs(s - place) < _DROWNED
        density = np.maximum(-2.0 / np.pi * t.imag, 0.0)
        below = np.clip(self._full - survival, 0.0, self._full)
        if np.any(drowned):
            aside, density[drowned] = self._continuous(s[drowned] + 2.0 * _DROWNED)
            below[drowned] = aside - 2.0 * _DROWNED * density[drowned]
        return below, density

    def _edge(self, inner: float, outer: float) -> float:
        """The end of the continuous part nearer to `outer`; all of it lies in between."""
        upper = outer > inner
        while abs(outer - inner) > _BRACKET:
            at = np.linspace(inner, outer, 18)
            mass = self._continuous(at)[0]
            # a small angle of z blurs the law: that much of it seems to be outside
            blur = REAL_AXIS / np.maximum(np.abs(at - self.mean_log_sigma), _CLOSEST)
            beyond = (self._full - mass if upper else mass) <= self._weights * _EDGE_MASS + blur
            beyond[0], beyond[-1] = False, True
            k = int(np.argmax(beyond))
            inner, outer = float(at[k - 1]), float(at[k])
        # where the density vanishes like a square root, its square is a straight line
        edge, reach = outer, outer - inner
        for distance in (reach, 0.1 * reach):
            at = edge - distance * np.array([4.0, 2.0])
            far, near = self._continuous(at)[1] ** 2
            if not 0.0 < near < far:
                return outer
            edge = float(at[1] + (at[1] - at[0]) * near / (far - near))
        return edge if abs(edge - outer) <= 2.0 * _BRACKET else outer
