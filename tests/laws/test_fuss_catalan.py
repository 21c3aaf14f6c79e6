"""The closed form against Marchenko–Pastur, Fuss–Catalan numbers and the general chain."""

import math

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws import FreeProduct, FussCatalan, Gaussian

DEPTHS = [1, 2, 3, 10, 100, 1000, 10000]


def test_depth_one_is_the_marchenko_pastur_law_of_a_square_matrix():
    law = FussCatalan(1)
    sigma = np.linspace(0.01, 1.99, 199)
    quarter_circle = np.sqrt(4 - sigma**2) / np.pi  # density of σ
    primitive = (sigma * np.sqrt(4 - sigma**2) / 2 + 2 * np.arcsin(sigma / 2)) / np.pi
    assert np.allclose(law.density(np.log(sigma)), sigma * quarter_circle, rtol=0, atol=1e-12)
    assert np.allclose(law.cdf(np.log(sigma)), primitive, rtol=0, atol=1e-12)


def test_the_marchenko_pastur_score_is_known_to_twelve_digits():
    assert FussCatalan(1).score == pytest.approx(0.600485180440, abs=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_moments_are_the_fuss_catalan_numbers(depth):
    law = FussCatalan(depth)
    top = law.support[1]
    u, w = np.polynomial.legendre.leggauss(400)
    depth_below = 30.0 * (0.5 + 0.5 * u) ** 2  # σ^2k is nothing 30 below the edge
    s, w = top - depth_below, w * 30.0 * (0.5 + 0.5 * u)
    for k in (1, 2, 3, 4):
        number = math.comb((depth + 1) * k, k) / (depth * k + 1)
        assert np.sum(w * law.density(s) * np.exp(2 * k * s)) == pytest.approx(number, rel=1e-10)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_general_chain_reproduces_the_closed_form(depth):
    closed, general = FussCatalan(depth), FreeProduct([(Gaussian(1, 1), depth)])
    s = closed.grid(301)
    assert np.max(np.abs(closed.density(s) - general.density(s))) < 1e-10
    assert np.max(np.abs(closed.cdf(s) - general.cdf(s))) < 1e-10
    assert general.support[0] == closed.support[0] == -np.inf
    assert general.support[1] == pytest.approx(closed.support[1], rel=0, abs=1e-11)
    assert general.mean_log_sigma == pytest.approx(closed.mean_log_sigma, rel=1e-11)
    assert general.std_log_sigma == pytest.approx(closed.std_log_sigma, rel=1e-11)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_cdf_is_the_integral_of_the_density(depth):
    law = FussCatalan(depth)
    low, high = law.quantile([0.2, 0.8])
    u, w = np.polynomial.legendre.leggauss(60)
    inside = law.density(low + (high - low) * (0.5 + 0.5 * u)) @ w * 0.5 * (high - low)
    assert inside == pytest.approx(0.6, abs=1e-10)


def test_the_deep_law_of_log_x_over_depth_is_that_of_a_uniform_variable():
    s = 0.5 * 10000 * np.log([0.1, 0.5, 0.9])
    assert 1 - FussCatalan(10000).cdf(s) == pytest.approx([0.8999780, 0.5, 0.1001976], abs=1e-6)


def test_a_scale_shifts_the_law():
    plain, scaled = FussCatalan(3), FussCatalan(3, 0.7)
    s = plain.grid(20)
    assert np.allclose(plain.density(s), scaled.density(s + 0.7), rtol=1e-9)
    assert np.allclose(plain.cdf(s), scaled.cdf(s + 0.7), rtol=0, atol=1e-12)
    assert scaled.mean_log_sigma == pytest.approx(plain.mean_log_sigma + 0.7)
    assert scaled.score != pytest.approx(plain.score, abs=1e-3)


def test_values_at_and_beyond_the_ends_are_the_limits():
    law = FussCatalan(2)
    ends = [-np.inf, -1e9, law.support[1], np.inf, np.nan]
    assert law.density(ends)[:4].tolist() == [0, 0, 0, 0]
    assert law.cdf(ends)[:4].tolist() == [0, 0, 1, 1]
    assert np.isnan(law.density(np.nan))
    assert np.isnan(law.cdf(np.nan))


@pytest.mark.parametrize("depth", [0, -1, 2.0, True, "3", None])
def test_a_depth_that_is_not_a_positive_whole_number_is_refused(depth):
    with pytest.raises(TheoryError, match=r"depth is .*expected a whole number of at least 1"):
        FussCatalan(depth)
