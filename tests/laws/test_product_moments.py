"""Masses, moments and log-moments of free products, by their own closed forms and by integrals."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from isometry.laws import (
    Diagonal,
    FreeProduct,
    Gaussian,
    Isometry,
    Residual,
)


def nodes_between(low, high, nodes=80):
    """Nodes and weights on which square roots at both ends are smooth."""
    u, w = np.polynomial.legendre.leggauss(nodes)
    angle = 0.25 * np.pi * (1 + u)
    places = low + (high - low) * np.sin(angle) ** 2
    return places, w * 0.25 * np.pi * (high - low) * np.sin(2 * angle)


def integrals(law, low, high, powers, tolerance=1e-8):
    """∫ σ^k density by panels that are halved until they agree: a law may have gaps."""
    u, w = np.polynomial.legendre.leggauss(16)
    powers = np.array(powers)

    def panels(edges):
        middle, half = edges.mean(axis=1), 0.5 * np.diff(edges, axis=1)[:, 0]
        s = middle[:, None] + half[:, None] * u
        value = law.density(s) * w * half[:, None]
        return np.einsum("ij,ijk->ik", value, np.exp(s[..., None] * powers))

    cuts = np.linspace(low, high, 513)  # nodes of a quadrature show as bumps in a low tail
    edges, scale = np.stack([cuts[:-1], cuts[1:]], axis=1), np.exp(powers * high)
    total, coarse = np.zeros(powers.size), panels(edges)
    for _ in range(60):
        middle = edges.mean(axis=1, keepdims=True)
        halves = np.concatenate(
            [np.hstack([edges[:, :1], middle]), np.hstack([middle, edges[:, 1:]])]
        )
        fine = panels(halves)
        both = fine[: len(edges)] + fine[len(edges) :]
        rough = np.any(np.abs(both - coarse) > tolerance * scale, axis=1)
        total += both[~rough].sum(axis=0)
        again = np.concatenate([rough, rough])
        edges, coarse = halves[again], fine[again]
        if not len(edges):
            return total
    raise AssertionError("the integral of the density did not settle")


def trace_and_spread(factor):
    """Tr X and Tr X² / (Tr X)² of one factor."""
    if isinstance(factor, Gaussian):
        return factor.variance * factor.rows, 1 / factor.rows + 1 / factor.columns
    if isinstance(factor, Isometry):
        return factor.scale**2 * factor.rank, 1 / factor.rank
    size, mean = min(factor.rows, factor.columns), factor.values @ factor.weights
    return size * mean, factor.values**2 @ factor.weights / mean**2 / size


def two_moments(factors):
    """E[x] and E[x²] of a product: traces multiply over interfaces, spreads add."""
    trace, spread = 1.0, 0.0
    for factor, power in factors:
        one, beta = trace_and_spread(factor)
        trace *= one**power / factor.rows ** (power - 1)
        spread += power * beta - (power - 1) / factor.rows
    for factor, _ in factors[:-1]:
        trace, spread = trace / factor.rows, spread - 1 / factor.rows
    size = min(min(f.rows, f.columns) for f, _ in factors)
    return trace / size, trace**2 * spread / size


LAYERS = st.lists(
    st.tuples(
        st.sampled_from(["gaussian", "orthogonal"]),
        st.sampled_from([0.5, 1.0, 2.0]),  # the width beside that of the input
        st.sampled_from([0, 1, 2, 5]),  # square layers of that width behind it
    ),
    min_size=2,
    max_size=4,
)


@settings(derandomize=True, deadline=None, max_examples=12)
@given(st.sampled_from(["elu", "erf", "leaky_relu", "silu", "tanh"]), LAYERS, st.floats(0.3, 3.0))
def test_mass_and_moments_for_any_activation_ensemble_depth_and_widths(
    slopes, name, layers, variance
):
    factors, width = [], 1.0
    for ensemble, rows, more in layers:
        for columns, times in ((width, 1), (rows, more)):
            if times:
                scale = math.sqrt(variance)
                gaussian = Gaussian(rows, columns, variance)
                w = gaussian if ensemble == "gaussian" else Isometry(rows, columns, scale=scale)
                factors += [(w, times), (Diagonal(*slopes[name], rows), times)]
        width = rows
    law = FreeProduct(factors)
    m1, m2 = two_moments(factors)
    assert law.moments(2) == pytest.approx([m1, m2], rel=1e-10)

    # what lies 25 below the top has less than 1e-20 of the moments
    low, high = max(law.support[0], law.support[1] - 25.0), law.support[1]
    found = integrals(law, low, high, (0, 2, 4))
    found[0] += float(law.cdf(low))
    for atom in law.atoms:
        if atom.sigma > 0:
            found += atom.mass * atom.sigma ** np.array([0, 2, 4])
    assert found == pytest.approx([1.0, m1, m2], rel=1e-6)


@pytest.mark.parametrize(("g", "k", "p"), [(10, 9, 0.5), (3, 1, 0.5), (2, 5, 0.8), (0, 8, 0.6)])
def test_the_first_four_moments_of_x_are_those_of_the_density(chain, g, k, p):
    law = chain(g, k, p)
    s, w = nodes_between(max(law.support[0], law.support[1] - 30.0), law.support[1], 400)
    moments = [w @ (law.density(s) * np.exp(2 * j * s)) for j in (1, 2, 3, 4)]
    assert law.moments(4) == pytest.approx(moments, rel=1e-9)
    m1, spread = p**k, g + k * (1 / p - 1)
    assert law.moments(2) == pytest.approx([m1, m1**2 * (1 + spread)], rel=1e-12)


def test_moments_of_measured_values_are_those_of_large_random_matrices():
    rng = np.random.default_rng(0)
    sigma = [rng.random(400) + 0.2, rng.random(400)]
    law = FreeProduct([Diagonal.measured(s, 400, 400) for s in sigma])
    x = np.linalg.svd(
        np.diag(sigma[1]) @ np.linalg.qr(rng.standard_normal((400, 400)))[0] @ np.diag(sigma[0]),
        compute_uv=False,
    )
    empirical = [np.mean(x ** (2 * k)) for k in (1, 2, 3, 4)]
    assert law.moments(4) == pytest.approx(empirical, rel=0.02)


@pytest.mark.parametrize(("g", "k"), [(1, 1), (4, 3), (0, 3)])
def test_the_score_is_the_mean_of_sech(chain, g, k):
    law = chain(g, k, 0.5, log_scale=0.4)
    s, w = nodes_between(max(law.support[0], -40.0), law.support[1], 600)
    assert np.sum(w * law.density(s) / np.cosh(2 * s)) == pytest.approx(law.score, abs=1e-9)


def test_log_moments_are_those_of_the_density(chain):
    law = chain(2, 1, 0.5, log_scale=-0.2)
    s = law.grid(8001)
    d = 2 * law.density(s)  # given σ > 0
    mean = trapezoid(d * s, s)
    assert law.mean_log_sigma == pytest.approx(mean, abs=1e-6)
    deviation = np.sqrt(trapezoid(d * (s - mean) ** 2, s))
    assert law.std_log_sigma == pytest.approx(deviation, abs=1e-6)


@pytest.mark.parametrize("make", [Diagonal, functools.partial(Residual, 1, 0.5)])
def test_mean_logs_add_and_the_s_transform_multiplies(slopes, make):
    factor, weights = make(*slopes["tanh"]), Gaussian(1, 1, 1.7)
    one = FreeProduct([factor, weights])
    ten = FreeProduct([(factor, 10), (weights, 10)])
    assert ten.mean_log_sigma == pytest.approx(10 * one.mean_log_sigma, rel=1e-12)
    m = np.array([-0.9, -0.5, -0.01])
    assert ten.s_transform(m) == pytest.approx(one.s_transform(m) ** 10, rel=1e-12)


def test_the_moment_transform_is_that_of_the_density():
    law = FreeProduct([Gaussian(2, 1), Diagonal([1, 3], rows=2)])
    s, w = nodes_between(*law.support, 400)
    x, mass = np.exp(2 * s), w * law.density(s)
    z = np.array([1 + 1j, -2.0, 0.1j, 100.0, 3 - 2j])
    expected = [np.sum(mass * x / (one - x)) for one in z]
    assert law.moment_transform(z) == pytest.approx(expected, rel=1e-9)
    inside = 2.0
    density = -law.moment_transform(inside).imag / np.pi
    assert density == pytest.approx(0.5 * float(law.density(0.5 * np.log(inside))), rel=1e-9)
