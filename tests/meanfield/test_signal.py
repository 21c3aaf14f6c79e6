"""Maps from layer to layer, against real networks too."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry.errors import TheoryError
from isometry.meanfield import (
    NAMES,
    activation,
    c_map,
    chi_1,
    chi_c,
    chi_q,
    depth_scale,
    gradient_scale,
    operating_point,
    q_map,
    q_profile,
    trainable_depth,
)


@given(st.sampled_from(NAMES), st.floats(-9.0, 9.0))
def test_chi_q_is_the_derivative_of_the_q_map_at_every_scale(name, log_q):
    q, step = math.exp(log_q), 1e-3
    ahead = [
        q_map(name, q * math.exp(k * step), 1.3, 0.0) - q_map(name, q * math.exp(-k * step), 1.3, 0)
        for k in (1, 2)
    ]
    derivative = (8 * ahead[0] - ahead[1]) / (12 * step * q)
    slack = 1e-10 * (1.0 + q_map(name, q, 1.3, 0.0) / q)
    assert chi_q(name, q, 1.3) == pytest.approx(derivative, abs=slack)


@pytest.mark.parametrize("name", NAMES)
def test_the_slopes_have_their_limits_at_zero_variance(name):
    act = activation(name)
    h = 1e-7
    left, right = act.derivative(np.array([-h, h]))
    assert chi_1(name, 0.0, 1.0) == pytest.approx(0.5 * (left**2 + right**2), rel=1e-6)
    assert q_map(name, 0.0, 2.0, 0.5) == pytest.approx(4 * act.at_zero**2 + 0.25, rel=1e-15)
    assert chi_1(name, 1e-12, 1.0) == pytest.approx(chi_1(name, 0.0, 1.0), rel=1e-5)
    assert chi_q(name, 1e-12, 1.0) == pytest.approx(chi_q(name, 0.0, 1.0), rel=1e-5, abs=1e-8)


def test_the_c_map_divides_by_the_variance_it_makes():
    assert c_map("tanh", 1.0, 3.0, 1.5, 0.2) == pytest.approx(1.0, abs=1e-15)
    assert c_map("tanh", 0.3, 3.0, 1.5, 0.0) == pytest.approx(-c_map("tanh", -0.3, 3.0, 1.5, 0.0))
    point = operating_point("tanh", 2.0, 0.2)
    step = 1e-5
    ends = [c_map("tanh", point.c_star + s, point.q_star, 2.0, 0.2) for s in (-step, step)]
    slope = (ends[1] - ends[0]) / (2 * step)
    assert chi_c("tanh", point.c_star, point.q_star, 2.0) == pytest.approx(slope, rel=1e-8)


def test_a_profile_starts_at_the_input_and_ends_at_the_fixed_point():
    profile = q_profile("tanh", 4.0, 1.5, 0.3, 60)
    assert profile[0] == pytest.approx(2.25 * 4.0 + 0.09)
    for before, after in pairwise(profile):
        assert after == pytest.approx(q_map("tanh", before, 1.5, 0.3), rel=1e-15)
    point = operating_point("tanh", 1.5, 0.3)
    assert profile[-1] == pytest.approx(point.q_star, rel=1e-13)
    rates = np.diff(np.log(np.abs(profile[5:14] - point.q_star)))
    assert rates[-1] == pytest.approx(math.log(point.chi_q), rel=1e-2)


@pytest.mark.parametrize("name", ["tanh", "relu", "selu", "gelu"])
def test_a_wide_network_has_the_variances_and_slopes_of_the_theory(name):
    n, depth, rng = 1500, 6, np.random.default_rng(3)
    act = activation(name)
    profile = q_profile(name, 1.7, 1.4, 0.3, depth)
    x = rng.standard_normal(n)
    x *= math.sqrt(1.7 / np.mean(x**2))
    measured, slopes = [], []
    for _ in range(depth):
        h = 1.4 / math.sqrt(n) * rng.standard_normal((n, n)) @ x + 0.3 * rng.standard_normal(n)
        measured.append(np.mean(h**2))
        slopes.append(1.96 * np.mean(act.derivative(h) ** 2))
        x = act.function(h)
    # one layer's sampling error is √(2/n), and it carries on into the next layers
    error = 4 * math.sqrt(2 * depth / n)
    assert measured == pytest.approx(profile, rel=error)
    assert slopes == pytest.approx([chi_1(name, q, 1.4) for q in profile], rel=error)
    wrong = q_profile("linear", 1.7, 1.4, 0.3, depth)
    assert measured != pytest.approx(wrong, rel=error)


def test_depth_scales_have_their_signs_and_limits():
    assert depth_scale(math.exp(-0.25)) == pytest.approx(4.0)
    assert depth_scale(1.0) == math.inf
    assert depth_scale(1.0 + 1e-14) == math.inf
    assert depth_scale(0.0) == 0.0
    assert depth_scale(math.exp(0.5)) == pytest.approx(-2.0)
    assert depth_scale(-math.exp(-1)) == pytest.approx(1.0)
    assert gradient_scale(math.exp(0.5)) == pytest.approx(2.0)
    assert gradient_scale(math.exp(-0.5)) == pytest.approx(-2.0)
    assert gradient_scale(1.0) == math.inf
    assert trainable_depth(10.0) == 60.0
    assert trainable_depth(math.inf) == math.inf


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: q_map("tanh", -1.0, 1.0, 0.0), "q is -1.0; expected a number >= 0"),
        (lambda: q_map("tanh", 1.0, -1.0, 0.0), "sigma_w is -1.0"),
        (lambda: q_map("tanh", 1.0, 1.0, math.nan), "sigma_b is nan"),
        (lambda: q_map("tanh", "1", 1.0, 0.0), "q is '1'; expected a finite real number"),
        (lambda: chi_1("tanh", True, 1.0), "q is True"),
        (lambda: chi_q("tanh", math.inf, 1.0), "q is inf"),
        (lambda: chi_c("tanh", 1.5, 1.0, 1.0), "c is 1.5; expected a correlation in [-1, 1]"),
        (lambda: c_map("tanh", 0.5, 0.0, 1.0, 0.0), "q is 0.0; expected a number > 0"),
        (lambda: c_map("tanh", 0.5, 1.0, 0.0, 0.0), "has variance 0"),
        (lambda: q_profile("tanh", 1.0, 1.0, 0.0, 0), "depth is 0; expected a whole number"),
        (lambda: q_profile("tanh", 1.0, 1.0, 0.0, 2.5), "depth is 2.5"),
        (lambda: q_profile("tanh", 1.0, 1.0, 0.0, True), "depth is True"),
        (lambda: q_profile("tanh", -1.0, 1.0, 0.0, 3), "q0 is -1.0"),
        (lambda: q_profile("relu", 1.0, 5.0, 0.0, 500), "passes 1e150 at layer"),
        (lambda: trainable_depth(-1.0), "xi_c is -1.0"),
    ],
)
def test_numbers_outside_their_domain_are_refused(call, words):
    with pytest.raises(TheoryError) as caught:
        call()
    assert words in str(caught.value)
