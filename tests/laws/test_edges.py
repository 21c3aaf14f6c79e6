"""Edges, gaps and point masses of products that nothing Gaussian smooths."""

import math

import numpy as np
import pytest

from isometry.laws import Diagonal, FreeProduct, Gaussian, Isometry, Residual
from isometry.laws.edges import gap_end
from isometry.meanfield import slope_law


def leaky(p, slope=0.1):
    return Diagonal([1.0, slope**2], [p, 1 - p])


@pytest.mark.parametrize("p", [1 - 1e-12, 1 - 1e-6, 0.9, 0.6, 0.5 + 1e-5, 0.5, 0.5 - 1e-5, 0.1])
def test_two_masks_have_their_closed_form_edge(p):
    law = FreeProduct([(Isometry.mask(1, p), 2)])
    assert law.support[1] == pytest.approx(0.5 * math.log(4 * p * (1 - p)), abs=1e-12)


@pytest.mark.parametrize("ratio", [0.9, 0.5, 0.01])
def test_a_rectangular_gaussian_matrix_has_both_edges(ratio):
    low, high = FreeProduct([Gaussian(ratio, 1.0)]).support
    expected = [math.log(1 - math.sqrt(ratio)), math.log(1 + math.sqrt(ratio))]
    assert [low, high] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["tanh", "silu", "elu", "leaky_relu"])
@pytest.mark.parametrize("depth", [3, 10, 1000])
def test_the_density_ends_at_the_edges(name, depth):
    values, masses = slope_law(name, 0.5)
    law = FreeProduct([(Diagonal(values, masses), depth), (Isometry(1, 1), depth)])
    near, nearer = law.density(law.support[1] - np.array([4e-6, 1e-6]))
    assert near / nearer == pytest.approx(2.0, rel=0.01)  # it falls as a square root
    assert law.density(law.support[1] + np.array([1e-12, 1e-9, 1.0])).tolist() == [0, 0, 0]


def test_a_lower_edge_is_where_the_density_ends():
    law = FreeProduct([Diagonal([1.0, 2.0, 5.0]), Gaussian(2, 1), Diagonal([0.5, 2.0], rows=2)])
    low = law.support[0]
    near, nearer = law.density(low + np.array([4e-6, 1e-6]))
    assert near / nearer == pytest.approx(2.0, rel=0.01)
    assert law.density(low - np.array([1e-12, 1e-9, 1.0])).tolist() == [0, 0, 0]
    assert law.cdf(low - np.array([1e-12, 1.0])).tolist() == [0, 0]


def test_inverting_every_factor_exchanges_the_edges():
    """(A B)⁻¹ = B⁻¹ A⁻¹, and singular values do not mind the order."""
    d, e = np.array([0.3, 1.0, 2.0]), np.array([0.5, 0.6, 4.0])
    law = FreeProduct([Diagonal(d), (Diagonal(e), 2)])
    inverse = FreeProduct([Diagonal(1 / d), (Diagonal(1 / e), 2)])
    assert law.support == pytest.approx([-s for s in inverse.support[::-1]], abs=1e-11)
    s = np.linspace(*law.support, 9)[1:-1]
    assert law.density(s) == pytest.approx(inverse.density(-s), rel=1e-7, abs=1e-9)
    assert law.cdf(s) == pytest.approx(1 - inverse.cdf(-s), abs=1e-10)
    assert law.score == pytest.approx(inverse.score, rel=1e-12)


# point masses


@pytest.mark.parametrize(("p", "depth", "mass"), [(0.7, 2, 0.4), (0.7, 3, 0.1), (0.9, 5, 0.5)])
def test_a_majority_keeps_its_value_to_some_depth(p, depth, mass):
    top = FreeProduct([(leaky(p), depth)])
    assert [tuple(a) for a in top.atoms] == [(1.0, pytest.approx(mass))]
    assert top.support[1] < 0.0
    bottom = FreeProduct([(leaky(1 - p), depth)])
    at = pytest.approx(0.1**depth)
    assert [tuple(a) for a in bottom.atoms] == [(at, pytest.approx(mass))]
    assert bottom.support[0] > depth * math.log(0.1)
    # the two are inverses but for the scale
    shift = depth * math.log(0.1)
    assert bottom.support == pytest.approx([shift - s for s in top.support[::-1]], abs=1e-10)
    assert FreeProduct([(leaky(p), depth + 2 + 3 * (p > 0.8))]).atoms == ()


def test_every_value_that_outweighs_the_mask_stays():
    law = FreeProduct([Diagonal([4.0, 1.0, 0.25], [0.5, 0.3, 0.2]), Isometry.mask(1, 0.85, 2.0)])
    found = [(a.sigma, a.mass) for a in law.atoms]
    expected = [(0, 0.15), (1, 0.05), (2, 0.15), (4, 0.35)]
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-12)
    total = sum(a.mass for a in law.atoms)
    low, high = law.support
    assert math.log(1) < low < high < math.log(4)
    assert float(law.cdf(high)) - float(law.cdf(low)) == pytest.approx(1 - total + 0.15, abs=1e-9)


def test_the_cdf_steps_at_an_inner_atom_and_is_flat_beside_it():
    law = FreeProduct([(Diagonal([4.0, 1.0, 0.2], [0.1, 0.8, 0.1]), 2)])
    assert [tuple(a) for a in law.atoms] == [(1.0, pytest.approx(0.6))]
    assert law.support[0] < 0 < law.support[1]
    places = np.array([-1e-3, -1e-6, -1e-9, 0.0, 1e-9, 1e-6, 1e-3])
    cdf = law.cdf(places)
    assert np.ptp(cdf[:3]) == np.ptp(cdf[3:]) == 0.0
    assert cdf[3] - cdf[2] == pytest.approx(0.6, abs=1e-9)
    assert np.all(law.density(places) == 0)
    assert float(law.quantile(0.5)) == 0.0


def test_a_gap_around_an_atom_ends_where_the_density_begins():
    law = FreeProduct(
        [Diagonal([1, 0.5, 0.2], [0.7, 0.2, 0.1]), Diagonal([2, 0.3, 0.1], [0.1, 0.8, 0.1])]
    )
    (point,) = law._points
    shift = law._transform.log_scale
    for side in (1, -1):
        end = 0.5 * (gap_end(law._transform, side, point.places) + shift)
        beside = law.density(end + side * np.array([-1e-6, 1e-6, 4e-6]))
        assert beside[0] < 1e-5
        assert beside[2] / beside[1] == pytest.approx(2.0, rel=0.02)


def test_rectangular_isometries_share_directions():
    law = FreeProduct([Isometry(400, 300), Isometry.mask(400, 0.9), Isometry(350, 400)])
    # 300 + 360 + 350 - 400 - 400 of the 300 directions
    assert [tuple(a) for a in law.atoms] == [(1.0, pytest.approx(210 / 300))]
    rng = np.random.default_rng(0)

    def orthogonal(m, n):
        q = np.linalg.qr(rng.standard_normal((max(m, n), min(m, n))))[0]
        return q if m >= n else q.T

    product = orthogonal(350, 400)[:, :360] @ orthogonal(400, 300)[:360]
    sigma = np.linalg.svd(product, compute_uv=False)
    assert np.mean(sigma > 1 - 1e-9) == pytest.approx(0.7, abs=1e-9)
    assert sigma[sigma < 1 - 1e-9].max() < math.exp(law.support[1]) + 0.01


def test_gaussian_weights_leave_no_atom_and_masks_leave_the_zeros():
    law = FreeProduct([(leaky(0.9), 2), Gaussian(1, 1)])
    assert law.atoms == ()
    dead = FreeProduct([Gaussian(1, 1), Isometry.mask(1, 0.4), Isometry.mask(1, 0.7)])
    assert [tuple(a) for a in dead.atoms] == [(0.0, pytest.approx(0.6))]


# where no equation gives the edge


def test_an_edge_that_no_equation_gives_is_where_the_mass_ends(monkeypatch):
    factors = [(Residual(1.0, 0.5, [0.2, 1.0, 3.0]), 3)]
    expected = FreeProduct(factors).support
    monkeypatch.setattr("isometry.laws.support.gap_end", lambda *_: math.nan)
    assert FreeProduct(factors).support == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["softplus", "sigmoid", "tanh", "elu"])
@pytest.mark.parametrize("q", [1e-3, 10.0])
@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
def test_edges_of_residual_layers_leave_no_mass_outside(name, q, kind):
    values, masses = slope_law(name, q)
    law = FreeProduct([Residual(1.0, 1.0, values, masses, kind, 1 / (values @ masses))])
    assert 1 - float(law.cdf(law.support[1] - 1e-9)) < 1e-6
    assert float(law.cdf(law.support[1] - 0.1)) < 0.99


def test_the_lower_edge_of_a_sum_is_told_apart_from_none():
    gap = FreeProduct([Residual(1.0, 0.999, [1.0], kind="gaussian")])
    none = FreeProduct([Residual(1.0, 1.001, [1.0], kind="gaussian")])
    assert -12 < gap.support[0] < -6
    assert none.support[0] == -math.inf
    critical = FreeProduct([Residual(1.0, 1.0, [1.0], kind="gaussian")])
    assert critical.support[0] == -math.inf
    assert np.all(np.diff(critical.cdf(np.linspace(-40, 1, 50))) >= -1e-11)
