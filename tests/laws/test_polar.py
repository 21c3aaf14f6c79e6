"""The solver by itself: its residual, its branch, and that it never returns a failure."""

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws.explicit import ExplicitFactors
from isometry.laws.polar import solve


@pytest.mark.parametrize(("g", "k", "p"), [(1, 0, 1.0), (3, 3, 0.5), (0, 4, 0.9), (5, 2, 0.1)])
@pytest.mark.parametrize("angle", [3.0, 1.5, 0.1, 1e-6])
def test_the_equation_holds_in_its_original_form(g, k, p, angle):
    factors = ExplicitFactors.square(g, k, p)
    xi = np.linspace(-4.0, 3.0, 41)
    t = factors.t(solve(factors, xi, angle))
    z = (1 + t) ** (1 + g - k) * (p + t) ** k / t
    assert np.allclose(z, np.exp(xi + 1j * angle), rtol=1e-11, atol=0)
    assert np.all(t.imag < 0)


def test_far_from_the_support_the_moments_appear():
    factors = ExplicitFactors.square(2, 2, 0.5)
    t = factors.t(solve(factors, np.array([12.0]), 0.5 * np.pi))
    z = 1j * np.exp(12.0)
    assert t[0] == pytest.approx(0.25 / z + 0.25**2 * 5 / z**2, rel=1e-9)


def test_the_log_determinant_differentiates_to_t():
    factors = ExplicitFactors.square(3, 2, 0.6)
    h = 1e-4
    a = solve(factors, 0.3 + np.array([-h, 0.0, h]), 0.7)
    value = factors.log_determinant(a)
    assert (value[2] - value[0]) / (2 * h) == pytest.approx(factors.t(a)[1], rel=1e-7)


def test_the_slope_is_the_derivative():
    factors = ExplicitFactors.square(3, 2, 0.6)
    h = 1e-6
    for a in (0.3 + 0.8j, -2.0 + 2.5j, 15.0 + 0.1j):
        value, slope = factors.log_minus_z(np.array([a - h, a, a + h]))
        assert (value[2] - value[0]) / (2 * h) == pytest.approx(slope[1], rel=1e-7)


class Unsolvable:
    """log(-z) that is affine on the real axis and cannot leave it."""

    def log_minus_z(self, a):
        return -a.real + 0j, np.full(a.shape, -1.0 + 0j)

    def rounding(self, a):
        return np.full(a.shape, 1e-15)


class Broken(Unsolvable):
    def log_minus_z(self, a):
        return np.full(a.shape, np.nan + 0j), np.full(a.shape, np.nan + 0j)


def test_a_point_that_cannot_be_solved_is_an_error_not_a_number():
    with pytest.raises(TheoryError, match=r"could not be solved at 3 of 3 points"):
        solve(Unsolvable(), np.zeros(3))


def test_a_point_that_cannot_be_started_is_an_error_not_a_number():
    with pytest.raises(TheoryError, match=r"could not be started at 3 of 3 points"):
        solve(Broken(), np.zeros(3))
