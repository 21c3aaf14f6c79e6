"""Gaussian rules against moments that are known."""

import math

import numpy as np
import pytest

from isometry.meanfield.hermite import ORDER, coefficients
from isometry.meanfield.nested import pair_expectation
from isometry.meanfield.quadrature import gaussian_rule


@pytest.mark.parametrize("scale", [0.0, 1e-6, 0.3, 1.0, 7.0, 1e3, 1e6])
@pytest.mark.parametrize("kinks", [(), (0.0,), (-1.0, 2.5)])
def test_a_rule_integrates_polynomials_exactly(scale, kinks):
    z, w = gaussian_rule(scale, kinks)
    for power in range(0, 13):
        known = 0.0 if power % 2 else float(math.prod(range(1, power, 2)))
        assert w @ z**power == pytest.approx(known, rel=1e-13, abs=1e-13 * math.gamma(power + 1))


@pytest.mark.parametrize("scale", [1e-3, 0.5, 3.0, 1e4])
def test_a_kink_costs_no_digits(scale):
    z, w = gaussian_rule(scale, (-1.0, 2.5))
    above = w @ np.maximum(scale * z - 2.5, 0.0)
    a = 2.5 / scale
    density = math.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    known = scale * density - 2.5 * 0.5 * math.erfc(a / math.sqrt(2))
    assert above == pytest.approx(known, rel=1e-10, abs=1e-15)
    z, w = gaussian_rule(scale)
    unsplit = w @ np.maximum(scale * z - 2.5, 0.0)
    if scale == 3.0:  # what the split is for
        assert abs(unsplit - known) > 1e-7


def test_a_wide_rule_resolves_what_happens_near_the_origin():
    for scale in (10.0, 1e3, 1e5):
        z, w = gaussian_rule(scale)
        slope = w @ (1.0 / np.cosh(np.minimum(np.abs(scale * z), 300.0)) ** 2)
        limit = 2.0 / (scale * math.sqrt(2 * math.pi))
        assert slope == pytest.approx(limit, rel=1.0 / scale**2)


@pytest.mark.parametrize("c", [-1.0, -0.5, 0.0, 0.9, 0.999999, 1.0])
def test_a_double_integral_gives_wicks_theorem(c):
    def mean(f):
        return pair_expectation(f, 0.5, 3.0, c, (0.7,))

    covariance = c * math.sqrt(1.5)
    assert mean(lambda u, v: u * v) == pytest.approx(covariance, abs=1e-14)
    assert mean(lambda u, v: u**2 * v**2) == pytest.approx(1.5 + 2 * covariance**2, rel=1e-13)
    assert mean(lambda u, v: np.ones_like(u * v)) == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("c", [-0.8, 0.3, 0.99, 1.0 - 1e-6])
def test_a_double_integral_gives_the_orthant_probability(c):
    found = pair_expectation(lambda u, v: ((u > 0) & (v > 0)).astype(float), 1.0, 2.0, c, (0.0,))
    assert found == pytest.approx(0.25 + math.asin(c) / (2 * math.pi), abs=1e-13)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus", "elu"])
def test_hermite_coefficients_obey_parseval(name, by_quadrature):
    act, q = by_quadrature(name), 0.5
    z, w = gaussian_rule(math.sqrt(q), act.kinks)
    a = coefficients(act, q)
    assert a.shape == (ORDER,)
    energy = w @ act.function(math.sqrt(q) * z) ** 2
    assert a @ a == pytest.approx(energy, rel=1e-7 if act.kinks else 1e-14)
    assert a[1] == pytest.approx(math.sqrt(q) * (w @ act.derivative(math.sqrt(q) * z)), rel=1e-13)
