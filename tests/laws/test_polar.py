"""The solver by itself: its residual, its branch, and that it never returns a failure."""

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws.factors import Diagonal, Gaussian, Isometry, Residual
from isometry.laws.factors.diagonals import Diagonals
from isometry.laws.linear import Linear
from isometry.laws.polar import REAL_AXIS, solve
from isometry.laws.transform import Transform
from isometry.meanfield import slope_law


def square(*factors):
    """The transform of square factors with powers."""
    return Transform(factors, [(1.0, sum(power for _, power in factors) - 1)])


def explicit(g, k, p):
    return square(*[(Gaussian(1, 1), g)][: g > 0], *[(Isometry.mask(1, p), k)][: k > 0])


TANH = Diagonal(*slope_law("tanh", 0.5))
HIDDEN = {
    "a diagonal": square((TANH, 1), (Gaussian(1, 1), 1)),
    "two diagonals": square((TANH, 3), (Diagonal([1.0, 2.0, 7.0]), 2)),
    "a residual": square((Residual(1, 0.7, *slope_law("tanh", 0.5)), 4)),
    "all kinds": square(
        (TANH, 2), (Isometry.mask(1, 0.9), 1), (Residual(1, 1, [0, 1], kind="orthogonal"), 2)
    ),
}


@pytest.mark.parametrize(("g", "k", "p"), [(1, 0, 1.0), (3, 3, 0.5), (0, 4, 0.9), (5, 2, 0.1)])
@pytest.mark.parametrize("angle", [3.0, 1.5, 0.1, 1e-6])
def test_the_equation_holds_in_its_original_form(g, k, p, angle):
    transform = explicit(g, k, p)
    xi = np.linspace(-4.0, 3.0, 41)
    t = transform.t(solve(transform, xi, angle)[0])
    z = (1 + t) ** (1 + g - k) * (p + t) ** k / t
    assert np.allclose(z, np.exp(xi + 1j * angle), rtol=1e-11, atol=0)
    assert np.all(t.imag < 0)


@pytest.mark.parametrize("angle", [3.0, 1.5, 0.1, 1e-6])
def test_the_equations_of_a_diagonal_hold_in_their_original_form(angle):
    transform, xi = HIDDEN["a diagonal"], np.linspace(-6.0, 2.0, 41)
    a, y = solve(transform, xi, angle)
    t, zeta = transform.t(a), -np.exp(y)  # in units of the largest value
    d = TANH.values / TANH.values.max()
    assert (d / (zeta[:, None] - d)) @ TANH.weights == pytest.approx(t, rel=1e-10)
    # χ (1 + t) for the weight and the interface together
    assert zeta * (1 + t) == pytest.approx(np.exp(xi + 1j * angle), rel=1e-11)
    assert np.all(t.imag < 0)
    assert np.all(zeta.imag >= 0)


@pytest.mark.parametrize("angle", [3.0, 1.5, 0.1, 1e-6])
@pytest.mark.parametrize(("kind", "turns"), [("gaussian", 1), ("orthogonal", 2)])
def test_the_equations_of_a_residual_layer_hold_in_their_original_form(kind, turns, angle):
    d, p = np.array([0.3, 1.0]), np.array([0.4, 0.6])
    transform = square((Residual(1.0, 0.6, d, p, kind, 1.7), 1))
    xi = np.linspace(-2.0, 2.0, 41)
    a, h, y = solve(transform, xi, angle)
    t, c_a, zeta = transform.t(a), -1 / (1 + np.exp(-h)), -np.exp(y)
    green = (1 / (zeta[:, None] - d)) @ p
    g2 = green**turns * zeta ** (turns - 1) / (0.36 * 1.7)
    assert c_a * (1 + c_a) == pytest.approx(g2, rel=1e-9)
    assert c_a + (d / (zeta[:, None] - d)) @ p == pytest.approx(t, rel=1e-9)
    assert (1 + t) ** 2 / g2 == pytest.approx(np.exp(xi + 1j * angle), rel=1e-9)


@pytest.mark.parametrize("name", HIDDEN)
def test_far_from_the_support_the_moments_appear(name):
    transform = HIDDEN[name]
    xi = transform.log_moments(1)[0] + 9.0
    t = transform.t(solve(transform, np.array([xi]), 0.5 * np.pi)[0])
    z = 1j * np.exp(xi)
    series = sum(np.exp(m) / z ** (k + 1) for k, m in enumerate(transform.log_moments(5)))
    assert t[0] == pytest.approx(series, rel=1e-9)


@pytest.mark.parametrize("name", HIDDEN)
def test_the_log_determinant_differentiates_to_t(name):
    transform, h = HIDDEN[name], 1e-4
    state = solve(transform, -0.3 + np.array([-h, 0.0, h]), 0.7)
    value = transform.log_determinant(state)
    assert (value[2] - value[0]) / (2 * h) == pytest.approx(transform.t(state[0])[1], rel=1e-6)


@pytest.mark.parametrize("name", HIDDEN)
def test_points_that_leap_end_where_the_small_steps_end(name, monkeypatch):
    transform, xi = HIDDEN[name], np.linspace(-3.0, 2.0, 101)
    leapt = solve(transform, xi)
    monkeypatch.setattr("isometry.laws.polar._LEAP", 0.0)
    walked = solve(transform, xi)
    assert transform.t(leapt[0]) == pytest.approx(transform.t(walked[0]), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("name", HIDDEN)
def test_the_linearisation_is_a_newton_step(name):
    """One step from beside a solution lands a square closer."""
    transform, angle = HIDDEN[name], 0.6
    state = solve(transform, np.array([0.2]), angle)
    shift = 1e-5 * np.exp(1j * np.arange(len(state)))[:, None]
    linear = transform.linearise(state + shift)
    step = (0.2 + 1j * (angle - np.pi) - linear.value) / linear.slope
    landed = state + shift
    landed[0] += step
    landed[1:] += linear.correction + linear.response * step
    assert np.max(np.abs(landed - state)) < 1e-8
    assert np.max(np.abs(shift)) > 9e-6


def test_no_points_are_no_work():
    assert solve(HIDDEN["a residual"], np.empty(0)).shape == (3, 0)


class Unsolvable:
    """log(-z) that is affine on the real axis and cannot leave it."""

    strips = np.array([[0.0, np.pi]])
    knots = np.linspace(-80.0, 80.0, 9)
    table = knots[None], -knots, np.full(9, -1.0), np.empty((0, 9))

    def log_minus_z(self, a):
        return -a, np.full(a.shape, -1.0)

    def start(self, a):
        return a[None]

    def linearise(self, state):
        a = state[0]
        none, one = np.empty((0, a.size)), np.ones(a.shape)
        return Linear(-a.real + 0j, -one, none, none, one > 0, 1e-15 * one)


class Broken(Unsolvable):
    def linearise(self, state):
        nan = np.full(state[0].shape, np.nan + 0j)
        return super().linearise(state)._replace(value=nan, slope=nan)


def test_a_point_that_cannot_be_solved_is_an_error_not_a_number():
    with pytest.raises(TheoryError, match=r"could not be solved at 3 of 3 points"):
        solve(Unsolvable(), np.zeros(3))


def test_a_point_that_cannot_be_started_is_an_error_not_a_number():
    with pytest.raises(TheoryError, match=r"could not be started at 3 of 3 points"):
        solve(Broken(), np.zeros(3))


def test_a_factor_that_cannot_be_solved_is_an_error_not_a_number(monkeypatch):
    transform = square((TANH, 1), (Gaussian(1, 1), 1))
    for guess in ("start", "surely"):
        monkeypatch.setattr(Diagonals, guess, lambda _, share: np.full((1, share.mu.size), np.nan))
    with pytest.raises(TheoryError, match="could not be solved at 3 of 3 points of the negative"):
        transform.start(np.zeros(3))


def test_the_real_axis_is_closer_than_any_edge_that_matters():
    assert REAL_AXIS < 1e-11
