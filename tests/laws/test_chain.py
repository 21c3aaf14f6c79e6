"""The general chain against closed forms, its own identities and its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from isometry.errors import TheoryError
from isometry.laws import Chain, chain_law

SETTINGS = settings(derandomize=True, deadline=None, max_examples=25)
LAWS = st.builds(
    chain_law,
    st.sampled_from(["gaussian", "orthogonal"]),
    st.integers(1, 60),
    st.integers(0, 60),
    st.floats(0.02, 0.98),
    st.floats(-3.0, 3.0),
)


def mass_between(law, low, high, nodes=80):
    u, w = np.polynomial.legendre.leggauss(nodes)
    return law.density(low + (high - low) * (0.5 + 0.5 * u)) @ w * 0.5 * (high - low)


def test_one_relu_mask_and_one_gaussian_weight_is_marchenko_pastur_at_ratio_one_half():
    law = Chain(1, 1, 0.5)
    a, b = (1 - np.sqrt(0.5)) ** 2, (1 + np.sqrt(0.5)) ** 2
    assert law.support == pytest.approx((0.5 * np.log(a), 0.5 * np.log(b)), abs=1e-14)
    x = np.linspace(a, b, 102)[1:-1]
    density_log_x = 0.5 * np.sqrt((b - x) * (x - a)) / (2 * np.pi * 0.5)
    assert np.allclose(law.density(0.5 * np.log(x)), 2 * density_log_x, rtol=0, atol=1e-10)


def test_two_relu_masks_and_orthogonal_weights_give_the_arcsine_law():
    law = Chain(0, 2, 0.5)
    s = law.grid(200)
    assert law.support[1] == 0.0
    assert np.allclose(law.cdf(s), 0.5 + np.arcsin(np.exp(s)) / np.pi, rtol=0, atol=1e-8)
    inner = s[s < -1e-3]
    expected = np.exp(inner) / np.sqrt(1 - np.exp(2 * inner)) / np.pi
    assert np.allclose(law.density(inner), expected, rtol=1e-8)


def test_two_generic_projections_have_the_known_edge_and_both_atoms():
    law = Chain(0, 2, 0.75, log_scale=0.3)
    assert law.support[1] == pytest.approx(0.5 * np.log(0.75) + 0.3, abs=1e-13)
    zero, top = law.atoms
    assert zero == (0.0, 0.25)
    assert top.sigma == pytest.approx(np.exp(0.3))
    assert top.mass == pytest.approx(0.5)
    assert law.cdf([law.support[1], 0.2999, 0.3, 9.0]).tolist() == [0.5, 0.5, 1.0, 1.0]


def test_a_top_atom_needs_orthogonal_weights_and_few_masks():
    assert len(Chain(1, 2, 0.9).atoms) == 1
    assert len(Chain(0, 10, 0.9).atoms) == 1
    assert len(Chain(0, 9, 0.9).atoms) == 2
    assert Chain(3, 0).atoms == ()


@pytest.mark.parametrize("depth", [2, 3, 10, 100, 10000])
def test_the_edge_of_orthogonal_relu_chains_is_the_closed_form(depth):
    law = chain_law("orthogonal", depth, depth, 0.5, 0.5 * depth * np.log(2))
    log_x = depth * np.log(depth) - (depth - 1) * np.log(depth - 1)
    assert law.support[1] == pytest.approx(0.5 * log_x, abs=1e-10)
    assert law.mean_log_sigma == pytest.approx(0.5 * (2 - depth) * np.log(2), abs=1e-9)


@pytest.mark.parametrize(("g", "k", "p"), [(10, 9, 0.5), (3, 1, 0.5), (2, 5, 0.8), (0, 8, 0.6)])
def test_the_first_two_moments_of_x_are_those_of_the_s_transforms(g, k, p):
    law = Chain(g, k, p)
    top = law.support[1]
    low = max(law.support[0], top - 30.0)
    y, w = np.polynomial.legendre.leggauss(400)
    angle = 0.25 * np.pi * (1 + y)  # s = low + (top - low) sin² smooths the square roots
    s = low + (top - low) * np.sin(angle) ** 2
    w = w * 0.25 * np.pi * (top - low) * np.sin(2 * angle) * law.density(s)
    m1, spread = p**k, g + k * (1 / p - 1)
    assert np.sum(w * np.exp(2 * s)) == pytest.approx(m1, rel=1e-9)
    assert np.sum(w * np.exp(4 * s)) == pytest.approx(m1**2 * (1 + spread), rel=1e-9)


@pytest.mark.parametrize(("g", "p"), [(1, 0.5), (3, 0.5), (2, 0.1)])
def test_mass_on_the_grid_and_the_atoms_add_up_to_one(g, p):
    law = Chain(g, 1, p)
    s = law.grid(4001)
    assert np.isfinite(law.support[0])
    total = trapezoid(law.density(s), s) + sum(atom.mass for atom in law.atoms)
    assert total == pytest.approx(1.0, abs=1e-6)


def test_the_density_keeps_its_digits_far_down_the_tail():
    s = np.array([-10.0, -40.0, -100.0])
    assert np.allclose(Chain(1, 0).density(s), 2 * np.exp(s) / np.pi, rtol=1e-8, atol=0)


@pytest.mark.parametrize(("g", "k"), [(1, 1), (4, 3), (0, 3)])
def test_the_score_is_the_mean_of_sech(g, k):
    law = Chain(g, k, 0.5, log_scale=0.4)
    low, high = max(law.support[0], -40.0), law.support[1]
    y, w = np.polynomial.legendre.leggauss(600)
    angle = 0.25 * np.pi * (1 + y)
    s = low + (high - low) * np.sin(angle) ** 2
    w = w * 0.25 * np.pi * (high - low) * np.sin(2 * angle)
    assert np.sum(w * law.density(s) / np.cosh(2 * s)) == pytest.approx(law.score, abs=1e-9)


def test_log_moments_are_those_of_the_density():
    law = Chain(2, 1, 0.5, log_scale=-0.2)
    s = law.grid(8001)
    d = 2 * law.density(s)  # given σ > 0
    mean = trapezoid(d * s, s)
    assert law.mean_log_sigma == pytest.approx(mean, abs=1e-6)
    deviation = np.sqrt(trapezoid(d * (s - mean) ** 2, s))
    assert law.std_log_sigma == pytest.approx(deviation, abs=1e-6)


@SETTINGS
@given(LAWS)
def test_the_cdf_rises_from_the_dead_fraction_to_one(law):
    s = np.sort(np.concatenate([law.grid(80), law.support[1] + np.array([-1e-9, 0, 1e-9, 5.0])]))
    cdf = law.cdf(s)
    zero = sum(atom.mass for atom in law.atoms if atom.sigma == 0)
    assert float(law.cdf(-np.inf)) == pytest.approx(zero, abs=1e-15)
    assert np.all(np.diff(cdf) >= -1e-11)
    assert cdf[0] >= zero - 1e-12
    assert float(law.cdf(1e6)) == 1.0


@SETTINGS
@given(LAWS)
def test_the_density_is_the_derivative_of_the_cdf(law):
    grid = law.grid(10)
    if grid.size:
        low, high = grid[[4, 8]]
        expected = float(law.cdf(high) - law.cdf(low))
        assert mass_between(law, low, high) == pytest.approx(expected, abs=1e-9)


@SETTINGS
@given(LAWS)
def test_the_score_is_a_fraction_of_the_rank(law):
    zero = sum(atom.mass for atom in law.atoms if atom.sigma == 0)
    assert 0.0 < law.score <= 1.0 - zero + 1e-12


@SETTINGS
@given(LAWS, st.floats(0.01, 0.99))
def test_the_quantile_inverts_the_cdf(law, p):
    s = law.quantile(p)
    mass = [a.mass for a in law.atoms if a.sigma > 0 and abs(np.log(a.sigma) - s) < 1e-9]
    if np.isneginf(s):
        assert p <= float(law.cdf(-np.inf))
    elif mass:
        assert float(law.cdf(s)) - mass[0] - 1e-12 <= p <= float(law.cdf(s)) + 1e-12
    else:
        assert float(law.cdf(s)) == pytest.approx(p, abs=1e-10)


@pytest.mark.parametrize("p", [1e-6, 1e-3, 1 - 1e-4, 1 - 1e-8, 1 - 1e-12])
@pytest.mark.parametrize(("g", "k"), [(0, 2), (0, 10000), (1, 1), (10000, 1), (10000, 10000)])
def test_extreme_chains_are_solved_up_to_their_edges(g, k, p):
    law = Chain(g, k, p)
    low, high = law.support
    s = high - np.concatenate([10.0 ** np.arange(-15, 1.5, 1.0), [1e4, 1e8, 1e12]])
    if np.isfinite(low):
        s = np.concatenate([s, low + 10.0 ** np.arange(-15, -2.0)])
    assert np.all(np.isfinite(law.density(s)) & (law.density(s) >= 0))
    assert np.all(np.diff(law.cdf(np.sort(s))) > -1e-5)  # an arcsine edge amplifies rounding
    assert 0 <= law.score <= 1


def test_values_beyond_the_ends_are_the_limits():
    law = Chain(2, 1)
    low, high = law.support
    ends = np.array([-np.inf, low - 1, low, high, high + 1, np.inf])
    assert np.all(law.density(ends) == 0)
    assert law.cdf(ends).tolist() == [0.5, 0.5, 0.5, 1, 1, 1]
    assert np.isnan(law.density(np.nan))
    assert np.isnan(law.cdf(np.nan))


def test_shapes_are_kept():
    law = Chain(2, 2)
    assert law.density(0.0).shape == law.cdf(0.0).shape == ()
    assert law.density(np.zeros((2, 3))).shape == law.cdf(np.zeros((2, 3))).shape == (2, 3)
    assert law.density([]).shape == (0,)


@pytest.mark.parametrize(("k", "p"), [(0, 0.5), (1, 0.5), (7, 1.0)])
def test_a_purely_atomic_chain_is_refused(k, p):
    with pytest.raises(TheoryError, match="purely atomic law; expected a Gaussian weight or at"):
        Chain(0, k, p)


def test_an_atom_that_float64_cannot_hold_is_refused():
    with pytest.raises(TheoryError, match="point mass at log σ = -1000"):
        Chain(0, 2, 0.9, log_scale=-1000.0)
    assert Chain(0, 2, 0.4, log_scale=-1000.0).support[1] < -1000.0
