"""Gains: χ_1 = 1 at the fixed point, or at the variance that inputs really give."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry.errors import InputError
from isometry.init import gain, stem_gain
from isometry.meanfield import NAMES, chi_1, critical_point, slope_moment

NAMED = [name for name in NAMES if name not in ("prelu", "celu")]


@given(st.sampled_from(NAMED), st.floats(-5.0, 4.0), st.floats(0.0, 1.0))
def test_gradients_keep_at_the_real_input_variance(name, log_v, sigma_b):
    v = math.exp(log_v)
    sigma_w = gain(name, input_variance=v, sigma_b=sigma_b)
    assert chi_1(name, sigma_w**2 * v + sigma_b**2, sigma_w) == pytest.approx(1.0, rel=1e-12)


def test_it_is_the_critical_one_at_a_fixed_point():
    assert gain("tanh", q_star=0.3) == critical_point("tanh", q_star=0.3).sigma_w
    assert gain("relu") == pytest.approx(math.sqrt(2.0), rel=1e-15)
    assert gain("leaky_relu(0.2)", input_variance=7.0) == pytest.approx(math.sqrt(2 / 1.04))
    assert gain("linear") == 1.0


def test_both_agree_where_the_input_is_that_of_the_fixed_point():
    point = critical_point("tanh", q_star=0.5)
    v = (0.5 - point.sigma_b**2) / point.sigma_w**2
    found = gain("tanh", input_variance=v, sigma_b=point.sigma_b)
    assert found == pytest.approx(point.sigma_w, rel=1e-12)


def test_sigmoid_has_one_though_it_has_no_critical_point():
    with pytest.raises(InputError, match="no critical point of sigmoid"):
        gain("sigmoid", q_star=1.0)
    sigma_w = gain("sigmoid", input_variance=0.25)
    assert sigma_w**2 * slope_moment("sigmoid", sigma_w**2 / 4) == pytest.approx(1.0)


def test_any_callable_has_one():
    found = gain(lambda h: h / (1.0 + h**2) ** 0.5, input_variance=0.1)
    assert 1.0 < found < 2.0


def test_the_first_layer_brings_inputs_to_the_fixed_point():
    point = critical_point("tanh", q_star=0.002)
    found = stem_gain("tanh", q_star=0.002, input_variance=4.0)
    assert found**2 * 4.0 + point.sigma_b**2 == pytest.approx(0.002, rel=1e-14)
    assert stem_gain("relu", q_star=1.0, input_variance=4.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("activation", "options", "words"),
    [
        ("tanhh", {"q_star": 1.0}, "did you mean 'tanh'"),
        ("tanh", {}, "expected q_star or input_variance, got neither"),
        ("tanh", {"q_star": -1.0}, "q_star is -1.0; expected a number > 0"),
        ("tanh", {"input_variance": 0.0}, "input_variance is 0.0; expected a number > 0"),
        ("tanh", {"input_variance": 1.0, "sigma_b": -0.1}, "sigma_b is -0.1"),
        ("tanh", {"input_variance": 1.0, "q_star": 1.0}, "expected one of them"),
        ("tanh", {"q_star": 1.0, "sigma_b": 0.1}, "q_star has a σ_b of its own"),
        (3, {"q_star": 1.0}, "an activation is 3"),
        (lambda h: 0 * h, {"input_variance": 1.0}, "no sigma_w from"),
    ],
)
def test_what_has_no_gain_says_so_in_a_line(activation, options, words):
    with pytest.raises(InputError, match=words) as caught:
        gain(activation, **options)
    assert "\n" not in str(caught.value)


def test_so_does_a_first_layer():
    with pytest.raises(InputError, match="input_variance is -1"):
        stem_gain("tanh", q_star=1.0, input_variance=-1)
    with pytest.raises(InputError, match="did you mean 'relu'"):
        stem_gain("relo", q_star=1.0, input_variance=1.0)
