"""Operating points: fixed correlations, depth scales, phases and notes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry.errors import TheoryError
from isometry.meanfield import (
    NAMES,
    activation,
    c_map,
    critical_point,
    operating_point,
    phase_diagram,
)


@given(st.sampled_from(["tanh", "erf", "hard_tanh", "sin", "selu", "softsign"]), st.data())
def test_the_fixed_correlation_is_fixed_attracting_and_at_most_one(name, data):
    sigma_w = data.draw(st.floats(0.1, 3.0 if name != "selu" else 1.1))
    sigma_b = data.draw(st.floats(0.0, 1.0))
    try:
        point = operating_point(name, sigma_w, sigma_b)
    except TheoryError:
        assert name == "selu"
        return
    if point.q_star == 0.0:
        return
    c = point.c_star
    assert 0.0 <= c <= 1.0
    assert c_map(name, c, point.q_star, sigma_w, sigma_b) == pytest.approx(c, abs=1e-12)
    assert point.chi_c <= 1.0 + 1e-9
    assert (c == 1.0) == (point.chi_1 <= 1.0 + 1e-12)
    side = "ordered" if point.chi_1 < 1 else "chaotic"
    assert point.phase == ("critical" if abs(point.chi_1 - 1) <= 1e-12 else side)


@pytest.mark.parametrize("excess", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "elu", "hard_tanh", "selu"])
def test_the_fixed_correlation_leaves_one_by_a_power_law_beyond_criticality(name, excess):
    critical = critical_point(name, sigma_b=0.3)
    point = operating_point(name, critical.sigma_w * (1 + excess), 0.3)
    short = 1.0 - point.c_star
    # where φ' jumps it is the square of χ_1 - 1, else in proportion to it
    power = 2.0 if name in ("hard_tanh", "selu") else 1.0
    assert short < 200 * excess**power
    if short > 1e-9:
        nearer = operating_point(name, critical.sigma_w * (1 + excess / 4), 0.3)
        # a jump of φ'' still bends C by the power 3/2
        wide = math.sqrt(excess) if name == "elu" else 20 * excess
        ratio = math.log(short / (1.0 - nearer.c_star)) / math.log(4.0)
        assert ratio == pytest.approx(power, abs=max(1e-6, wide))
    assert point.xi_gradient > 0


def test_iterating_the_c_map_converges_at_the_rate_of_the_depth_scale():
    point = operating_point("tanh", 2.0, 0.2)
    c, gaps = 0.9, []
    for _ in range(90):
        c = c_map("tanh", c, point.q_star, 2.0, 0.2)
        gaps.append(abs(c - point.c_star))
    rate = math.log(gaps[70] / gaps[80]) / 10
    assert rate == pytest.approx(1 / point.xi_c, rel=1e-3)


def test_a_critical_network_has_infinite_depth_scales_and_says_so():
    critical = critical_point("tanh", sigma_b=0.05)
    again = operating_point("tanh", critical.sigma_w, 0.05)
    assert again.q_star == pytest.approx(critical.q_star, rel=1e-12)
    for point in (critical, again):
        assert point.phase == "critical"
        assert point.xi_c == point.xi_gradient == math.inf
        assert point.c_star == 1.0
        assert point.stable
        assert 0 < point.xi_q < 10


def test_a_network_without_signal_and_one_that_keeps_every_signal_are_noted():
    assert "the signal dies out" in operating_point("tanh", 0.5, 0.0).notes[0]
    assert operating_point("tanh", 0.5, 0.0).q_star == 0.0
    every = operating_point("relu", math.sqrt(2.0), 0.0)
    assert every.phase == "critical"
    assert "every variance is fixed" in every.notes[0]


def test_a_signal_of_variance_one_that_is_not_drawn_here_is_noted():
    point = operating_point("gelu", 1.9, 0.0)
    assert point.q_star == 0.0
    assert "a variance of 1 is not drawn here" in point.notes[0]


@pytest.mark.parametrize("args", [("relu", 1.5, 0.1), ("gelu", 2.2, 0.3), ("linear", 1.1, 0.0)])
def test_divergence_is_said_and_never_a_number(args):
    with pytest.raises(TheoryError, match="no stable variance exists"):
        operating_point(*args)


@pytest.mark.parametrize("sigma_w", [0.0, 1e-6, 30.0, 300.0])
def test_extreme_weights_have_operating_points(sigma_w):
    point = operating_point("tanh", sigma_w, 0.1)
    numbers = [point.q_star, point.chi_1, point.chi_q, point.c_star, point.chi_c, point.xi_c]
    assert np.all(np.isfinite(numbers))
    limit = sigma_w**2 + 0.01 if sigma_w > 1 else 0.01
    assert point.q_star == pytest.approx(limit, rel=0.1)


def test_a_biased_activation_has_its_correlations_too():
    point = operating_point("sigmoid", 3.0, 0.2)
    assert (point.phase, point.c_star) == ("ordered", 1.0)


def test_a_phase_diagram_holds_operating_points_and_the_line_between_the_phases():
    w, b = np.linspace(0.6, 2.4, 7), np.array([0.0, 0.1, 0.5])
    diagram = phase_diagram("tanh", w, b)
    assert diagram.xi_c.shape == diagram.chi_1.shape == (3, 7)
    point = operating_point("tanh", w[4], b[1])
    assert diagram.xi_c[1, 4] == point.xi_c
    assert diagram.q_star[1, 4] == point.q_star
    for row, line in zip(diagram.chi_1, diagram.critical_sigma_w, strict=True):
        assert np.all((row > 1) == (w > line))
    assert diagram.critical_stable == (True, True, True)


def test_a_phase_diagram_is_empty_where_no_variance_is_stable():
    diagram = phase_diagram("relu", [1.0, 2.0], [0.0, 0.1])
    assert np.isnan(diagram.q_star).tolist() == [[False, True], [False, True]]
    assert diagram.critical_sigma_w[0] == pytest.approx(math.sqrt(2.0))
    assert np.isnan(diagram.critical_sigma_w[1])
    assert np.isnan(phase_diagram("softplus", [1.0], [0.5]).critical_sigma_w[0])


@pytest.mark.parametrize(
    ("w", "b", "words"),
    [
        ([], [0.1], "sigma_w has shape (0,)"),
        ([1.0, 0.5], [0.1], "expected increasing numbers >= 0"),
        ([1.0], [-0.1, 0.1], "expected increasing numbers >= 0"),
        ([1.0], [math.nan], "sigma_b has shape (1,); expected one row of finite numbers"),
        ([[1.0]], [0.1], "sigma_w has shape (1, 1)"),
        ("wide", [0.1], "expected a list of numbers"),
    ],
)
def test_a_grid_that_is_none_is_refused(w, b, words):
    with pytest.raises(TheoryError) as caught:
        phase_diagram("tanh", w, b)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_has_an_operating_point_at_small_weights(name):
    point = operating_point(name, 0.8, 0.2)
    assert point.activation == activation(name).name
    assert point.stable
    assert point.phase == "ordered"
