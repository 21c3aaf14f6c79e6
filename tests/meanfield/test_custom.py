"""Callables as activations: kinks, slopes, torch, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isometry.errors import TheoryError
from isometry.meanfield import NAMES, activation, c_map, operating_point, slope_law, slope_moment
from isometry.meanfield.kink import explore
from isometry.meanfield.moments import second_moment


@pytest.mark.parametrize("name", NAMES)
def test_the_kinks_of_every_known_activation_are_found(name):
    act = activation(name)
    assert explore(act.function)[0] == pytest.approx(act.kinks, abs=1e-12)


@given(st.floats(-20.0, 20.0), st.floats(0.1, 5.0), st.booleans())
def test_a_kink_anywhere_is_found_to_ten_digits(place, jump, bent):
    def function(h):
        rest = np.tanh(h) if bent else 0.3 * h
        return rest + jump * np.maximum(h - place, 0.0)

    ((found,), _) = explore(function)
    assert found == pytest.approx(place, abs=1e-9)


@pytest.mark.parametrize("place", [0.3, 0.7123, -1.1, 5e-8, -5.96e-8])
@pytest.mark.parametrize("jump", [0.3, 0.05, 0.01])
def test_a_weak_kink_is_found_beside_a_hundredfold_curvature(place, jump):
    ((found,), _) = explore(lambda h: np.tanh(h) + jump * np.maximum(h - place, 0.0))
    assert found == pytest.approx(place, abs=1e-11)


def test_two_near_kinks_and_a_kink_of_the_second_kind_are_all_found():
    both, _ = explore(lambda h: np.clip(h, 1.0, 1.137) + np.abs(h + 3.0))
    assert both == pytest.approx((-3.0, 1.0, 1.137), abs=1e-9)
    assert explore(lambda h: np.maximum(h - 2.0, 0.0) ** 2)[0] == (2.0,)


@pytest.mark.parametrize("steep", [1.0, 10.0, 100.0])
def test_a_smooth_function_has_no_kink_however_steep(steep):
    assert explore(lambda h: np.tanh(steep * h))[0] == ()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("linear", "relu")])
def test_a_bare_function_gives_the_moments_of_the_known_activation(name):
    known = activation(name)
    bare = activation(known.function)
    assert bare.odd == known.odd
    assert bare.slopes == known.slopes
    for q in (1e-3, 1.0, 20.0):
        assert second_moment(bare, q) == pytest.approx(second_moment(known, q), rel=1e-12)
        assert slope_moment(bare, q) == pytest.approx(slope_moment(known, q), rel=1e-10)
        values, weights = slope_law(bare, q)
        assert weights @ values == pytest.approx(slope_moment(known, q), rel=1e-10)


def test_a_numerical_slope_is_good_to_ten_digits_next_to_a_kink():
    known = activation("selu")
    bare = activation(known.function)
    h = np.array([-3.0, -0.5, -0.01, -1e-4, 1e-4, 0.01, 2.0])
    assert bare.derivative(h) == pytest.approx(known.derivative(h), rel=1e-10)


def test_a_bare_function_gives_the_operating_point_of_the_known_activation():
    known = operating_point("tanh", 1.5, 0.05)
    bare = operating_point(lambda h: np.tanh(h), 1.5, 0.05)
    for field in dataclasses.fields(known):
        if isinstance(getattr(known, field.name), float):
            expected = getattr(known, field.name)
            assert getattr(bare, field.name) == pytest.approx(expected, rel=1e-10), field.name


def test_a_function_of_one_number_is_called_one_by_one():
    act = activation(math.sin)
    assert act.function(np.array([[0.5, 1.0]])).shape == (1, 2)
    assert slope_moment(act, 1.0) == pytest.approx(slope_moment("sin", 1.0), rel=1e-12)
    assert activation(lambda x: max(0.0, x)).slopes == (0.0, 1.0)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (torch.nn.Tanh(), "tanh"),
        (torch.nn.GELU(), "gelu"),
        (torch.nn.ReLU(), "relu"),
        (torch.nn.PReLU(init=0.25), "prelu"),
        (torch.nn.Hardswish(), "hardswish"),
        (torch.nn.Sequential(torch.nn.ELU(), torch.nn.Dropout(0.5)), "elu"),
        (torch.tanh, "tanh"),
        (torch.nn.functional.softplus, "softplus"),
    ],
)
def test_torch_modules_and_functions_are_activations(module, name):
    act = activation(module)
    for q in (0.1, 2.0):
        assert second_moment(act, q) == pytest.approx(second_moment(activation(name), q), rel=1e-12)
        assert slope_moment(act, q) == pytest.approx(slope_moment(name, q), rel=1e-10)


def test_the_module_is_left_as_it_was():
    module = torch.nn.Sequential(torch.nn.PReLU(), torch.nn.Dropout(0.5)).train()
    activation(module)
    assert module.training
    assert module[0].weight.dtype == torch.float32
    assert module[0].weight.grad is None


def test_a_homogeneous_callable_is_known_to_be_one():
    assert activation(torch.nn.LeakyReLU(0.5)).homogeneous == (0.5, 1.0)
    assert activation(lambda h: h + 1.0).homogeneous is None
    assert operating_point(np.abs, 1.0, 0.0).notes[0].startswith("every variance is fixed")


def _impossible():
    """Takes no argument."""


class _Counting:
    calls = 0

    def __call__(self, h):
        self.calls += 1
        return self.calls * np.tanh(h)


_RNG = np.random.default_rng(0)


def _noisy(h):
    return h + 1e-6 * _RNG.standard_normal(np.shape(h))


def _overflowing(x):
    return math.log1p(math.exp(x))


def test_what_cannot_be_followed_far_out_is_used_as_far_as_it_can():
    act = activation(_overflowing)
    assert slope_moment(act, 4.0) == pytest.approx(slope_moment("softplus", 4.0), rel=1e-12)
    with pytest.raises(TheoryError, match="_overflowing at variance 10000 reaches"):
        slope_moment(act, 1e4)
    plus = activation(lambda h: np.log(h + 100.0))
    assert slope_moment(plus, 1.0) == pytest.approx(1.0003e-4, rel=1e-6)
    with pytest.raises(TheoryError, match="reaches"):
        second_moment(plus, 100.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda h: h * np.nan, "is not finite at -6"),
        (lambda h: np.log(h), "is not finite at"),
        (lambda h: np.where(np.abs(h) < 7, h, np.inf), "is not finite at"),
        (lambda h: h.sum(), "returned shape () for an array of shape (25,)"),
        (lambda h: np.stack([h, h]), "returned shape (2, 25)"),
        (_impossible, "raised TypeError"),
        (lambda h: "no", "raised"),
        (lambda h: [[1.0], [2.0, 3.0]], "raised ValueError"),
        (lambda h: ["no" for _ in h], "raised ValueError"),
        (lambda h: [{} for _ in h], "raised TypeError"),
        (lambda h: h * 1j, "returned complex numbers"),
        (lambda h: torch.sqrt(torch.as_tensor(h) + 0j), "returned complex numbers"),
        (np.emath.sqrt, "returned complex numbers"),
        (np.sign, "jumps near 0"),
        (lambda h: np.where(h > 1.2345, h, 0.0), "jumps near 1.234"),
        (lambda h: np.sqrt(np.abs(h)), "infinitely steep near 0"),
        (np.cbrt, "infinitely steep near 0"),
        (np.round, "jumps near -0.5"),
        (np.floor, "jumps near 0"),
        (lambda h: h + (h > 1000.0), "jumps near 1000"),
        (lambda h: np.tanh(h.astype(np.float32)), "fewer than 13 digits"),
        (np.sort, "sort mixes the elements"),
        (np.flip, "flip mixes the elements"),
        (np.cumsum, "cumsum mixes the elements"),
        (lambda h: h - h.mean(), "mixes the elements"),
        (lambda h: h / (1.0 + np.abs(h).max()), "mixes the elements"),
        (torch.nn.Softmax(dim=0), "Softmax mixes the elements"),
        (lambda h: torch.softmax(h, 0), "mixes the elements"),
        (_Counting(), "_Counting returned other values when it was called again"),
        (_noisy, "_noisy returned other values"),
        (3, "expected a name, a callable of an array, or an Activation"),
        (None, "expected a name"),
    ],
)
def test_what_is_no_activation_is_refused(wrong, words):
    with pytest.raises(TheoryError) as caught:
        activation(wrong)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("speed", [20.0, 100.0, 1000.0])
def test_a_function_that_varies_fast_has_its_moments_as_far_as_it_can_be_followed(speed):
    fast = activation(lambda h: np.sin(speed * h))
    for q in (1e-6, 1e-4, 0.3):
        close = pytest.approx(0.5 * -math.expm1(-2.0 * speed**2 * q), rel=1e-12)
        assert second_moment(fast, q) == close
        known = 0.5 * speed**2 * (1.0 + math.exp(-2.0 * speed**2 * q))
        assert slope_moment(fast, q) == pytest.approx(known, rel=1e-12)
    with pytest.raises(TheoryError, match=r"at variance 1e\+06 reaches \|h\| = 1.2e\+04"):
        second_moment(fast, 1e6)


def _phi(x):
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


@pytest.mark.parametrize("far", [33.0, 100.0, 1000.0, 1e5, -77.7])
@pytest.mark.parametrize("rest", [lambda h: 0.1 * h, lambda h: 0.1 * h + 1e-3 * np.tanh(h)])
def test_a_kink_far_out_is_in_the_moments_of_the_slope(far, rest):
    act = activation(lambda h: rest(h) + np.maximum(np.sign(far) * (h - far), 0.0))
    assert act.kinks == (far,)
    beyond = _phi(-1.0)  # of a standard deviation of |far|
    slope = slope_moment(activation(rest), far**2)
    cross = 0.2 * math.copysign(1.0, far)
    expected = slope + beyond * (1.0 + cross)  # beyond the kink tanh is flat
    assert slope_moment(act, far**2) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("width", [0.1, 1e-3, 1e-5])
@pytest.mark.parametrize("place", [0.0, 1.0, -3.0, 0.123456])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_two_kinks_close_together_are_both_found(width, place, smooth):
    act = activation(lambda h: smooth * np.tanh(h) + np.clip((h - place) / width, 0.0, 1.0))
    assert act.kinks == pytest.approx((place, place + width), abs=1e-12)
    inside = np.array([place + 0.4 * width])
    known = 1.0 / width + smooth / np.cosh(inside) ** 2
    assert act.derivative(inside) == pytest.approx(known, rel=1e-14 / width)


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e5])
def test_the_unit_of_h_does_not_matter(scale):
    bare = activation(lambda h: scale * np.clip(np.tanh(h / scale), -0.5, 1.0))
    assert bare.kinks == pytest.approx((-scale * math.atanh(0.5),), rel=1e-9)
    unit = activation(lambda h: np.clip(np.tanh(h), -0.5, 1.0))
    for q in (0.01, 1.0, 30.0):
        assert slope_moment(bare, scale**2 * q) == pytest.approx(slope_moment(unit, q), rel=1e-8)


def test_a_steep_place_away_from_the_origin_is_resolved():
    steep, q = 1e4, 2.0
    act = activation(lambda h: np.tanh(steep * (h - 1.0)))
    assert act.kinks == ()
    # E φ'² is 4/3 steep times the density at 1, but for the curvature of the density
    density = math.exp(-0.5 / q) / math.sqrt(2.0 * math.pi * q)
    assert slope_moment(act, q) == pytest.approx(4.0 / 3.0 * steep * density, rel=1.0 / steep**2)
    values, weights = slope_law(act, q)
    assert weights @ values == pytest.approx(slope_moment(act, q), rel=1e-8)


def test_a_singular_but_finite_average_is_right():
    # φ = h log |h|: φ' = 1 + log |h| and E log h² = -γ - log 2, Var log h² = π²/2
    act = activation(lambda h: h * np.log(np.abs(h) + (h == 0.0)))
    mean = -0.5 * (np.euler_gamma + math.log(2.0))
    assert slope_moment(act, 1.0) == pytest.approx((1.0 + mean) ** 2 + math.pi**2 / 8, rel=1e-9)
    # |h|^{3/2}: φ'² = 9/4 |h|
    act = activation(lambda h: np.abs(h) ** 1.5)
    assert slope_moment(act, 1.0) == pytest.approx(2.25 * math.sqrt(2.0 / math.pi), rel=1e-9)


def test_a_pair_that_bends_too_fast_for_the_double_integral_is_refused():
    act = activation(lambda h: np.tanh(100.0 * (h - 1.0)))
    with pytest.raises(TheoryError, match=r"over pairs of variance 0\.5 and correlation 0\.97"):
        c_map(act, 0.97, 0.5, 1.0, 0.0)


def test_a_function_that_grows_too_fast_is_refused_where_it_does():
    growing = activation(np.exp)
    assert second_moment(growing, 0.5) == pytest.approx(math.e, rel=1e-12)
    with pytest.raises(TheoryError, match="varies too fast or grows too fast"):
        second_moment(growing, 25.0)


def test_slopes_that_vary_too_fast_to_be_followed_are_refused():
    bare = activation(lambda h: np.sin(h))
    values, weights = slope_law(bare, 20.0)
    assert weights @ values == pytest.approx(slope_moment("sin", 20.0), rel=1e-10)
    with pytest.raises(TheoryError, match=r"at variance 1e\+06 reaches"):
        slope_law(bare, 1e6)


@pytest.mark.parametrize(("slope", "offset"), [(0.5, 1.0), (-2.0, 0.5), (0.0, 1.0)])
def test_a_straight_line_that_misses_zero_has_its_moments(slope, offset):
    def line(h):
        return slope * h + offset

    chi = 0.16 * slope**2
    point = operating_point(line, 0.4, 0.1)
    assert point.q_star == pytest.approx((0.16 * offset**2 + 0.01) / (1.0 - chi), rel=1e-12)
    assert (point.chi_1, point.chi_q) == pytest.approx((chi, chi), abs=1e-13)
    shared, own = 0.16 * offset**2 + 0.01, chi * 0.5
    correlation = c_map(line, 0.3, 0.5, 0.4, 0.1)
    assert correlation == pytest.approx((shared + 0.3 * own) / (shared + own), rel=1e-12)


def test_a_list_of_numbers_is_as_good_as_an_array():
    found = slope_moment(lambda h: list(np.tanh(h)), 1.0)
    assert found == pytest.approx(slope_moment("tanh", 1.0), rel=1e-10)
