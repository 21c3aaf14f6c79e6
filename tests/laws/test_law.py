"""What the base class gives to every law: quantiles, samples, grids."""

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws import FreeProduct, FussCatalan, Gaussian, chain_law

TWO_MASKS = chain_law("orthogonal", 1, 2, 0.75)
LAWS = [
    FussCatalan(1),
    FussCatalan(10000),
    chain_law("gaussian", 3, 1),
    chain_law("gaussian", 5, 5),
    TWO_MASKS,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_grid_increases_inside_the_support_and_crowds_the_upper_edge(law):
    grid = law.grid(200)
    low, high = law.support
    assert grid.shape == (200,)
    assert np.all(np.diff(grid) > 0)
    assert grid[0] > low
    assert grid[-1] < high
    assert high - grid[-1] < 1e-4 * (high - grid[0])
    assert np.all(np.isfinite(law.density(grid)))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_grid_covers_the_continuous_part(law):
    grid = law.grid(200)
    continuous = 1 - sum(atom.mass for atom in law.atoms)
    covered = float(law.cdf(grid[-1]) - law.cdf(grid[0]))
    assert 0.99 * continuous < covered <= continuous


def test_a_lower_edge_is_crowded_too():
    law = chain_law("gaussian", 3, 1)
    grid = law.grid(200)
    assert grid[0] - law.support[0] < 1e-4 * (grid[-1] - grid[0])


def test_quantiles_pass_through_the_dead_mass_and_the_top_atom():
    law = TWO_MASKS
    assert law.quantile([0.0, 0.25, 0.51, 1.0]).tolist() == [-np.inf, -np.inf, 0.0, 0.0]
    assert float(law.cdf(law.quantile(0.4))) == pytest.approx(0.4, abs=1e-12)
    assert law.quantile([[0.3, 0.4]]).shape == (1, 2)


def test_quantiles_of_the_deep_law_are_those_of_a_uniform_variable():
    law = FussCatalan(10000)
    assert law.quantile(0.5) == pytest.approx(5000 * np.log(0.5), rel=1e-3)


def test_samples_follow_the_law_and_repeat_with_the_seed():
    law = chain_law("gaussian", 2, 2)
    draws = law.sample(1000, np.random.default_rng(3))
    assert np.array_equal(draws, law.sample(1000, np.random.default_rng(3)))
    assert np.mean(np.isneginf(draws)) == pytest.approx(0.5, abs=0.05)
    alive = np.sort(draws[np.isfinite(draws)])
    middle = (np.arange(alive.size) + 0.5) / alive.size
    assert np.max(np.abs(2 * law.cdf(alive) - 1 - middle)) < 1.63 / np.sqrt(alive.size)


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_a_probability_outside_its_range_is_refused(p):
    with pytest.raises(TheoryError, match=r"a probability is .*expected numbers in \[0, 1\]"):
        FussCatalan(1).quantile(p)


def test_a_quantile_too_close_to_the_dead_mass_is_refused():
    with pytest.raises(TheoryError, match="too close to the mass at σ = 0 to be resolved"):
        chain_law("orthogonal", 1, 1000).quantile(0.5 + 1e-16)


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_a_grid_without_points_is_refused(n):
    for law in (FussCatalan(1), chain_law("orthogonal", 3, 1)):
        with pytest.raises(
            TheoryError, match=r"number of grid points .* whole number of at least 1"
        ):
            law.grid(n)


def test_the_quantile_of_a_product_is_that_of_its_closed_form():
    p = np.array([1e-6, 1e-3, 0.5, 1 - 1e-6, 1.0])
    product = FreeProduct([(Gaussian(1, 1), 30)])
    assert product.quantile(p) == pytest.approx(FussCatalan(30).quantile(p), abs=1e-4)
