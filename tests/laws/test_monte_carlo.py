"""The laws against real random matrices; every agreement with a disagreement beside it."""

import numpy as np
import pytest

from isometry.distance import kolmogorov_smirnov
from isometry.laws import chain_law

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
