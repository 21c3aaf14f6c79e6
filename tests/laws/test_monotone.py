"""The inverse of an increasing function."""

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws.monotone import invert


def test_it_inverts_smooth_functions_to_rounding():
    target = np.linspace(-5, 5, 11)
    low, high = np.full(11, -100.0), np.full(11, 100.0)
    root = invert(lambda x: (np.sinh(x), np.cosh(x)), target, low, high, tolerance=1e-14)
    assert np.allclose(root, np.arcsinh(target), rtol=0, atol=1e-14)


@pytest.mark.parametrize("slope", [1e-9, 1e9])
def test_a_slope_that_misleads_costs_only_bisections(slope):
    root = invert(
        lambda x: (x**3, np.full(x.shape, slope)),
        np.array([0.125]), np.array([-1e3]), np.array([1e3]), tolerance=0.0,
    )  # fmt: skip
    assert root[0] == pytest.approx(0.5, abs=1e-14)


def test_a_jump_is_found():
    def step(x):
        return np.where(x < 0.3, -1.0, 1.0), np.zeros(x.shape)

    root = invert(step, np.zeros(1), np.array([0.0]), np.array([1.0]), tolerance=0.0)
    assert root[0] == pytest.approx(0.3, abs=1e-15)


def test_a_search_that_does_not_settle_is_an_error():
    with pytest.raises(TheoryError, match="did not settle at 1 of 1 points"):
        invert(
            lambda x: (np.full(x.shape, np.nan), x),
            np.zeros(1), np.array([-1.0]), np.array([1.0]), tolerance=0.0,
        )  # fmt: skip
