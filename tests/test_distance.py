"""The distance between a spectrum and a law, atoms included."""

import numpy as np
import pytest

from isometry.distance import kolmogorov_smirnov
from isometry.errors import InputError
from isometry.laws import AtomicLaw, FussCatalan, chain_law


def uniform(n, mass=1.0):
    return np.full(n, mass / n)


def naive(log_sigma, weights, law, zero_mass, floor):
    """The supremum by looking everywhere, for laws without an atom at σ > 0."""
    s = np.concatenate([np.linspace(-30, 5, 20001), log_sigma, log_sigma - 1e-12])
    s = s[s >= floor]
    empirical = zero_mass + (log_sigma[None, :] <= s[:, None]) @ weights
    return np.max(np.abs(empirical - law.cdf(s)))


@pytest.mark.parametrize("floor", [-np.inf, -1.0])
@pytest.mark.parametrize("zero", [0.0, 0.3, 0.5])
def test_it_is_the_supremum_that_a_search_everywhere_finds(zero, floor):
    law, rng = chain_law("gaussian", 2, 2), np.random.default_rng(0)
    s, w = rng.normal(-0.5, 1.0, 40), rng.random(40)
    w *= (1 - zero) / w.sum()
    found = kolmogorov_smirnov(s, w, law, zero, floor=floor)
    assert found == pytest.approx(naive(s, w, law, zero, floor), abs=2e-4)


def test_quantile_midpoints_are_half_a_step_away():
    law = FussCatalan(3)
    s = law.quantile((np.arange(50) + 0.5) / 50)
    assert kolmogorov_smirnov(s, uniform(50), law) == pytest.approx(0.01, abs=1e-10)


def test_values_that_differ_from_an_atom_by_rounding_are_on_it():
    noise = 1e-12 * np.random.default_rng(1).standard_normal(100)
    for scale in (0.0, 0.4, -200.0):
        law = AtomicLaw.dirac(scale)
        assert kolmogorov_smirnov(scale + noise, uniform(100), law) < 1e-12


def test_values_beside_an_atom_are_not_on_it():
    assert kolmogorov_smirnov(np.full(4, 1e-6), uniform(4), AtomicLaw.dirac(0.0)) == 1.0
    assert kolmogorov_smirnov(np.full(4, -1e-6), uniform(4), AtomicLaw.dirac(0.0)) == 1.0


def test_both_atoms_of_the_two_point_law_count():
    law = chain_law("orthogonal", 3, 1, 0.25)
    assert kolmogorov_smirnov(np.zeros(5), uniform(5, 0.25), law, 0.75) == 0.0
    assert kolmogorov_smirnov(np.zeros(5), uniform(5, 0.35), law, 0.65) == pytest.approx(0.1)


def test_an_atom_above_a_continuous_part_is_matched():
    law = chain_law("orthogonal", 1, 2, 0.75, log_scale=0.3)
    inner = law.quantile(0.25 + 0.25 * (np.arange(100) + 0.5) / 100)
    s = np.concatenate([inner, np.full(10, 0.3 * (1 + 1e-13))])
    w = np.concatenate([uniform(100, 0.25), uniform(10, 0.5)])
    assert kolmogorov_smirnov(s, w, law, 0.25) == pytest.approx(0.00125, abs=1e-9)
    missed = kolmogorov_smirnov(np.where(s > 0.2, 0.2, s), w, law, 0.25)
    assert missed == pytest.approx(0.5, abs=1e-9)


def test_zeros_count_whether_given_as_a_mass_or_as_points():
    law, s = chain_law("gaussian", 2, 1), np.linspace(-2, 0.5, 30)
    as_mass = kolmogorov_smirnov(s, uniform(30, 0.4), law, 0.6)
    points = np.concatenate([np.full(6, -np.inf), s])
    weights = np.concatenate([uniform(6, 0.6), uniform(30, 0.4)])
    assert as_mass == pytest.approx(kolmogorov_smirnov(points, weights, law), abs=1e-15)
    assert as_mass >= 0.1


def test_below_the_floor_only_the_total_mass_is_compared():
    law = FussCatalan(20)
    s = law.quantile((np.arange(200) + 0.5) / 200)
    garbled = np.where(s < -15.0, -40.0, s)
    assert kolmogorov_smirnov(garbled, uniform(200), law) > 0.2
    assert kolmogorov_smirnov(garbled, uniform(200), law, floor=-15.0) <= 0.0025 + 1e-9
    assert kolmogorov_smirnov(s + 9.0, uniform(200), law, floor=-15.0) > 0.2


def test_a_floor_above_everything_leaves_no_difference():
    assert kolmogorov_smirnov([0.0], [1.0], FussCatalan(1), floor=50.0) == 0.0


def test_order_does_not_matter():
    law, rng = FussCatalan(2), np.random.default_rng(5)
    s, w = rng.normal(-1, 1, 60), rng.dirichlet(np.ones(60))
    order = rng.permutation(60)
    assert kolmogorov_smirnov(s, w, law) == kolmogorov_smirnov(s[order], w[order], law)


@pytest.mark.parametrize(
    ("log_sigma", "weights", "options", "words"),
    [
        ([0.0, 1.0], [1.0], {}, r"log_sigma has shape \(2,\) and weights \(1,\)"),
        ([[0.0]], [[1.0]], {}, r"expected the same \(n,\) twice"),
        ([np.nan], [1.0], {}, "log_sigma holds NaN or \\+inf"),
        ([np.inf], [1.0], {}, "log_sigma holds NaN or \\+inf"),
        ([0.0], [0.5], {}, "add up to 0.5; expected masses >= 0 adding up to 1"),
        ([0.0, 1.0], [1.5, -0.5], {}, "expected masses >= 0"),
        ([0.0], [1.0], {"zero_mass": 0.5}, "add up to 1.5"),
        ([0.0], [2.0], {"zero_mass": -1.0}, "expected masses >= 0"),
        ([0.0], [np.nan], {}, "add up to nan"),
        ([0.0], [1.0], {"floor": np.nan}, "floor is nan; expected a real number or -inf"),
    ],
)
def test_bad_measurements_are_refused(log_sigma, weights, options, words):
    with pytest.raises(InputError, match=words):
        kolmogorov_smirnov(log_sigma, weights, FussCatalan(1), **options)
