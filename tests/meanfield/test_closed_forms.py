"""Closed forms against quadrature, and against what the papers print."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry.meanfield import (
    activation,
    c_map,
    chi_c,
    critical_point,
    leaky_relu,
    operating_point,
    q_map,
    slope_law,
    slope_moment,
)
from isometry.meanfield.kernel import Kernel
from isometry.meanfield.moments import response, second_moment
from isometry.meanfield.nested import pair_expectation

CLOSED = ["linear", "relu", "leaky_relu", "prelu", "hard_tanh", "relu6", "erf", "scaled_erf", "sin"]
VARIANCES = [1e-12, 1e-4, 0.1, 1.0, 5.0]


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("q", VARIANCES)
def test_single_moments_agree_with_quadrature(name, q, by_quadrature):
    exact, bare = activation(name), by_quadrature(name)
    assert second_moment(exact, q) == pytest.approx(second_moment(bare, q), rel=1e-13)
    assert response(exact, q) == pytest.approx(response(bare, q), rel=1e-13)
    for k in (1, 2, 3):
        assert slope_moment(exact, q, k) == pytest.approx(slope_moment(bare, q, k), rel=1e-13)


@pytest.mark.parametrize("name", [n for n in CLOSED if n != "sin"])
def test_single_moments_agree_at_a_variance_of_a_million(name, by_quadrature):
    exact, bare = activation(name), by_quadrature(name)
    assert second_moment(exact, 1e6) == pytest.approx(second_moment(bare, 1e6), rel=1e-12)
    assert response(exact, 1e6) == pytest.approx(response(bare, 1e6), rel=1e-12)
    assert slope_moment(exact, 1e6) == pytest.approx(slope_moment(bare, 1e6), rel=1e-12)


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("q", [0.1, 3.0])
@pytest.mark.parametrize("c", [-1.0, -0.7, 0.0, 0.4, 0.95, 1.0 - 1e-7])
def test_pair_moments_agree_with_a_double_integral(name, q, c):
    act = activation(name)
    f, d, kinks = act.function, act.derivative, act.kinks
    kernel = Kernel(act, q)
    size = second_moment(act, q)
    value = pair_expectation(lambda u, v: f(u) * f(v), q, q, c, kinks)
    slope = pair_expectation(lambda u, v: d(u) * d(v), q, q, c, kinks)
    gap = pair_expectation(lambda u, v: 0.5 * (f(u) - f(v)) ** 2, q, q, c, kinks)
    assert kernel.value(c) == pytest.approx(value, abs=1e-13 * size)
    assert kernel.slope(c) == pytest.approx(slope, abs=1e-13 * slope_moment(act, q))
    assert kernel.gap(1.0 - c) == pytest.approx(gap, rel=1e-8 if c > 0.99 else 1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_pair_moments_of_two_variances_agree_with_a_double_integral(name):
    act = activation(name)
    f, d = act.function, act.derivative
    value = pair_expectation(lambda u, v: f(u) * f(v), 0.3, 2.0, 0.6, act.kinks)
    slope = pair_expectation(lambda u, v: d(u) * d(v), 0.3, 2.0, 0.6, act.kinks)
    assert act.closed.pair(0.3, 2.0, 0.6) == pytest.approx(value, rel=1e-12)
    assert act.closed.slope_pair(0.3, 2.0, 0.6) == pytest.approx(slope, rel=1e-12)


@given(st.floats(1e-6, 30.0), st.floats(-0.999, 0.999), st.sampled_from(CLOSED))
def test_the_gap_closes_what_the_pair_leaves_of_the_second_moment(q, c, name):
    kernel = Kernel(activation(name), q)
    total = kernel.value(c) + kernel.gap(1.0 - c)
    assert total == pytest.approx(second_moment(kernel.act, q), rel=1e-12)


@given(st.floats(1e-3, 1e3))
def test_the_slopes_of_erf_have_the_moments_that_are_printed(q):
    for k in (1, 2, 5):
        plain = (4 / math.pi) ** k / math.sqrt(1 + 4 * k * q)
        assert slope_moment("erf", q, k) == pytest.approx(plain, rel=1e-12)
        scaled = 1 / math.sqrt(1 + math.pi * k * q)
        assert slope_moment("scaled_erf", q, k) == pytest.approx(scaled, rel=1e-12)


def test_erf_has_the_second_moment_that_is_printed():
    assert second_moment(activation("erf"), 0.7) == pytest.approx(
        2 / math.pi * math.asin(1.4 / 2.4), rel=1e-14
    )


@given(st.floats(1e-3, 1e6))
def test_hard_tanh_has_a_bernoulli_law_of_slopes(q):
    p = math.erf(1 / math.sqrt(2 * q))
    values, weights = slope_law("hard_tanh", q)
    assert values[-1] == 1.0
    assert weights[-1] == pytest.approx(p, rel=1e-14)
    assert slope_moment("hard_tanh", q, 7) == pytest.approx(p, rel=1e-14)


def test_sin_has_the_moments_that_are_printed():
    q = 0.8
    assert second_moment(activation("sin"), q) == pytest.approx((1 - math.exp(-2 * q)) / 2)
    assert slope_moment("sin", q) == pytest.approx((1 + math.exp(-2 * q)) / 2, rel=1e-14)
    fourth = (3 + 4 * math.exp(-2 * q) + math.exp(-8 * q)) / 8
    assert slope_moment("sin", q, 2) == pytest.approx(fourth, rel=1e-14)


@given(st.floats(-0.9999, 0.9999))
def test_relu_has_the_arc_cosine_map(c):
    expected = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi
    assert c_map("relu", c, 1.0, math.sqrt(2.0), 0.0) == pytest.approx(expected, abs=1e-12)
    slope = (math.pi - math.acos(c)) / math.pi
    assert chi_c("relu", c, 1.0, math.sqrt(2.0)) == pytest.approx(slope, abs=1e-12)


def test_relu_forgets_the_difference_of_two_inputs_by_a_power_law():
    c = 0.0
    for _ in range(20000):
        c = c_map("relu", c, 1.0, math.sqrt(2.0), 0.0)
    assert (1 - c) / (9 * math.pi**2 / (2 * 20000**2)) == pytest.approx(0.998, abs=1e-3)


@given(st.floats(-2.0, 2.0), st.floats(0.01, 100.0))
def test_a_leaky_relu_is_a_relu_of_other_weights(a, q):
    act = leaky_relu(a)
    assert q_map(act, q, 1.3, 0.2) == pytest.approx(1.69 * (1 + a * a) / 2 * q + 0.04, rel=1e-14)
    assert critical_point(act).sigma_w ** 2 == pytest.approx(2 / (1 + a * a), rel=1e-14)


@pytest.mark.parametrize("q", [1e-4, 1e-6, 1e-8])
def test_tanh_near_the_origin_follows_its_expansion(q):
    point = critical_point("tanh", q_star=q)
    assert point.sigma_w**2 == pytest.approx(1 + 2 * q, abs=10 * q * q)
    assert point.sigma_b**2 == pytest.approx(4 / 3 * q**3, rel=10 * q + 1e-7)
    wide = slope_moment("tanh", q, 2) * point.sigma_w**4 - 1
    assert wide == pytest.approx(8 * q * q, rel=20 * q, abs=1e-15)


def test_selu_keeps_its_variance_of_one():
    point = operating_point("selu", 1.0, 0.0)
    assert point.q_star == pytest.approx(1.0, abs=1e-14)
    assert point.chi_q == pytest.approx(0.782647883, abs=5e-10)
    assert point.chi_1 == pytest.approx(1.071574992, abs=5e-10)
    assert point.c_star == 0.0


def test_the_network_of_ten_thousand_layers_is_critical_but_not_isometric():
    point = critical_point("tanh", sigma_b=math.sqrt(2.01e-5))
    assert point.q_star == pytest.approx(0.025918602748049115, rel=1e-12)
    assert point.sigma_w**2 == pytest.approx(1.0499956284990388, rel=1e-13)
    wide = slope_moment("tanh", point.q_star, 2) * point.sigma_w**4 - 1
    assert wide == pytest.approx(0.004268210395427685, rel=1e-11)


@pytest.mark.parametrize("name", ["tanh", "gelu", "selu", "hard_tanh", "softsign"])
def test_a_law_of_slopes_has_the_moments_of_the_slope(name):
    values, weights = slope_law(name, 0.7)
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    assert np.all(weights > 0)
    for k in (1, 2, 3):
        assert weights @ values**k == pytest.approx(slope_moment(name, 0.7, k), rel=1e-12)


def test_a_law_of_slopes_is_exact_for_straight_pieces():
    values, weights = slope_law("leaky_relu(0.2)", 3.0)
    assert values == pytest.approx([0.04, 1.0], abs=1e-16)
    assert weights.tolist() == [0.5, 0.5]
    assert [v.tolist() for v in slope_law("linear", 2.0)] == [[1.0], [1.0]]
    assert [v.tolist() for v in slope_law("relu", 0.0)] == [[0.0, 1.0], [0.5, 0.5]]
    rare = slope_law("hard_tanh", 0.01)
    assert rare[1][0] == pytest.approx(math.erfc(10 / math.sqrt(2)), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "q", "expected"),
    [
        # E log |φ'| by mpmath, split at the zeros of φ'
        ("gelu", 5.0, -1.75185769139927891868),
        ("sin", 1.0, -0.55797962356062712),
    ],
)
def test_the_law_of_slopes_resolves_the_logarithm_where_slopes_vanish(name, q, expected):
    values, weights = slope_law(name, q)
    assert 0.5 * np.log(values) @ weights == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("q", [50.0, 1e6, 1e60])
def test_the_slopes_of_a_wide_sine_have_the_arcsine_law(q):
    values, weights = slope_law("sin", q)
    for k in (1, 2, 3):
        assert weights @ values**k == pytest.approx(math.comb(2 * k, k) / 4**k, rel=1e-9)
    assert weights @ np.log(values) == pytest.approx(-2 * math.log(2), rel=1e-9)


@pytest.mark.parametrize("name", ["gelu", "celu", "tanh", "silu"])
def test_slopes_are_found_at_any_variance(name):
    values, weights = slope_law(name, 1e60)
    assert weights @ values == pytest.approx(slope_moment(name, 1e60), rel=1e-9)
    assert values.size < 10_000


@pytest.mark.parametrize("name", ["hard_tanh", "sin", "erf", "tanh"])
@pytest.mark.parametrize("q", [3e-18, 1e-190])
def test_a_tiny_variance_keeps_its_digits(name, q):
    sigma_b = math.sqrt(0.75 * q)
    slope = activation(name).derivative(np.zeros(1))[0]
    assert q_map(name, q, 0.5, sigma_b) == pytest.approx((0.25 * slope**2 + 0.75) * q, rel=1e-12)
    assert c_map(name, 1.0, q, 0.5, sigma_b) == pytest.approx(1.0, abs=1e-12)
