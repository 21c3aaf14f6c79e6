"""The general free product against laws in closed form."""

import math

import numpy as np
import pytest

from isometry.laws import (
    Diagonal,
    FreeProduct,
    FussCatalan,
    Gaussian,
    Isometry,
    MarchenkoPastur,
    chain_law,
)

DEPTHS = [1, 2, 3, 10, 100, 1000, 10000]


@pytest.mark.parametrize("depth", DEPTHS)
def test_gaussian_weights_reproduce_fuss_catalan(depth):
    closed, general = FussCatalan(depth), FreeProduct([(Gaussian(1, 1), depth)])
    s = closed.grid(301)
    assert np.max(np.abs(closed.density(s) - general.density(s))) < 1e-10
    assert np.max(np.abs(closed.cdf(s) - general.cdf(s))) < 1e-10
    assert general.support[0] == -np.inf
    assert general.support[1] == pytest.approx(closed.support[1], rel=0, abs=1e-11)
    assert general.mean_log_sigma == pytest.approx(closed.mean_log_sigma, rel=1e-11)
    assert general.std_log_sigma == pytest.approx(closed.std_log_sigma, rel=1e-11)
    assert general.score == pytest.approx(closed.score, rel=1e-12)
    numbers = [math.comb((depth + 1) * k, k) / (depth * k + 1) for k in (1, 2, 3, 4)]
    assert general.moments(4) == pytest.approx(numbers, rel=1e-12)
    m = np.array([-0.999, -0.5, -1e-6])
    if depth <= 100:  # beyond, float64 cannot hold (1 + m)^-depth
        assert general.s_transform(m) == pytest.approx((1 + m) ** -depth, rel=1e-10)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 1), (100, 784), (784, 100)])
def test_one_gaussian_matrix_reproduces_marchenko_pastur(rows, columns):
    closed = MarchenkoPastur(rows / columns, sigma_w=1.3)
    general = FreeProduct([Gaussian(rows, columns, 1.3**2)])
    s = closed.grid(200)
    assert np.max(np.abs(closed.density(s) - general.density(s))) < 1e-10
    assert np.max(np.abs(closed.cdf(s) - general.cdf(s))) < 1e-10
    assert general.support == pytest.approx(closed.support, rel=0, abs=1e-11)
    assert general.mean_log_sigma == pytest.approx(closed.mean_log_sigma, abs=1e-11)
    assert general.std_log_sigma == pytest.approx(closed.std_log_sigma, rel=1e-11)
    assert general.score == pytest.approx(closed.score, rel=1e-12)


def test_one_relu_mask_and_one_gaussian_weight_is_marchenko_pastur_at_ratio_one_half(chain):
    law = chain(1, 1)
    a, b = (1 - np.sqrt(0.5)) ** 2, (1 + np.sqrt(0.5)) ** 2
    assert law.support == pytest.approx((0.5 * np.log(a), 0.5 * np.log(b)), abs=1e-14)
    x = np.linspace(a, b, 102)[1:-1]
    density_log_x = 0.5 * np.sqrt((b - x) * (x - a)) / (2 * np.pi * 0.5)
    assert np.allclose(law.density(0.5 * np.log(x)), 2 * density_log_x, rtol=0, atol=1e-10)


def test_two_relu_masks_and_orthogonal_weights_give_the_arcsine_law(chain):
    law = chain(0, 2)
    s = law.grid(200)
    assert law.support[1] == pytest.approx(0.0, abs=1e-14)
    assert np.allclose(law.cdf(s), 0.5 + np.arcsin(np.exp(s)) / np.pi, rtol=0, atol=1e-8)
    inner = s[s < -1e-3]
    expected = np.exp(inner) / np.sqrt(1 - np.exp(2 * inner)) / np.pi
    assert np.allclose(law.density(inner), expected, rtol=1e-8)


@pytest.mark.parametrize("depth", DEPTHS[1:])
def test_orthogonal_relu_chains_have_the_closed_form_edge_and_mean(depth):
    law = chain_law("orthogonal", depth, depth, 0.5, 0.5 * depth * np.log(2))
    log_x = np.log(depth) - (depth - 1) * np.log1p(-1 / depth)
    assert law.support[1] == pytest.approx(0.5 * log_x, abs=1e-11)
    assert law.mean_log_sigma == pytest.approx(0.5 * (2 - depth) * np.log(2), rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_diagonal_of_two_values_is_the_mask_it_is(depth):
    masks = FreeProduct([(Gaussian(1, 1), depth), (Isometry.mask(1, 0.7, 1.5), depth)])
    values = FreeProduct([(Gaussian(1, 1), depth), (Diagonal([0, 2.25], [0.3, 0.7]), depth)])
    s = masks.grid(50)
    assert values.cdf(s) == pytest.approx(masks.cdf(s), abs=1e-13)
    assert values.support == pytest.approx(masks.support, abs=1e-12)


@pytest.mark.parametrize("depth", DEPTHS)
def test_values_that_are_nearly_equal_are_nearly_an_isometry(depth):
    """The hidden path beside the explicit one: Var log x of the diagonal is 1e-12."""
    exact = FussCatalan(depth)
    hidden = FreeProduct([(Gaussian(1, 1), depth), (Diagonal([1 - 1e-6, 1 + 1e-6]), depth)])
    s = exact.grid(50)
    assert hidden.density(s) == pytest.approx(exact.density(s), rel=0, abs=1e-8)
    assert hidden.support[1] == pytest.approx(exact.support[1], abs=1e-8)
    assert hidden.mean_log_sigma == pytest.approx(exact.mean_log_sigma, rel=1e-11)
