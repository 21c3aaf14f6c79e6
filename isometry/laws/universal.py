"""Universal laws: the limits of infinitely deep critical networks."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from isometry.domain import Array, finite, positive
from isometry.laws.atom import Atom
from isometry.laws.parametric import Curve, ParametricLaw


class SmoothUniversal(ParametricLaw):
    r"""Depth L → ∞ at fixed Λ = L (μ₂/μ₁² - 1), φ smooth at 0, orthogonal weights, χ₁ = 1.

    With μ_k = E φ′^{2k} the S-transform is e^{-Λ m} and

        z(m) = ((1 + m) / m) e^{Λ m},    E x = 1,    Var x = Λ,

    with edges at m = (-1 ± √(1 + 4/Λ)) / 2, E log x = -Λ/2 and Var log x = Λ + Λ²/12. For
    tanh, Λ ≈ 8 L q*²: L layers stay isometric where q* ≪ 1/√(8 L).

    On the boundary of the spectrum, m = u - iv, the condition Im z = 0 says that the interval
    [-1, 0] is seen from m under the angle Λ v: a circle for each v, which gives u explicitly.

    Parameters
    ----------
    spread
        Λ > 0.
    log_scale
        log σ is shifted by it.
    name
        For a legend.

    Raises
    ------
    TheoryError
        When Λ is not positive or the scale is not finite.

    References
    ----------
    Pennington, Schoenholz and Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018.
    """

    def __init__(self, spread: float, log_scale: float = 0.0, name: str | None = None) -> None:
        """Check the parameters, and find the highest point of the curve."""
        self.spread, self.log_scale = positive("spread", spread), finite("log_scale", log_scale)
        self.name = name or f"smooth universal law, Λ = {self.spread:g}"
        # the top of the curve: v tan(Λ v / 2) = 1/2, in y = Λ v / 2
        quarter = 0.25 * self.spread
        y = brentq(
            lambda y: y * math.sin(y) - quarter * math.cos(y), 0.0, 0.5 * math.pi, rtol=1e-15
        )
        self._top = 2.0 * float(y) / self.spread
        self._interval = (-0.5 * math.pi, 0.5 * math.pi)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """None."""
        return ()

    @property
    def support(self) -> tuple[float, float]:
        """Half the logarithm of z at its critical points."""
        root = math.sqrt(1 + 4 / self.spread)
        edge = math.log1p(2 / (root - 1)) + 0.5 * self.spread * root
        middle = -0.5 * self.spread
        return self.log_scale + 0.5 * (middle - edge), self.log_scale + 0.5 * (middle + edge)

    @property
    def mean_log_sigma(self) -> float:
        """-Λ/4, shifted by the scale."""
        return self.log_scale - 0.25 * self.spread

    @property
    def std_log_sigma(self) -> float:
        """½ √(Λ + Λ²/12)."""
        return 0.5 * math.sqrt(self.spread + self.spread**2 / 12)

    def _curve(self, parameter: Array) -> Curve:
        """The parameter is ψ in v = v_top cos ψ; the upper edge is at ψ = -π/2."""
        v = self._top * np.cos(parameter)
        below = 2 * self._top * np.sin(0.5 * parameter) ** 2  # v_top - v, without cancellation
        half = 0.5 * self.spread
        # ½ cot(Λv/2) - v, which vanishes at the top, and ½ tan(Λv/2) + v
        first = 0.5 * np.sin(half * below) / (np.sin(half * v) * np.sin(half * self._top)) + below
        away = -np.sign(parameter) * np.sqrt(first * (0.5 * np.tan(half * v) + v))
        m = (away - 0.5) - 1j * v
        log_x = np.log(np.abs((away + 0.5) - 1j * v)) - np.log(np.abs(m)) + self.spread * m.real
        along = 1 / (1 + m) - 1 / m + self.spread  # d log z / dm
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.abs(along) ** 2 / along.imag * -self._top * np.sin(parameter)
        survival = -np.angle((away + 0.5) - 1j * v) + self.spread * m.real * m.imag
        return Curve(log_x, slope, v / np.pi, survival / np.pi)


class ResidualUniversal(SmoothUniversal):
    r"""Depth L → ∞ of layers x + b W φ(x) with b² = c / (L σ_w² μ₁), any φ, either ensemble.

        z(m) = ((1 + m) / m) e^{c (1 + 2m)},    E x = e^c,    E log x = 0,    Var log x = 2c + c²/3:

    the smooth universal law of Λ = 2c, scaled by e^c, symmetric in log σ. The masks of all
    layers are taken to be free of each other. Those of a real network are correlated
    through the skip: x + b W φ(x) departs from it by an error that does not vanish with depth
    (KS distance 0.03 for ReLU); E log x and E x are unaffected. See `DysonLaw`.

    Parameters
    ----------
    strength
        c > 0, the sum over layers of the branches' variances.
    name
        For a legend.

    Raises
    ------
    TheoryError
        When c is not positive.

    References
    ----------
    Tarnowski, Warchoł, Jastrzębski, Tabor and Nowak, Dynamical isometry is achieved in
    residual networks in a universal way for any activation function, AISTATS 2019.
    """

    def __init__(self, strength: float, name: str | None = None) -> None:
        """Check the parameter."""
        self.strength = positive("strength", strength)
        title = name or f"residual universal law, c = {self.strength:g}"
        super().__init__(2.0 * self.strength, 0.5 * self.strength, title)


class BernoulliUniversal(ParametricLaw):
    r"""Depth L → ∞ at fixed λ = L (1 - p), masks that keep a fraction p, orthogonal weights.

    As for hard tanh at q* → 0. With w = m / (1 + m),

        z = e^{λ w} / w,    w = (ψ / (λ sin ψ)) e^{-iψ} on the boundary, 0 < ψ < π:

    the continuous part ends at x = e λ. For λ < 1 there is an atom of mass 1 - λ above it, at
    x = e^λ. E x = 1, but P(log x < -s) falls like λ/s: the mean of log σ is infinite. Use
    quantiles.

    Parameters
    ----------
    rate
        λ > 0.
    log_scale
        log σ is shifted by it.
    name
        For a legend.

    Raises
    ------
    TheoryError
        When λ is not positive or the scale is not finite.

    References
    ----------
    Pennington, Schoenholz and Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018.
    """

    _interval = (0.0, math.pi)

    def __init__(self, rate: float, log_scale: float = 0.0, name: str | None = None) -> None:
        """Check the parameters."""
        self.rate, self.log_scale = positive("rate", rate), finite("log_scale", log_scale)
        self.name = name or f"Bernoulli universal law, λ = {self.rate:g}"

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The directions that no mask has met, for λ < 1."""
        return tuple(Atom.at(*place) for place in self.log_atoms)

    @property
    def log_atoms(self) -> tuple[tuple[float, float], ...]:
        """The same by log σ."""
        if self.rate >= 1:
            return ()
        return ((self.log_scale + 0.5 * self.rate, 1.0 - self.rate),)

    @property
    def support(self) -> tuple[float, float]:
        """From -inf to half of 1 + log λ."""
        return -math.inf, self.log_scale + 0.5 * (1.0 + math.log(self.rate))

    @property
    def mean_log_sigma(self) -> float:
        """Infinite."""
        return -math.inf

    @property
    def std_log_sigma(self) -> float:
        """Infinite."""
        return math.inf

    def _curve(self, parameter: Array) -> Curve:
        """The parameter is ψ."""
        sinc = np.sin(parameter) / parameter
        cot = np.cos(parameter) / np.sin(parameter)
        w = np.exp(-1j * parameter) / (self.rate * sinc)
        log_x = np.log(self.rate * sinc) + parameter * cot
        slope = 2 * cot - 1 / parameter - parameter / np.sin(parameter) ** 2
        m = w / (1 - w)
        survival = (-self.rate * w - (self.rate - 1) * np.log(1 - w)).imag
        return Curve(log_x, slope, -m.imag / np.pi, survival / np.pi)
