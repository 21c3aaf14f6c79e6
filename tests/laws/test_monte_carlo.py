"""The laws against real random matrices; every agreement with a disagreement beside it."""

import itertools

import numpy as np
import pytest

from isometry.distance import kolmogorov_smirnov
from isometry.laws import Diagonal, Gaussian, Isometry, chain_law, free_product
from isometry.meanfield import activation, operating_point, q_profile, slope_law

N = 300
AGREES = 0.5 / np.sqrt(N)


def distance(sigma, law):
    with np.errstate(divide="ignore"):
        log_sigma = np.log(sigma)
    floor = np.log(sigma[0] * N * np.finfo(float).eps)
    return kolmogorov_smirnov(log_sigma, np.full(N, 1 / N), law, floor=floor)


CHAINS = [
    ("gaussian", 1, 0, 0.5),
    ("gaussian", 3, 0, 0.5),
    ("gaussian", 1, 1, 0.5),
    ("gaussian", 3, 2, 0.5),
    ("gaussian", 4, 4, 0.8),
    ("orthogonal", 2, 2, 0.5),
    ("orthogonal", 3, 3, 0.5),
    ("orthogonal", 2, 2, 0.75),
    ("orthogonal", 3, 1, 0.5),
    ("orthogonal", 3, 0, 0.5),
]


@pytest.mark.parametrize(("weights", "depth", "masks", "p"), CHAINS)
def test_a_random_chain_follows_its_law(singular_values, weights, depth, masks, p):
    sigma = singular_values(weights, depth, masks, N, p)
    assert distance(sigma, chain_law(weights, depth, masks, p)) < AGREES


@pytest.mark.parametrize(("weights", "depth", "masks", "p"), CHAINS)
def test_a_random_chain_does_not_follow_the_law_of_another(
    singular_values, weights, depth, masks, p
):
    sigma = singular_values(weights, depth, masks, N, p)
    other = "orthogonal" if weights == "gaussian" else "gaussian"
    assert distance(sigma, chain_law(other, depth, masks, p)) > 2 * AGREES
    assert distance(sigma, chain_law(weights, depth, masks + 1, p)) > AGREES
    assert distance(sigma, chain_law(weights, depth, masks, p, log_scale=0.2)) > AGREES


def test_the_measured_score_is_the_predicted_one(singular_values):
    sigma = singular_values("gaussian", 3, 2, N, 0.5)
    measured = np.mean(2 * sigma**2 / (1 + sigma**4))
    assert measured == pytest.approx(chain_law("gaussian", 3, 2).score, abs=0.02)


# networks of any activation, ensemble and widths


def haar(m, n, rng):
    """The first n columns, or m rows, of a Haar orthogonal matrix."""
    q, r = np.linalg.qr(rng.standard_normal((max(m, n), min(m, n))))
    q = q * np.sign(np.diag(r))
    return q if m >= n else q.T


def network(name, ensemble, widths, sigma_w, sigma_b, q, rng):
    """One real network: its Jacobian, its weights and its slopes."""
    phi = activation(name)
    x = rng.standard_normal(widths[0])
    x *= np.sqrt(max(q - sigma_b**2, 0.0) / sigma_w**2 / np.mean(x**2))
    jacobian, layers = np.eye(widths[0]), []
    for n, m in itertools.pairwise(widths):
        if ensemble == "gaussian":
            w = rng.standard_normal((m, n)) * sigma_w / np.sqrt(n)
        else:
            w = haar(m, n, rng) * sigma_w * np.sqrt(max(1.0, m / n))
        h = w @ x + sigma_b * rng.standard_normal(m)
        x, slopes = phi.function(h), phi.derivative(h)
        jacobian = slopes[:, None] * (w @ jacobian)
        layers.append((w, slopes))
    return jacobian, layers


def predicted(name, ensemble, widths, sigma_w, variances):
    """The law of such networks as their widths grow, given the variances of pre-activations."""
    factors = []
    for n, m, q in zip(widths[:-1], widths[1:], variances, strict=True):
        if ensemble == "gaussian":
            factors.append(Gaussian(m, n, sigma_w**2))
        else:
            factors.append(Isometry(m, n, scale=sigma_w * np.sqrt(max(1.0, m / n))))
        factors.append(Diagonal(*slope_law(name, q), m))
    return free_product(factors)


def ks(jacobians, law, directions):
    """Of some networks together, over the directions that their shape allows."""
    sigma = np.concatenate([np.linalg.svd(j, compute_uv=False)[:directions] for j in jacobians])
    floor = np.log(sigma.max()) - 30.0
    return kolmogorov_smirnov(np.log(sigma), np.full(sigma.size, 1 / sigma.size), law, floor=floor)


NETWORKS = [
    ("tanh", "gaussian", [500, 500, 500], 1.4, 0.3),
    ("tanh", "orthogonal", [500, 500, 500], 1.4, 0.3),
    ("silu", "gaussian", [500, 500, 500], 1.4, 0.3),
    ("elu", "gaussian", [500, 600, 500], 1.2, 0.2),
    ("tanh", "orthogonal", [600, 500, 550], 1.5, 0.2),
    ("gelu", "orthogonal", [500, 600, 500], 1.4, 0.3),
]
OTHERS = {"tanh": "leaky_relu", "silu": "tanh", "elu": "tanh", "gelu": "tanh"}


@pytest.mark.parametrize(("name", "ensemble", "widths", "sigma_w", "sigma_b"), NETWORKS)
def test_networks_follow_their_law_and_no_other(name, ensemble, widths, sigma_w, sigma_b):
    rng, n = np.random.default_rng(2), min(widths)
    q = operating_point(name, sigma_w, sigma_b).q_star
    variances, agrees = [q] * (len(widths) - 1), 0.5 / np.sqrt(n)
    drawn = [network(name, ensemble, widths, sigma_w, sigma_b, q, rng)[0] for _ in range(4)]
    # slopes are a sample, and pre-activations fluctuate: four networks average some of it
    assert ks(drawn, predicted(name, ensemble, widths, sigma_w, variances), n) < agrees
    ensembles = {"gaussian": "orthogonal", "orthogonal": "gaussian"}
    for wrong in ((name, ensembles[ensemble]), (OTHERS[name], ensemble)):
        assert ks(drawn, predicted(*wrong, widths, sigma_w, variances), n) > agrees


def test_each_layer_may_have_its_own_variance():
    widths, n, first, rng = [500] * 6, 500, 4.0, np.random.default_rng(5)
    drawn = [network("tanh", "orthogonal", widths, 1.5, 0.3, first, rng)[0] for _ in range(2)]
    variances = q_profile("tanh", (first - 0.09) / 2.25, 1.5, 0.3, 5)
    assert variances[0] == pytest.approx(first)
    fixed = [operating_point("tanh", 1.5, 0.3).q_star] * 5
    agrees = 0.5 / np.sqrt(n)
    assert ks(drawn, predicted("tanh", "orthogonal", widths, 1.5, variances), n) < agrees
    assert ks(drawn, predicted("tanh", "orthogonal", widths, 1.5, fixed), n) > 4 * agrees


@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("widths", [[200] * 6, [200, 300, 250, 200]])
def test_measured_factors_predict_this_very_network(ensemble, widths):
    """Its own weights and slopes leave only the freeness to chance: KS is about 2 / n."""
    rng, n, found = np.random.default_rng(7), min(widths), []
    for _ in range(3):
        q = operating_point("tanh", 1.4, 0.3).q_star
        jacobian, layers = network("tanh", ensemble, widths, 1.4, 0.3, q, rng)
        factors = []
        for w, slopes in layers:
            sigma = np.linalg.svd(w, compute_uv=False)
            factors += [Diagonal.measured(sigma, *w.shape), Diagonal(slopes**2, rows=len(slopes))]
        law = free_product(factors)
        found.append(n * ks([jacobian], law, n))
        if len(set(widths)) == 1:  # log |det J| is a sum, exactly
            logs = [np.mean(0.5 * np.log(f.values)) for f in factors]
            assert law.mean_log_sigma == pytest.approx(sum(logs), abs=1e-10)
    assert np.mean(found) < 3.5
