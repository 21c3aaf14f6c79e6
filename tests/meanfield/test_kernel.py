"""The three ways to a pair of neurons agree, and have the properties of a correlation map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry.meanfield import NAMES, activation
from isometry.meanfield.kernel import Kernel, output_covariance
from isometry.meanfield.moments import second_moment, slope_moment
from isometry.meanfield.nested import pair_expectation


@pytest.mark.parametrize("name", ["tanh", "gelu", "selu", "hardswish", "softsign", "hard_tanh"])
@pytest.mark.parametrize("q", [1e-4, 0.5, 30.0])
@pytest.mark.parametrize("c", [-0.85, 0.0, 0.5, 0.88])
def test_the_series_agrees_with_the_double_integral(name, q, c, by_quadrature):
    act = by_quadrature(name)
    kernel = Kernel(act, q)
    assert kernel.series_reaches(c)
    f, d, kinks = act.function, act.derivative, act.kinks
    value = pair_expectation(lambda u, v: f(u) * f(v), q, q, c, kinks)
    slope = pair_expectation(lambda u, v: d(u) * d(v), q, q, c, kinks)
    gap = pair_expectation(lambda u, v: 0.5 * (f(u) - f(v)) ** 2, q, q, c, kinks)
    assert kernel.value(c) == pytest.approx(value, abs=1e-13 * second_moment(act, q))
    assert kernel.slope(c) == pytest.approx(slope, abs=1e-12 * slope_moment(act, q))
    assert kernel.gap(1.0 - c) == pytest.approx(gap, rel=1e-12)


@pytest.mark.parametrize("name", ["relu", "selu", "hard_tanh", "erf"])
@pytest.mark.parametrize("q", [0.5, 100.0])
def test_the_double_integral_takes_over_near_one_and_agrees_with_closed_forms(
    name, q, by_quadrature
):
    bare = Kernel(by_quadrature(name), q)
    for c in (0.97, 1 - 1e-4, 1 - 1e-8, 1.0):
        if name == "selu":
            assert 0 < bare.slope(c) <= slope_moment(name, q) * (1 + 1e-14)
            continue
        exact = Kernel(activation(name), q)
        assert bare.value(c) == pytest.approx(exact.value(c), rel=1e-12)
        assert bare.slope(c) == pytest.approx(exact.slope(c), rel=1e-12)
        assert bare.gap(1.0 - c) == pytest.approx(
            exact.gap(1.0 - c), rel=1e-7 if c > 0.9999 else 1e-11
        )
    assert not Kernel(by_quadrature("selu"), q).series_reaches(0.97)


@given(st.sampled_from(NAMES), st.floats(1e-3, 20.0), st.floats(-0.8, 0.8))
def test_the_slope_is_the_derivative_of_the_value(name, q, c):
    kernel, step = Kernel(activation(name), q), 1e-4
    ahead = [kernel.value(c + k * step) - kernel.value(c - k * step) for k in (1, 2)]
    derivative = (8 * ahead[0] - ahead[1]) / (12 * step)
    scale = second_moment(kernel.act, q) + q * slope_moment(kernel.act, q)
    assert q * kernel.slope(c) == pytest.approx(derivative, abs=1e-10 * scale)


@given(st.sampled_from(NAMES), st.floats(1e-3, 20.0))
def test_the_ends_are_moments_of_one_neuron(name, q):
    act = activation(name)
    kernel = Kernel(act, q)
    assert kernel.value(1.0) == pytest.approx(second_moment(act, q), rel=1e-12)
    assert kernel.slope(1.0) == pytest.approx(slope_moment(act, q), rel=1e-12)
    assert kernel.gap(0.0) == pytest.approx(0.0, abs=1e-15 * q)


@given(st.sampled_from(NAMES), st.floats(1e-2, 5.0))
def test_the_value_is_convex_and_increasing_on_positive_correlations(name, q):
    kernel = Kernel(activation(name), q)
    values = np.array([kernel.value(c) for c in np.linspace(0.0, 0.85, 9)])
    slack = 1e-13 * values[-1]
    assert np.all(np.diff(values) >= -slack)
    assert np.all(np.diff(values, 2) >= -slack)


@pytest.mark.parametrize("name", ["tanh", "softplus", "elu", "relu", "hard_tanh"])
def test_two_variances_are_symmetric_and_meet_the_double_integral(name):
    act = activation(name)
    f = act.function
    for c in (-0.5, 0.3, 0.98):
        there = output_covariance(act, 0.4, 3.0, c)
        assert output_covariance(act, 3.0, 0.4, c) == pytest.approx(there, rel=1e-12)
        known = pair_expectation(lambda u, v: f(u) * f(v), 0.4, 3.0, c, act.kinks)
        assert there == pytest.approx(known, rel=1e-12)
    silent = output_covariance(act, 0.0, 3.0, 0.0)
    mean = pair_expectation(lambda u, v: f(v), 1.0, 3.0, 0.0, act.kinks)
    assert silent == pytest.approx(float(f(np.zeros(1))[0]) * mean, abs=1e-14)
