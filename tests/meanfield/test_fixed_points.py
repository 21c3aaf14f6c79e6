"""All fixed points of the variance, and their stability."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry.errors import TheoryError
from isometry.meanfield import NAMES, activation, fixed_points, q_map, q_profile


@given(st.sampled_from(NAMES), st.floats(0.05, 4.0), st.floats(0.0, 2.0))
def test_every_point_is_fixed_and_stability_is_what_iteration_does(name, sigma_w, sigma_b):
    for point in fixed_points(name, sigma_w, sigma_b):
        q = point.q
        assert q_map(name, q, sigma_w, sigma_b) == pytest.approx(q, rel=1e-12, abs=1e-300)
        if q == 0.0 or abs(point.chi_q - 1.0) < 1e-6:
            continue
        for away in (1e-4, -1e-4):
            moved = q_map(name, q * (1 + away), sigma_w, sigma_b) - q
            closer = abs(moved) < 1e-4 * q
            assert closer == (point.stability == "stable")


@given(st.sampled_from(NAMES), st.floats(0.05, 4.0), st.floats(0.0, 2.0), st.floats(1e-3, 1e3))
def test_iteration_ends_at_a_listed_point_or_leaves(name, sigma_w, sigma_b, q):
    points = fixed_points(name, sigma_w, sigma_b)
    for _ in range(300):
        before, q = q, q_map(name, q, sigma_w, sigma_b)
        if q > 1e13 or q < 1e-14 or abs(q - before) < 1e-13 * q:
            break
    else:
        return  # too slow: χ_q is near 1
    if q > 1e13:
        assert not points or points[-1].stability != "stable"
    elif q < 1e-14:
        assert points[0].q <= 1e-14
    elif points[0].stability != "neutral":
        assert min(abs(p.q / q - 1) for p in points if p.q > 0) < 1e-9


def test_tanh_leaves_the_origin_above_one():
    assert [p.stability for p in fixed_points("tanh", 0.9, 0.0)] == ["stable"]
    assert [p.stability for p in fixed_points("tanh", 1.0, 0.0)] == ["stable"]
    below, above = fixed_points("tanh", 1.1, 0.0)
    assert (below.q, below.stability, above.stability) == (0.0, "unstable", "stable")
    assert below.chi_q == pytest.approx(1.21, rel=1e-14)


def test_gelu_repels_from_a_variance_between_dying_and_growing():
    dead, repelling = fixed_points("gelu", 1.9, 0.0)
    assert (dead.q, dead.stability, repelling.stability) == (0.0, "stable", "unstable")
    assert q_profile("gelu", 0.99 * repelling.q / 1.9**2, 1.9, 0.0, 400)[-1] < 0.5 * repelling.q
    assert q_profile("gelu", 1.01 * repelling.q / 1.9**2, 1.9, 0.0, 400)[-1] > 2.0 * repelling.q


def test_gelu_at_twice_its_slope_leaves_the_origin_by_the_next_order():
    (point,) = fixed_points("gelu", 2.0, 0.0)
    assert (point.q, point.stability) == (0.0, "unstable")
    assert point.chi_q == pytest.approx(1.0, abs=1e-14)


def test_two_points_that_meet_are_found_as_one_half_stable_point():
    def pair(sigma_b):
        return fixed_points("silu", 1.9, sigma_b)

    low, high = 0.0, 0.2
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if len(pair(middle)) == 2 else (low, middle)
    assert len(pair(0.98 * low)) == 2
    assert pair(1.02 * low) == ()
    stable, unstable = pair(0.999999 * low)  # between two values of the grid
    assert (stable.stability, unstable.stability) == ("stable", "unstable")
    assert unstable.q / stable.q < 1.02
    assert stable.chi_q == pytest.approx(1.0, abs=0.02)


def test_straight_maps_have_their_own_answers():
    assert fixed_points("relu", math.sqrt(2.0), 0.0)[0].stability == "neutral"
    assert fixed_points("relu", math.sqrt(2.0), 0.1) == ()
    assert fixed_points("relu", 1.5, 0.1) == ()
    assert fixed_points("linear", 0.9, 0.1)[0].q == pytest.approx(0.01 / 0.19, rel=1e-14)
    assert [p.stability for p in fixed_points("relu", 1.5, 0.0)] == ["unstable"]
    assert [p.stability for p in fixed_points("relu", 1.0, 0.0)] == ["stable"]


def test_a_variance_below_the_grid_is_found():
    (point,) = fixed_points("tanh", 0.5, 1e-9)
    assert point.q == pytest.approx(1e-18 / 0.75, rel=1e-12)


def test_a_variance_far_above_one_is_found():
    (point,) = fixed_points("tanh", 1000.0, 0.0)[1:]
    assert point.q == pytest.approx(1e6, rel=1e-2)
    assert q_map("tanh", point.q, 1000.0, 0.0) == pytest.approx(point.q, rel=1e-13)


def test_a_map_that_falls_may_overshoot():
    falling = activation(lambda h: np.exp(-(h**2)))
    (point,) = fixed_points(falling, 5.0, 0.0)
    assert point.chi_q < 0
    assert point.stability == ("unstable" if point.chi_q < -1 else "stable")


@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(-1.0, 0.1), (1.0, -0.1), (math.nan, 0.0)])
def test_negative_deviations_are_refused(sigma_w, sigma_b):
    with pytest.raises(TheoryError, match=r"sigma_[wb] is "):
        fixed_points("tanh", sigma_w, sigma_b)


def test_a_callable_is_searched_as_far_as_its_averages_converge():
    growing = activation(np.exp)
    points = fixed_points(growing, 0.3, 0.1)
    assert [p.stability for p in points] == ["stable", "unstable"]
    for point in points:  # E e^{2h} = e^{2q}
        assert 0.09 * math.exp(2 * point.q) + 0.01 == pytest.approx(point.q, rel=1e-12)


def test_a_bias_beyond_the_search_is_refused():
    with pytest.raises(TheoryError, match=r"sigma_b is 1e\+06; variances are searched up to 1e12"):
        fixed_points("tanh", 1.0, 1e6)
    assert fixed_points("tanh", 1.0, 1e4)[0].q == pytest.approx(1e8, rel=1e-7)
