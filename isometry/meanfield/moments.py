"""Gaussian moments of an activation φ at pre-activation variance q."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from isometry.domain import Array, nonnegative, whole
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation
from isometry.meanfield.close import close_ends
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.piecewise import PiecewiseLinear
from isometry.meanfield.quadrature import LIMIT, crowded_rule, gaussian_rule

#: a variance at which every φ that is smooth but for a kink is straight: the limit q → 0
_TINY = 1e-32
#: the same where φ(0) ≠ 0, whose digits hide those of φ(h) - φ(0)
_SMALL = 1e-10
#: how far a callable's quadrature may be from the same one on panels of half the length
_UNRESOLVED = 1e-9
#: |z| within which slopes are sampled for a law
_FAR = 9.0
#: of the largest slope: a callable's changes of sign below it are noise
_NOISE = 1e-10
#: zeros of φ' are looked for at this distance in h as far as _NEAR, and at _STRETCH |h| beyond
_SAMPLED, _NEAR, _STRETCH = 0.05, 1e3, 0.01


def expectation(act: Activation, q: float, integrand: Callable[[Array, Array], Array]) -> float:
    """E f(z, h) with h = √q z, z ~ N(0, 1), split at the kinks of φ.

    Raises
    ------
    TheoryError
        When φ came from a callable and the quadrature does not resolve it at this q, or
        when it grows so fast that the tails beyond 12 standard deviations matter.
    """
    scale = math.sqrt(q)
    _refuse_beyond(act, q)
    z, w = gaussian_rule(scale, act.kinks, act.panels)
    if act.panels is None:
        return float(w @ integrand(z, scale * z))
    with np.errstate(over="ignore", invalid="ignore"):
        terms = w * integrand(z, scale * z)
        finer, weights = gaussian_rule(scale, act.kinks, act.panels, LIMIT, 2)
        again = float(weights @ integrand(finer, scale * finer))
    value, size = float(terms.sum()), float(np.abs(terms).sum())
    tail = float(np.abs(terms[np.abs(z) > LIMIT - 1.0]).sum())
    # where φ is flat but far out, the average itself is next to nothing
    same = abs(again - value) <= _UNRESOLVED * size + 1e-25
    if not (same and tail <= 1e-12 * size + 1e-25):  # not: an overflow leaves NaN
        raise TheoryError(
            f"the Gaussian average of {act.name} at variance {q:.6g} did not converge: it varies "
            "too fast or grows too fast; try a smaller variance, or give the activation as an "
            "Activation with its kinks or closed forms"
        )
    return again


def _refuse_beyond(act: Activation, q: float) -> None:
    """Raise where the pre-activations leave the panels of a callable."""
    reach = LIMIT * math.sqrt(q)
    if act.panels is not None and reach > min(-act.panels[0], act.panels[-1]):
        raise TheoryError(
            f"{act.name} at variance {q:.6g} reaches |h| = {reach:.3g}, but is known from "
            f"{act.panels[0]:.3g} to {act.panels[-1]:.3g} only: beyond, it is not finite "
            "or varies too fast; try a smaller variance"
        )


def second_moment(act: Activation, q: float) -> float:
    """E φ(√q z)²; φ(0)² at q = 0."""
    if q == 0.0:
        return act.at_zero**2
    if act.closed is not None:
        return act.closed.second_moment(q)
    return expectation(act, q, lambda z, h: act.function(h) ** 2)


def response(act: Activation, q: float) -> float:
    """d/dq E φ(√q z)² = E z φ φ' / √q, by Stein's lemma: no second derivative is needed."""
    q = max(q, _TINY)
    if act.closed is not None:
        return act.closed.response(q)
    if act.at_zero != 0.0 and 0.0 not in act.kinks:  # nearer to 0 than this only rounding changes
        q = max(q, _SMALL)
    # a constant averages to 0 against z: without it nothing large cancels as q → 0
    zero = np.zeros(1)
    constant = float((act.function(zero) * act.derivative(zero))[0])
    slope = expectation(act, q, lambda z, h: z * (act.function(h) * act.derivative(h) - constant))
    return slope / math.sqrt(q)


def slope_moment(act: ActivationLike, q: float, k: int = 1) -> float:
    """μ_k = E φ'(√q z)^{2k}, the k-th moment of D²; at q = 0 its limit.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    q
        Variance of the pre-activations, >= 0.
    k
        A whole number >= 1.

    References
    ----------
    Pennington, Schoenholz & Ganguli 2017, section 3.
    """
    act, q = activation(act), max(nonnegative("q", q), _TINY)
    k = whole("k", k, 1)
    if act.closed is not None:
        return act.closed.slope_moment(q, k)
    return expectation(act, q, lambda z, h: act.derivative(h) ** (2 * k))


def slope_law(act: ActivationLike, q: float, *, blur: float = math.inf) -> tuple[Array, Array]:
    """Law of d = φ'(√q z)², the squared slopes of one layer, as values and weights.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    q
        Variance of the pre-activations, >= 0; at 0 the limit.
    blur
        How much the neighbours of such a factor spread its values, a relative variance of x:
        the smaller, the more nodes, so that they do not show in the density of a product.

    Returns
    -------
    values, weights
        Atoms in increasing order, exact, for a piecewise linear φ; else nodes of a
        quadrature that gives E f(d) to about 1e-13 for a smooth f, and E log d too where
        φ' changes sign. Weights add up to 1.

    Examples
    --------
    >>> slope_law("relu", 1.0)
    (array([0., 1.]), array([0.5, 0.5]))
    """
    act, q = activation(act), max(nonnegative("q", q), _TINY)
    if act.slopes is not None:
        return _atoms(act, act.slopes, q)
    if act.period is not None:  # the phase is uniform to rounding from here on
        q = min(q, 4.0 * act.period**2)
    root = math.sqrt(q)
    _refuse_beyond(act, q)
    zeros = _flat_places(act, _FAR * root)
    more = close_ends(act, root, blur) if math.isfinite(blur) else ()
    if len(zeros):
        z, w = crowded_rule(root, act.kinks, act.panels, _FAR, zeros, more)
    else:
        z, w = gaussian_rule(root, act.kinks, act.panels, _FAR, more=more)
    if act.odd:  # d is then even in z
        z, w = z[z > 0], 2.0 * w[z > 0]
    return act.derivative(root * z) ** 2, w / w.sum()


def _flat_places(act: Activation, reach: float) -> Array:
    """Where φ' changes sign in [-reach, reach]: log φ'² is singular there."""
    h = _samples(reach) if act.panels is None else _samples_of(act.panels, reach)
    slope = act.derivative(h)
    before, after = slope[:-1], slope[1:]

    def at(x: float) -> float:
        return float(act.derivative(np.array([x]))[0])

    found = []
    clear = np.abs(slope).max() * (_NOISE if act.panels else 0.0)
    for i in np.flatnonzero((before * after < 0) & (np.maximum(abs(before), abs(after)) > clear)):
        if not any(h[i] <= kink <= h[i + 1] for kink in act.kinks):
            found.append(brentq(at, h[i], h[i + 1], xtol=1e-15))
    return np.array(found)


def _samples(reach: float) -> Array:
    near = min(reach, _NEAR)
    # the ends differ so that no sample falls on a zero of a symmetric φ'
    h = np.linspace(-near, 1.001 * near, 2 * math.ceil(near / _SAMPLED) + 1)
    far = near * np.exp(np.arange(_STRETCH, math.log(reach / near), _STRETCH))
    return np.concatenate([-far[::-1], h, 1.001 * far])


def _samples_of(panels: tuple[float, ...], reach: float) -> Array:
    """Seven for each panel, none of them in the middle of one: φ' may vanish at 0."""
    ends = np.array(panels)
    ends = np.concatenate([[-reach], ends[np.abs(ends) < reach], [reach]])
    every = np.interp(np.arange(7 * ends.size - 6) / 7.0, np.arange(ends.size), ends)
    return np.asarray(every, dtype=float)


def _atoms(act: Activation, slopes: tuple[float, ...], q: float) -> tuple[Array, Array]:
    masses = PiecewiseLinear(act.kinks, slopes, 0.0).masses(q)
    values, which = np.unique(np.square(np.array(slopes)), return_inverse=True)
    weights = np.bincount(which, weights=masses).astype(float)
    return values[weights > 0], weights[weights > 0]


def surplus(act: Activation, q: float) -> float:
    r"""q E φ'² - E φ² at h = √q z: σ_b²/σ_w² of the critical point with q* = q.

    With the Hermite coefficients a_k of z ↦ φ(√q z) it is Σ (k - 1) a_k², hence for
    ψ(z) = φ(√q z) - a_0 - a_1 z

        q E φ'² - E φ² = E ψ'² - E ψ² - a_0²,

    which keeps its digits where φ is nearly straight and the left side cancels. It is never
    negative where φ is odd, for a_0 = 0.
    """
    if act.homogeneous is not None:
        return 0.0
    whole_, part = q * slope_moment(act, q), second_moment(act, q)
    if abs(whole_ - part) > 1e-2 * whole_:
        return whole_ - part
    root = math.sqrt(q)
    mean = expectation(act, q, lambda z, h: act.function(h))
    mean = 0.0 if act.odd else mean
    slope = expectation(act, q, lambda z, h: root * act.derivative(h))
    bent = expectation(act, q, lambda z, h: (root * act.derivative(h) - slope) ** 2)
    rest = expectation(act, q, lambda z, h: (act.function(h) - mean - slope * z) ** 2)
    return max(bent - rest, 0.0) if act.odd else bent - rest - mean**2
