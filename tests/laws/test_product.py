"""The free product as a law: its CDF and density, how factors are put together, its cost."""

import functools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from isometry.errors import TheoryError
from isometry.laws import (
    AtomicLaw,
    Diagonal,
    FreeProduct,
    Gaussian,
    Isometry,
    chain_law,
    free_product,
)

SETTINGS = settings(derandomize=True, deadline=None, max_examples=15)
DEPTHS = [1, 2, 3, 10, 100, 1000, 10000]
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


# the cdf, the density, the quantiles


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


@pytest.mark.parametrize(("g", "p"), [(1, 0.5), (3, 0.5), (2, 0.1)])
def test_mass_on_the_grid_and_the_atoms_add_up_to_one(chain, g, p):
    law = chain(g, 1, p)
    s = law.grid(4001)
    assert np.isfinite(law.support[0])
    total = trapezoid(law.density(s), s) + sum(atom.mass for atom in law.atoms)
    assert total == pytest.approx(1.0, abs=1e-6)


def test_the_density_keeps_its_digits_far_down_the_tail(chain, slopes):
    s = np.array([-10.0, -40.0, -100.0])
    assert np.allclose(chain(1, 0).density(s), 2 * np.exp(s) / np.pi, rtol=1e-8, atol=0)
    tanh = FreeProduct([Diagonal(*slopes["tanh"]), Gaussian(1, 1)])
    ratio = tanh.density([-200.0, -210.0])
    assert ratio[0] / ratio[1] == pytest.approx(np.exp(10.0), rel=1e-8)


@pytest.mark.parametrize("p", [1e-6, 1e-3, 1 - 1e-4, 1 - 1e-8, 1 - 1e-12])
@pytest.mark.parametrize(("g", "k"), [(0, 2), (0, 10000), (1, 1), (10000, 1), (10000, 10000)])
def test_extreme_chains_are_solved_up_to_their_edges(chain, g, k, p):
    law = chain(g, k, p)
    low, high = law.support
    s = high - np.concatenate([10.0 ** np.arange(-15, 1.5, 1.0), [1e4, 1e8, 1e12]])
    if np.isfinite(low):
        s = np.concatenate([s, low + 10.0 ** np.arange(-15, -2.0)])
    assert np.all(np.isfinite(law.density(s)) & (law.density(s) >= 0))
    assert np.all(np.diff(law.cdf(np.sort(s))) > -1e-5)  # an arcsine edge amplifies rounding
    assert 0 <= law.score <= 1


@pytest.mark.parametrize("depth", [1, 2, 100, 10000])
@pytest.mark.parametrize("name", ["elu", "erf", "leaky_relu", "silu", "tanh"])
def test_deep_chains_of_activations_are_solved_up_to_their_edges(slopes, name, depth):
    law = FreeProduct([(Diagonal(*slopes[name]), depth), (Gaussian(1, 1), depth)])
    s = law.support[1] - np.concatenate([10.0 ** np.arange(-15, 1.5, 1.0), [1e4, 1e8, 1e12]])
    assert np.all(np.isfinite(law.density(s)) & (law.density(s) >= 0))
    assert np.all(np.diff(law.cdf(np.sort(s))) >= -1e-12)


def test_values_beyond_the_ends_are_the_limits(chain):
    law = chain(2, 1)
    low, high = law.support
    ends = np.array([-np.inf, low - 1, low, high, high + 1, np.inf])
    assert np.all(law.density(ends) == 0)
    assert law.cdf(ends).tolist() == [0.5, 0.5, 0.5, 1, 1, 1]
    assert np.isnan(law.density(np.nan))
    assert np.isnan(law.cdf(np.nan))


def test_shapes_are_kept(chain):
    law = chain(2, 2)
    assert law.density(0.0).shape == law.cdf(0.0).shape == ()
    assert law.density(np.zeros((2, 3))).shape == law.cdf(np.zeros((2, 3))).shape == (2, 3)
    assert law.density([]).shape == (0,)
    assert law.density([-1, 0]).dtype == float
    assert law.s_transform([[-0.1, -0.2]]).shape == law.moment_transform([[1j, 2j]]).shape


# how factors are put together


def test_only_ratios_of_dimensions_count():
    shapes = [(512, 784), (300, 512), (10, 300)]
    one = FreeProduct([Gaussian(*shape) for shape in shapes])
    two = FreeProduct([Gaussian(m / 784, n / 784) for m, n in shapes])
    assert one.support == pytest.approx(two.support, abs=1e-13)
    assert one.score == pytest.approx(two.score, rel=1e-13)


def test_a_power_is_a_factor_repeated_and_order_does_not_matter(slopes):
    d, w = Diagonal(*slopes["elu"]), Gaussian(1, 1)
    s = np.linspace(-3, 1, 20)
    expected = FreeProduct([(d, 3), (w, 3)]).cdf(s)
    again = Diagonal(*slopes["elu"])
    assert FreeProduct([d, w, again, w, d, w]).cdf(s) == pytest.approx(expected, abs=1e-14)
    assert FreeProduct([w, w, w, d, d, again]).cdf(s) == pytest.approx(expected, abs=1e-14)


def test_scales_may_be_astronomical(chain):
    w = Gaussian(1, 1, 1e-300)
    tiny = FreeProduct([(w, 1000)])
    plain = FreeProduct([(Gaussian(1, 1), 1000)])
    shift = -150 * math.log(10) * 1000
    assert tiny.mean_log_sigma == pytest.approx(plain.mean_log_sigma + shift, rel=1e-13)
    s = plain.grid(20)
    assert tiny.cdf(s + shift) == pytest.approx(plain.cdf(s), abs=1e-7)
    assert tiny.score == 0.0
    assert tiny.moments(2).tolist() == [0.0, 0.0]
    shifted = chain(2, 1, log_scale=3.0)
    assert shifted.support == pytest.approx(np.add(chain(2, 1).support, 3.0))


def test_widening_and_narrowing_orthogonal_weights_leave_what_the_shape_leaves():
    narrow = free_product([Isometry(300, 784), Isometry(100, 300), Isometry(800, 100)])
    assert type(narrow) is AtomicLaw
    assert narrow.atoms == ((1.0, 1.0),)
    # 300 directions in 400 and 300 others: 200 of them are common
    law = free_product([Isometry(400, 300), Isometry(300, 400)])
    assert [tuple(atom) for atom in law.atoms] == [(1.0, pytest.approx(2 / 3))]


def test_a_product_that_nothing_smooths_is_atomic(chain):
    law = free_product([(Isometry(2, 2, scale=3.0), 5), Diagonal([0, 1, 4], [0.5, 0.25, 0.25], 2)])
    assert type(law) is AtomicLaw
    found = [(pytest.approx(s), pytest.approx(m)) for s, m in law.atoms]
    assert found == [(0, 0.5), (3**5, 0.25), (2 * 3**5, 0.25)]
    with pytest.raises(TheoryError, match=r"purely atomic: nothing smooths it; use free_product"):
        FreeProduct([Isometry(1, 1), Diagonal([0, 1, 4])])
    with pytest.raises(TheoryError, match="PushforwardLaw"):
        chain(0, 1)


D, W = Diagonal([1.0, 2.0]), Gaussian(1, 1)


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ([], "there is no factor; expected at least one"),
        ([W, "relu"], "a factor is 'relu'; expected a Factor"),
        ([(W, 0)], "the power of .* is 0; expected a whole number of at least 1"),
        ([(W, 1.5)], "the power of .* is 1.5; expected a whole number"),
        ([(W, True)], "the power of .* is True; expected a whole number"),
        ([(Gaussian(2, 1), 2)], r"is 2 × 1 and has the power 2; expected a square factor"),
        (
            [Gaussian(512, 784), Gaussian(10, 300)],
            r"factor 2, .*, takes 300 inputs, and the one before it gives 512 outputs",
        ),
        ([Diagonal([1.0, 2.0], rows=3), W], r"takes 1 inputs, and the one before it gives 3"),
    ],
)
def test_factors_that_do_not_fit_are_told_why(factors, words):
    for make in (FreeProduct, free_product):
        with pytest.raises(TheoryError, match=words):
            make(factors)


def test_bad_requests_are_refused():
    law = FreeProduct([D, D])
    with pytest.raises(TheoryError, match="the number of moments is 0"):
        law.moments(0)
    with pytest.raises(TheoryError, match="expected -1 < m < 0"):
        law.s_transform(0.0)
    with pytest.raises(TheoryError, match=r"moment transform was asked for at z = 0.*expected z"):
        law.moment_transform(0)
    with pytest.raises(TheoryError, match="log_scale is nan"):
        FreeProduct([D, W], log_scale=np.nan)


def test_a_point_mass_is_no_place_for_the_moment_transform():
    law = FreeProduct([(Isometry.mask(1, 0.9), 2)], log_scale=0.5 * math.log(3.0))
    with pytest.raises(TheoryError, match=r"z = 3\+0j is on a point mass"):
        law.moment_transform(3.0)
    assert np.isfinite(law.moment_transform([3.001, 3 + 1e-6j])).all()


def test_an_atom_beyond_float64_keeps_its_logarithm(chain):
    law, near = chain(0, 2, 0.9, log_scale=-1000.0), chain(0, 2, 0.9)
    ((place, mass),) = law.log_atoms
    assert (place, mass) == (pytest.approx(-1000.0), pytest.approx(near.log_atoms[0][1]))
    s = near.grid(5)
    assert law.cdf(s - 1000.0) == pytest.approx(near.cdf(s), rel=1e-9)
    assert law.quantile(0.999) == pytest.approx(near.quantile(0.999) - 1000.0)
    assert law.mean_log_sigma == pytest.approx(near.mean_log_sigma - 1000.0)


# cost


@functools.cache
def seconds(make, points):
    """The shortest of three runs, from the factors on."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        law = make()
        law.cdf(np.linspace(law.support[1] - 5.0, law.support[1], points))
        found.append(time.perf_counter() - start)
    return min(found)


def test_the_cost_does_not_grow_with_the_depth(slopes):
    d = Diagonal(*slopes["tanh"])

    def once():
        return FreeProduct([d, Gaussian(1, 1)])

    def often():
        return FreeProduct([(d, 10000), (Gaussian(1, 1), 10000)])

    assert seconds(often, 200) < 3 * seconds(once, 200) + 0.05
