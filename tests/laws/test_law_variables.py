"""What every law says in other variables, and its moments and S-transform."""

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws import AtomicLaw, FussCatalan, Law
from isometry.laws.marchenko_pastur import MarchenkoPastur

FUSS_CATALAN = {1: [1, 2, 5, 14], 2: [1, 3, 12, 55], 3: [1, 4, 22, 140], 10: [1, 11, 176, 3311]}


@pytest.mark.parametrize("depth", FUSS_CATALAN)
def test_the_moments_of_a_gaussian_chain_are_the_fuss_catalan_numbers(depth):
    assert FussCatalan(depth).moments(4) == pytest.approx(FUSS_CATALAN[depth], rel=1e-9)


def test_densities_of_three_variables_describe_one_measure():
    law = MarchenkoPastur(0.5)
    sigma = np.array([0.5, 1.0, 1.5])
    per_log = law.density_of("log_sigma", np.log(sigma))
    assert law.density_of("sigma", sigma) == pytest.approx(per_log / sigma)
    assert law.density_of("x", sigma**2) == pytest.approx(per_log / (2 * sigma**2))
    for variable, at in (("sigma", sigma), ("x", sigma**2), ("log_sigma", np.log(sigma))):
        assert law.cdf_of(variable, at) == pytest.approx(law.cdf(np.log(sigma)))


def test_nothing_lies_below_zero_and_zeros_lie_at_zero():
    law = AtomicLaw.two_point(0.25, 0.0)
    assert law.cdf_of("sigma", [-1, 0, 1]).tolist() == [0.0, 0.75, 1.0]
    assert law.density_of("x", [-1, 0]).tolist() == [0.0, 0.0]


def test_integers_give_floats():
    law = FussCatalan(2)
    assert law.density_of("x", [1, 2]).dtype == law.cdf_of("sigma", 1).dtype == np.float64
    assert law.density_of("x", [1, 2]) == pytest.approx(law.density_of("x", [1.0, 2.0]))


@pytest.mark.parametrize("depth", [1, 5, 100])
def test_the_s_transform_of_a_gaussian_chain(depth):
    m = np.array([-0.9, -0.5, -1e-3])
    assert FussCatalan(depth, 0.25).s_transform(m) == pytest.approx(
        np.exp(-0.5) / (1 + m) ** depth, rel=1e-8
    )


def test_the_s_transform_of_a_projection():
    m = np.array([-0.2, -0.1])
    expected = (1 + m) / (0.25 + m)
    assert AtomicLaw.two_point(0.25, 0.0).s_transform(m) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("m", [0.0, -0.25, -1.0, 0.1, [-0.1, np.nan]])
def test_the_s_transform_has_a_domain(m):
    with pytest.raises(TheoryError, match=r"expected -0\.25 < m < 0"):
        AtomicLaw.two_point(0.25, 0.0).s_transform(m)


@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_moments_are_counted_from_one(k):
    with pytest.raises(TheoryError, match="whole number"):
        FussCatalan(1).moments(k)


def test_a_variable_has_one_of_three_names():
    with pytest.raises(TheoryError, match="log_sigma, sigma, x"):
        FussCatalan(1).density_of("lambda", 1.0)


@pytest.mark.parametrize("depth", [1, 5, 100])
def test_laws_without_closed_form_get_both_by_quadrature(depth):
    law, m = FussCatalan(depth), np.array([-0.9, -0.5, -1e-3])
    assert Law.s_transform(law, m) == pytest.approx(law.s_transform(m), rel=1e-7)
    assert Law.moments(law, 3) == pytest.approx(law.moments(3), rel=1e-8)
