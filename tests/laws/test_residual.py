"""Residual layers against closed forms, moments and random matrices."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isometry.distance import kolmogorov_smirnov
from isometry.laws import (
    Diagonal,
    FreeProduct,
    Gaussian,
    Isometry,
    Residual,
    ResidualUniversal,
    free_product,
)
from isometry.meanfield import slope_law

MASK = ([0.0, 1.0], [0.5, 0.5])


def relu(c, depth, kind, power=None):
    """Layers I + b D W with half of D zero, σ_w² = 2 and b² = c / depth."""
    layer = Residual(1.0, math.sqrt(c / depth), *MASK, kind, 2.0)
    return FreeProduct([(layer, depth if power is None else power)])


def free_gram_moments(a, b, moments_of_x):
    """E of x and x² for a I + b X with R-diagonal X of given E x, E x²."""
    m1, m2 = moments_of_x
    return a**2 + b**2 * m1, a**4 + 4 * a**2 * b**2 * m1 + b**4 * m2


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("depth", [1, 4, 300])
def test_moments_are_those_of_r_diagonal_branches(kind, depth):
    d, p = np.array([0.2, 1.0, 3.0]), np.array([0.2, 0.5, 0.3])
    a, b, variance = 0.9, 0.4, 1.5
    d1, d2 = d @ p, d**2 @ p
    of_x = variance * d1, variance**2 * (d2 + (d1**2 if kind == "gaussian" else 0.0))
    m1, m2 = free_gram_moments(a, b, of_x)
    law = FreeProduct([(Residual(a, b, d, p, kind, variance), depth)])
    ratio = 1 + depth * (m2 / m1**2 - 1)  # spreads add
    found = law.moments(2)
    assert found[1] / found[0] ** 2 == pytest.approx(ratio, rel=1e-9)
    assert np.log(found[0]) == pytest.approx(depth * math.log(m1), rel=1e-9)


def test_an_orthogonal_branch_alone_has_the_law_of_one_plus_a_rotation():
    """|a + b exp(iθ)|² = a² + b² + 2 a b cos θ, and no neighbour smooths its edges."""
    law = FreeProduct([Residual(1.0, 0.5, [1.0], kind="orthogonal")])
    assert law.support == pytest.approx((math.log(0.5), math.log(1.5)), abs=1e-10)
    theta = np.linspace(0.05, np.pi - 0.05, 40)
    x = 1.25 + np.cos(theta)
    assert law.density(0.5 * np.log(x)) == pytest.approx(2 * x / (np.pi * np.sin(theta)), rel=1e-8)
    assert law.cdf(0.5 * np.log(x)) == pytest.approx(1 - theta / np.pi, abs=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
def test_many_small_branches_have_the_universal_law(kind, c):
    law, universal = relu(c, 10000, kind), ResidualUniversal(c)
    s = universal.grid(40)
    assert np.max(np.abs(law.cdf(s) - universal.cdf(s))) < 1e-4
    assert law.support == pytest.approx(universal.support, rel=2e-3)
    assert law.std_log_sigma == pytest.approx(universal.std_log_sigma, rel=1e-4)
    far = relu(c, 2, kind)
    assert np.max(np.abs(far.cdf(s) - universal.cdf(s))) > 1e-2


@pytest.mark.parametrize("b", [1e-3, 1e-6, 1e-7])
def test_branches_that_are_faint_have_a_semicircle(b):
    """To first order in b, log σ is an eigenvalue of a sum of many small Hermitian matrices."""
    law = FreeProduct([(Residual(1.0, b, *slope_law("softplus", 1.0)), 100)])
    d, p = slope_law("softplus", 1.0)
    radius = b * math.sqrt(2 * 100 * (d @ p))
    assert law.support == pytest.approx((-radius, radius), rel=0.01)
    u = np.linspace(-0.9, 0.9, 7)
    density = 2 / np.pi * np.sqrt(1 - u**2)
    assert radius * law.density(radius * u) == pytest.approx(density, rel=0.02)


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
def test_without_a_skip_a_layer_is_its_weight_and_its_diagonal(kind):
    d, p, b, variance = [0.0, 0.5, 2.0], [0.25, 0.5, 0.25], 0.6, 1.7
    scale = b * math.sqrt(variance)
    weight = Gaussian(1, 1, scale**2) if kind == "gaussian" else Isometry(1, 1, scale=scale)
    law = free_product([(Residual(0.0, b, d, p, kind, variance), 3)])
    same = free_product([(weight, 3), (Diagonal(d, p), 3)])
    assert law.support == pytest.approx(same.support)
    assert law.score == pytest.approx(same.score, rel=1e-12)
    assert np.array(law.atoms) == pytest.approx(np.array(same.atoms))


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
def test_mean_log_sigma_is_that_of_the_skip_where_the_skip_rules(kind):
    """E log |a + b X| = log a while the Brown measure of b X stays inside the circle a."""
    inside = FreeProduct([Residual(1.5, 0.7, *MASK, kind, 2.0)])
    assert inside.mean_log_sigma == pytest.approx(math.log(1.5), abs=1e-12)
    assert inside.support[0] > -np.inf
    outside = FreeProduct([Residual(0.3, 0.7, *MASK, kind, 2.0)])
    assert outside.mean_log_sigma > math.log(0.3) + 0.1
    assert outside.support[0] == -np.inf


def test_a_branch_that_rules_leaves_a_gap_where_it_is_invertible():
    law = FreeProduct([Residual(0.3, 1.0, [0.8, 1.0], [0.8, 0.2], "orthogonal", 2.0)])
    low, high = law.support
    assert law.mean_log_sigma == pytest.approx(0.5 * (math.log(2) + 0.8 * math.log(0.8)), abs=1e-12)
    assert low > math.log(math.sqrt(1.6) - 0.3) - 1e-9
    assert high < math.log(math.sqrt(2.0) + 0.3) + 1e-9
    assert float(law.cdf(low + 1e-3)) < 1e-2


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.5), (1.0, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize("depth", [1, 30])
def test_density_cdf_and_moments_agree_inside_the_edges(kind, a, b, depth):
    values, masses = slope_law("tanh", 0.5)
    law = FreeProduct([(Residual(a, b, values, masses, kind, 1.7), depth)])
    high, low = law.support[1], max(law.support[0], law.support[1] - 12.0)
    u, w = np.polynomial.legendre.leggauss(300)
    angle = 0.25 * np.pi * (1 + u)
    s = low + (high - low) * np.sin(angle) ** 2
    mass = w * 0.25 * np.pi * (high - low) * np.sin(2 * angle) * law.density(s)
    below = float(law.cdf(low))
    assert below + mass.sum() == pytest.approx(1.0, abs=1e-6)
    m1, m2 = law.moments(2)
    for k, moment in ((2, m1), (4, m2)):  # what is missing lies below
        missing = moment - mass @ np.exp(k * s)
        assert -1e-6 * moment <= missing <= below * math.exp(k * low) + 1e-6 * moment
    assert mass @ (1 / np.cosh(2 * s)) == pytest.approx(law.score, abs=1e-6 + below)
    assert np.all(np.diff(law.cdf(np.sort(s))) >= -1e-11)


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
def test_a_dead_majority_leaves_the_skip_alone(kind):
    """ker X and ker X* of dimension p₀ n meet in (2 p₀ - 1) n, where σ = a."""
    law = FreeProduct([Residual(0.9, 1.0, [0.0, 1.0], [0.8, 0.2], kind, 2.0)])
    assert [tuple(atom) for atom in law.atoms] == [(pytest.approx(0.9), pytest.approx(0.6))]
    at = math.log(0.9)
    below, on, above = law.cdf([at - 1e-6, at, at + 1e-6])
    assert on == above == pytest.approx(below + 0.6, abs=1e-9)
    assert law.density([at - 1e-3, at, at + 1e-3]).tolist() == [0, 0, 0]
    two = FreeProduct([(Residual(0.9, 1.0, [0.0, 1.0], [0.8, 0.2], kind, 2.0), 2)])
    assert [atom.mass for atom in two.atoms] == [pytest.approx(0.2)]
    half = FreeProduct([Residual(0.9, 1.0, *MASK, kind, 2.0)])
    assert half.atoms == ()


def test_residual_layers_stand_among_other_factors():
    layer = Residual(1, 0.5, [0.8, 1.0], [0.8, 0.2], "gaussian", 2.0, 300)
    law = FreeProduct([Gaussian(300, 784), (layer, 3), Gaussian(10, 300)])
    assert law.support[0] > -np.inf
    assert np.all(np.diff(law.cdf(np.linspace(*law.support, 50))) > 0)
    m1, _ = law.moments(2)
    assert m1 == pytest.approx((1 + 0.25 * 2 * 0.84) ** 3, rel=1e-10)


# random matrices

N = 500
AGREES = 0.5 / np.sqrt(N)


def layers(kind, c, depth, rng, *, same=False, rotated=False):
    """Singular values of a product of I + b D W, or of I + b W₂ D W₁."""

    def haar():
        q, r = np.linalg.qr(rng.standard_normal((N, N)))
        return q * np.sign(np.diag(r))  # the signs that LAPACK chooses are not random

    def weight():
        return rng.standard_normal((N, N)) / np.sqrt(N) if kind == "gaussian" else haar()

    product, b, first = np.eye(N), math.sqrt(2 * c / depth), rng.permutation(N) < N // 2
    for _ in range(depth):
        kept = first if same else rng.permutation(N) < N // 2
        branch = kept[:, None] * weight()
        if rotated:
            branch = haar() @ branch
        product = product + b * branch @ product
    return np.log(np.linalg.svd(product, compute_uv=False))


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("rotated", [False, True])
def test_random_residual_layers_follow_the_law_and_no_other(kind, rotated):
    depth, weights = 8, np.full(N, 1 / N)
    log_sigma = layers(kind, 1.0, depth, np.random.default_rng(3), rotated=rotated)
    assert kolmogorov_smirnov(log_sigma, weights, relu(1.0, depth, kind)) < AGREES
    assert kolmogorov_smirnov(log_sigma, weights, relu(1.5, depth, kind)) > AGREES
    assert kolmogorov_smirnov(log_sigma, weights, relu(1.0, depth, kind, 6)) > AGREES


def test_layers_that_share_their_mask_do_not_follow_the_law():
    """The caveat of the docstring."""
    log_sigma = layers("gaussian", 1.0, 20, np.random.default_rng(4), same=True)
    law = relu(1.0, 20, "gaussian")
    assert kolmogorov_smirnov(log_sigma, np.full(N, 1 / N), law) > 2 * AGREES
    assert np.mean(log_sigma) == pytest.approx(law.mean_log_sigma, abs=0.02)
    assert 4 * np.var(log_sigma) == pytest.approx(2.13, abs=0.1)
    assert 4 * law.std_log_sigma**2 == pytest.approx(2.32, abs=0.01)


def test_a_residual_product_is_never_atomic():
    assert type(free_product([Residual(1, 1, [1.0])])) is FreeProduct


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
def test_layers_that_are_solved_together_are_those_solved_alone(kind):
    layers = [
        (Residual(1.0, 0.5, *slope_law("tanh", 0.5), kind), 2),
        (Residual(1.2, 0.8, *slope_law("tanh", 3.0), kind, 2.0), 3),
    ]
    alone = [(FreeProduct([layer]), times) for layer, times in layers]
    together = FreeProduct(layers)
    mean = sum(times * law.mean_log_sigma for law, times in alone)
    assert together.mean_log_sigma == pytest.approx(mean, rel=1e-10)
    m = np.array([-0.95, -0.5, -0.01])
    one, two = (law.s_transform(m) ** times for law, times in alone)
    assert together.s_transform(m) == pytest.approx(one * two, rel=1e-10)
    first = np.prod([law.moments(1)[0] ** times for law, times in alone])
    assert together.moments(1)[0] == pytest.approx(first, rel=1e-12)
    low, high = together.support
    inside = np.array([low + 1e-9, high - 1e-9])
    assert together.cdf(inside) == pytest.approx([0.0, 1.0], abs=1e-6)


NARROWING = {
    "pooled": [Isometry(1, 2)],
    "gaussian": [Gaussian(1, 2)],
    "masked": [Isometry(2, 2), Diagonal([0.0, 1.0], [0.5, 0.5], 2)],
}


@given(
    a=st.floats(0.3, 1.5),
    values=st.lists(st.floats(0.02, 5.0), min_size=1, max_size=4),
    kind=st.sampled_from(["gaussian", "orthogonal"]),
    tail=st.sampled_from(sorted(NARROWING)),
)
@settings(max_examples=8)
@example(a=0.5, values=[1.0, 0.1], kind="orthogonal", tail="pooled")
@example(a=1.0, values=[4.0, 1.0, 0.2], kind="orthogonal", tail="masked")
def test_a_layer_that_is_followed_by_fewer_directions_has_all_its_mass_between_edges(
    a, values, kind, tail
):
    """Such a layer may have no gap at σ = 0 of its own where the product has one."""
    law = free_product([Residual(a, 1.0, values, None, kind, 1.0, 2), *NARROWING[tail]])
    low, high = law.support
    low = max(low, high - 12.0)
    u, w = np.polynomial.legendre.leggauss(200)
    angle = 0.25 * np.pi * (1 + u)
    s = low + (high - low) * np.sin(angle) ** 2
    mass = w * 0.25 * np.pi * (high - low) * np.sin(2 * angle) * law.density(s)
    x = np.exp(2 * s)
    alive = 1.0 - sum(atom.mass for atom in law.atoms if atom.sigma == 0)
    assert float(law.cdf(low - 1e-6)) < 1.0 - alive + 1e-3
    assert mass.sum() == pytest.approx(alive, abs=1e-3)
    mean = (a**2 + float(np.mean(values))) * (0.5 if tail == "masked" else 1.0)
    assert mass @ x == pytest.approx(mean, rel=2e-3)
