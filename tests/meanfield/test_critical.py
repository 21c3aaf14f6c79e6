"""The critical line by q* and by σ_b, and where there is none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry.errors import TheoryError
from isometry.meanfield import chi_1, chi_q, critical_point, fixed_points, q_map
from isometry.meanfield.critical import bias_variance
from isometry.meanfield.custom import activation

CURVED = ["tanh", "erf", "scaled_erf", "hard_tanh", "sin", "gelu", "silu", "selu", "elu", "mish"]


@given(st.sampled_from(CURVED), st.floats(-7.0, 4.0))
def test_a_critical_point_is_a_fixed_point_with_unit_slope(name, log_q):
    q = math.exp(log_q)
    point = critical_point(name, q_star=q)
    assert chi_1(name, q, point.sigma_w) == pytest.approx(1.0, abs=1e-14)
    assert q_map(name, q, point.sigma_w, point.sigma_b) == pytest.approx(q, rel=1e-13)
    assert point.chi_q == pytest.approx(chi_q(name, q, point.sigma_w), rel=1e-14)
    assert point.stable == (abs(point.chi_q) < 1)


@given(st.sampled_from(CURVED), st.floats(1e-5, 3.0))
def test_the_point_with_a_given_bias_has_it(name, sigma_b):
    point = critical_point(name, sigma_b=sigma_b)
    assert point.sigma_b == sigma_b
    assert math.sqrt(bias_variance(activation(name), point.q_star)) == pytest.approx(
        sigma_b, rel=1e-9
    )
    assert critical_point(name, q_star=point.q_star).sigma_w == pytest.approx(
        point.sigma_w, rel=1e-13
    )


def test_without_bias_the_point_is_the_limit_of_small_variances():
    for name, sigma_w in (("tanh", 1.0), ("erf", math.sqrt(math.pi) / 2), ("gelu", 2.0)):
        point = critical_point(name, sigma_b=0.0)
        assert point.sigma_w == pytest.approx(sigma_w, rel=1e-12)
        assert point.q_star == 0.0
        assert point.phase == "critical"
        near = critical_point(name, sigma_b=1e-6)
        assert near.sigma_w == pytest.approx(sigma_w, rel=2e-3)
    assert critical_point("tanh", sigma_b=0.0).stable
    assert not critical_point("gelu", sigma_b=0.0).stable


def test_a_tiny_bias_keeps_its_digits():
    # q* = (3 σ_b²/4)^{1/3} to leading order, where q E φ'² - E φ² cancels to 1e-12
    point = critical_point("tanh", sigma_b=1e-9)
    assert point.q_star == pytest.approx((0.75e-18) ** (1 / 3), rel=1e-5)


def test_a_hard_tanh_that_hardly_clips_has_a_bias_all_the_same():
    point = critical_point("hard_tanh", q_star=0.01)
    density = math.exp(-50.0) / math.sqrt(2 * math.pi)
    series = 2 * math.sqrt(0.01) * density * (0.01 - 3 * 0.01**2 + 15 * 0.01**3 - 105 * 0.01**4)
    assert point.sigma_b**2 == pytest.approx(series, rel=1e-5)
    assert point.sigma_w == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.2)", "prelu", "linear"])
def test_straight_activations_are_critical_without_bias_only(name):
    point = critical_point(name)
    assert chi_1(name, 1.0, point.sigma_w) == pytest.approx(1.0, rel=1e-15)
    assert (point.sigma_b, point.q_star, point.stable) == (0.0, 1.0, True)
    assert critical_point(name, q_star=3.0).q_star == 3.0
    assert critical_point(name, sigma_b=0.0).sigma_w == point.sigma_w
    with pytest.raises(TheoryError, match=r"any bias makes the variance grow without bound"):
        critical_point(name, sigma_b=0.1)


@pytest.mark.parametrize(
    ("name", "q", "slope"),
    [
        ("gelu", 0.1, 1.0756),
        ("gelu", 1.0, 1.0672),
        ("silu", 0.1, 1.0389),
        ("silu", 1.0, 1.0993),
        ("silu", 5.0, 1.0399),
    ],
)
def test_half_stable_points_are_flagged(name, q, slope):
    point = critical_point(name, q_star=q)
    assert point.chi_q == pytest.approx(slope, abs=6e-5)
    assert not point.stable
    assert point.notes[0].startswith("half-stable")
    again = fixed_points(name, point.sigma_w, point.sigma_b)
    assert min(abs(p.q - q) for p in again if p.stability == "unstable") < 1e-10


@pytest.mark.parametrize(("name", "q", "slope"), [("gelu", 5.0, 0.9905), ("silu", 50.0, 0.9861)])
def test_large_variances_of_gelu_and_silu_are_stable(name, q, slope):
    point = critical_point(name, q_star=q)
    assert point.chi_q == pytest.approx(slope, abs=6e-5)
    assert point.stable
    assert point.notes == ()


def test_softplus_has_no_critical_point_and_says_why():
    with pytest.raises(TheoryError, match=r"softplus has no critical point: .* at every q\*"):
        critical_point("softplus", sigma_b=0.1)
    with pytest.raises(TheoryError, match=r"softplus has no critical point: .* at every q\*"):
        critical_point("softplus")
    with pytest.raises(TheoryError, match=r"q\* = 1: χ_1 = 1 would need σ_b² = -2\.14"):
        critical_point("softplus", q_star=1.0)


def test_sigmoid_has_none_at_moderate_variances_and_one_beyond():
    with pytest.raises(TheoryError, match=r"no critical point of sigmoid has q\* = 10: .* < 0"):
        critical_point("sigmoid", q_star=10.0)
    point = critical_point("sigmoid", sigma_b=0.1)
    assert point.q_star > 45
    assert point.sigma_w > 10
    assert q_map("sigmoid", point.q_star, point.sigma_w, 0.1) == pytest.approx(point.q_star)


def test_a_bias_beyond_the_line_is_refused_with_its_range():
    flat = activation(lambda h: h * (1.0 + 0.01 * h * np_exp(-h * h)))
    with pytest.raises(TheoryError, match=r"no critical point of <lambda> .* runs from"):
        critical_point(flat, sigma_b=50.0)


def np_exp(x):
    import numpy as np

    return np.exp(x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs q_star or sigma_b; got neither"),
        ({"q_star": 1.0, "sigma_b": 0.1}, "both q_star and sigma_b are given"),
        ({"q_star": 0.0}, "q_star is 0.0; expected a number > 0"),
        ({"q_star": -1.0}, "q_star is -1.0; expected a number > 0"),
        ({"q_star": math.nan}, "q_star is nan"),
        ({"sigma_b": -0.1}, "sigma_b is -0.1; expected a number >= 0"),
        ({"sigma_b": "much"}, "sigma_b is 'much'"),
    ],
)
def test_bad_arguments_are_refused(options, words):
    with pytest.raises(TheoryError) as caught:
        critical_point("tanh", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("option", [{"q_star": 0.0}, {"sigma_b": -1.0}])
def test_bad_arguments_are_refused_for_straight_activations_too(option):
    with pytest.raises(TheoryError):
        critical_point("relu", **option)


def test_a_constant_has_no_critical_point():
    constant = activation(lambda h: 0.0 * h)
    with pytest.raises(TheoryError, match="its slope is 0 wherever the signal goes"):
        critical_point(constant, q_star=1.0)


def test_an_odd_activation_has_no_bias_below_zero_by_rounding():
    point = critical_point("hard_tanh", q_star=math.exp(-5.0))
    assert 0.0 <= point.sigma_b < 1e-15
