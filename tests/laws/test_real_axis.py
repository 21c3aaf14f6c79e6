"""Many points of the real axis: those between others are where each would end by itself."""

import numpy as np
import pytest

from isometry.laws import Diagonal, Gaussian, Isometry, Residual, polar, real_axis
from isometry.laws.transform import Transform
from isometry.meanfield import slope_law

TANH = slope_law("tanh", 0.5)
PRODUCTS = {
    "explicit": [(Gaussian(1, 1), 3), (Isometry.mask(1, 0.9), 2)],
    "a diagonal": [(Diagonal(*TANH), 50), (Gaussian(1, 1), 50)],
    "gaps": [(Diagonal([1, 30.0, 900.0]), 1), (Diagonal([1, 1.2]), 1)],
    "residual": [(Residual(1, 0.5, *TANH), 4)],
}


def transform(name):
    factors = PRODUCTS[name]
    return Transform(factors, [(1.0, sum(power for _, power in factors) - 1)])


@pytest.mark.parametrize("name", PRODUCTS)
def test_points_between_others_end_where_the_circle_leads(name):
    product, rng = transform(name), np.random.default_rng(0)
    at = rng.permutation(np.append(rng.uniform(-8.0, 4.0, 150), [0.5, 0.5]))
    together, alone = real_axis.solve(product, at), polar.solve(product, at)
    assert product.t(together[0]) == pytest.approx(product.t(alone[0]), rel=1e-7, abs=1e-9)
    survival = product.log_determinant(together).imag
    assert survival == pytest.approx(product.log_determinant(alone).imag, abs=1e-9)


def test_most_points_between_others_do_not_go_round(monkeypatch):
    product, followed, solve = transform("a diagonal"), [], polar.solve

    def counted(product, at, *angle):
        followed.append(at.size)
        return solve(product, at, *angle)

    monkeypatch.setattr(polar, "solve", counted)
    real_axis.solve(product, np.linspace(-60.0, 3.0, 401))
    assert sum(followed) < 401 / 4


def test_a_cubic_that_leads_elsewhere_is_not_followed(monkeypatch):
    product, at = transform("a diagonal"), np.linspace(-8.0, 2.0, 60)
    expected = polar.solve(product, at)
    cubics = real_axis._cubics

    def astray(*args):
        guess, usable = cubics(*args)
        return guess + 0.5, usable

    monkeypatch.setattr(real_axis, "_cubics", astray)
    found = real_axis.solve(product, at)
    assert product.t(found[0]) == pytest.approx(product.t(expected[0]), rel=1e-7, abs=1e-9)
