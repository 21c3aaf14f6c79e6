"""Callables as activations: kinks, slopes, torch, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isometry.errors import TheoryError
from isometry.meanfield import NAMES, activation, operating_point, slope_law, slope_moment
from isometry.meanfield.kink import find_kinks
from isometry.meanfield.moments import second_moment


@pytest.mark.parametrize("name", NAMES)
def test_the_kinks_of_every_known_activation_are_found(name):
    act = activation(name)
    assert find_kinks(act.function) == pytest.approx(act.kinks, abs=1e-12)


@given(st.floats(-20.0, 20.0), st.floats(0.1, 5.0), st.booleans())
def test_a_kink_anywhere_is_found_to_ten_digits(place, jump, bent):
    def function(h):
        rest = np.tanh(h) if bent else 0.3 * h
        return rest + jump * np.maximum(h - place, 0.0)

    (found,) = find_kinks(function)
    assert found == pytest.approx(place, abs=1e-9)


@pytest.mark.parametrize("place", [0.3, 0.7123, -1.1, 5e-8, -5.96e-8])
@pytest.mark.parametrize("jump", [0.3, 0.05, 0.01])
def test_a_weak_kink_is_found_beside_a_hundredfold_curvature(place, jump):
    (found,) = find_kinks(lambda h: np.tanh(h) + jump * np.maximum(h - place, 0.0))
    assert found == pytest.approx(place, abs=1e-11)


def test_two_near_kinks_and_a_kink_of_the_second_kind_are_all_found():
    both = find_kinks(lambda h: np.clip(h, 1.0, 1.137) + np.abs(h + 3.0))
    assert both == pytest.approx((-3.0, 1.0, 1.137), abs=1e-9)
    assert find_kinks(lambda h: np.maximum(h - 2.0, 0.0) ** 2) == pytest.approx((2.0,), abs=1e-3)


@pytest.mark.parametrize("steep", [1.0, 10.0, 100.0])
def test_a_smooth_function_has_no_kink_however_steep(steep):
    assert find_kinks(lambda h: np.tanh(steep * h)) == ()


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
        (lambda h: h * 1j, "returned complex numbers"),
        (lambda h: torch.sqrt(torch.as_tensor(h) + 0j), "returned complex numbers"),
        (np.emath.sqrt, "returned complex numbers"),
        (np.sign, "jumps near 0"),
        (lambda h: np.where(h > 1.2345, h, 0.0), "jumps near 1.234"),
        (lambda h: np.sqrt(np.abs(h)), "infinitely steep"),
        (3, "expected a name, a callable of an array, or an Activation"),
        (None, "expected a name"),
    ],
)
def test_what_is_no_activation_is_refused(wrong, words):
    with pytest.raises(TheoryError) as caught:
        activation(wrong)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_function_that_quadrature_does_not_resolve_is_refused_where_it_is_not():
    fast = activation(lambda h: np.sin(50.0 * h))
    assert second_moment(fast, 1e-4) == pytest.approx(0.5 * -math.expm1(-0.5), rel=1e-12)
    with pytest.raises(TheoryError, match="at variance 4 did not converge"):
        second_moment(fast, 4.0)


def test_a_function_that_grows_too_fast_is_refused_where_it_does():
    growing = activation(np.exp)
    assert second_moment(growing, 0.5) == pytest.approx(math.e, rel=1e-12)
    with pytest.raises(TheoryError, match="varies too fast or grows too fast"):
        second_moment(growing, 25.0)


def test_slopes_that_vary_too_fast_to_be_sampled_are_refused():
    bare = activation(lambda h: np.sin(h))
    values, weights = slope_law(bare, 20.0)
    assert weights @ values == pytest.approx(slope_moment("sin", 20.0), rel=1e-10)
    with pytest.raises(TheoryError, match=r"at variance 1e\+06 did not converge"):
        slope_law(bare, 1e6)
