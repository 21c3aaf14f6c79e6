"""Laws of one layer with orthogonal weights: functions of one Gaussian variable."""

import numpy as np
import pytest
from scipy.special import erf, ndtr

from isometry.errors import TheoryError
from isometry.laws.pushforward import PushforwardLaw

_WITHIN = erf(0.5**0.5)  # P(|z| < 1)
_TANH_SIGMA_W = 1.299220967  # critical at q* = 1/2


def tanh_layer(z):
    return _TANH_SIGMA_W * (1 - np.tanh(np.sqrt(0.5) * z) ** 2)


def gelu_layer(z):
    h = np.sqrt(5.0) * z
    return np.abs(ndtr(h) + h * np.exp(-0.5 * h**2) / np.sqrt(2 * np.pi))


def test_a_tanh_layer_has_the_printed_log_moments_and_score():
    law = PushforwardLaw(tanh_layer)
    assert law.mean_log_sigma == pytest.approx(-0.15726463, abs=1e-8)
    assert law.std_log_sigma == pytest.approx(0.51818876, abs=1e-8)
    assert law.score == pytest.approx(0.806385, abs=1e-6)
    assert law.support[1] == pytest.approx(0.26176335, abs=2e-6)  # sqrt of the printed σ_w²
    assert law.atoms == ()


@pytest.mark.parametrize(
    ("function", "breaks", "atoms"),
    [
        (lambda z: np.full(z.shape, 0.7), (), {0.7: 1.0}),
        (lambda z: 1.4 * (z > 0), (0.0,), {0.0: 0.5, 1.4: 0.5}),
        (lambda z: np.where(z > 0, 1.0, 0.2), (0.0,), {0.2: 0.5, 1.0: 0.5}),
        (lambda z: 1.0 * (np.abs(z) < 1), (-1.0, 1.0), {0.0: 1 - _WITHIN, 1.0: _WITHIN}),
        (lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))), (0.0,), {1.0: 0.5}),
    ],
    ids=["linear", "relu", "leaky", "hardtanh", "elu"],
)
def test_flat_pieces_become_atoms(function, breaks, atoms):
    law = PushforwardLaw(function, breaks)
    assert [a.sigma for a in law.atoms] == pytest.approx(list(atoms))
    assert [a.mass for a in law.atoms] == pytest.approx(list(atoms.values()), abs=1e-14)
    assert law.cdf([5.0])[0] == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("function", [tanh_layer, gelu_layer, lambda z: np.abs(np.cos(z))])
def test_density_and_cdf_are_those_of_draws(function):
    law = PushforwardLaw(function)
    draws = np.log(function(np.random.default_rng(1).standard_normal(100_000)))
    s = np.linspace(-3, 0.2, 12)
    empirical = np.searchsorted(np.sort(draws), s) / draws.size
    assert np.max(np.abs(law.cdf(s) - empirical)) < 1.63 / np.sqrt(draws.size)
    step = 1e-4
    slope = (law.cdf(s + step) - law.cdf(s - step)) / (2 * step)
    inside = np.abs(s - law.support[1]) > 0.05
    assert np.allclose(law.density(s)[inside], slope[inside], rtol=1e-5, atol=1e-7)


def test_moments_and_quantiles_follow():
    law = PushforwardLaw(tanh_layer)
    z, w = np.polynomial.hermite_e.hermegauss(120)
    expected = [tanh_layer(z) ** (2 * k) @ w / w.sum() for k in (1, 2)]
    assert law.moments(2) == pytest.approx(expected, rel=1e-10)
    assert float(law.cdf(law.quantile(0.3))) == pytest.approx(0.3, abs=1e-10)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda z: -np.ones(z.shape), "negative"),
        (lambda z: np.full(z.shape, np.nan), "not finite"),
        (lambda z: np.zeros(z.shape), "vanishes everywhere"),
        (lambda z: 1.0, "negative or not finite|gave"),
    ],
)
def test_what_is_no_law_is_refused(function, words):
    with pytest.raises(TheoryError, match=words):
        PushforwardLaw(function)


def test_where_a_derivative_underflows_is_an_atom_at_zero():
    law = PushforwardLaw(lambda z: np.where(z > -1.0, np.exp(np.minimum(z, 0.0)), 0.0), [0.0])
    zero, one = law.atoms
    assert zero == (0.0, pytest.approx(ndtr(-1.0), abs=1e-9))
    assert one == (1.0, pytest.approx(0.5, abs=1e-9))
    assert law.cdf(-2.0) == pytest.approx(zero.mass)
    assert np.isfinite(law.grid(20)).all()


@pytest.mark.parametrize("root", [0.1, 1.0, 30.0])
def test_a_jump_at_zero_leaves_both_sides_constant(root):
    law = PushforwardLaw(lambda z: np.where(root * z > 0, 1.0, 0.01), [0.0])
    assert law.atoms == ((0.01, pytest.approx(0.5)), (1.0, pytest.approx(0.5)))
    assert law.grid(5).size == 0
