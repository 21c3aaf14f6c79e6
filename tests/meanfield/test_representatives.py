"""A few variances for many layers: what they keep, and that they are few."""

import numpy as np
import pytest

from isometry.meanfield import activation, q_profile, slope_law
from isometry.meanfield.representatives import representatives


def moments(first, second):
    """log E x and E x² / (E x)² of a layer with orthogonal weights."""
    return np.log(first), second / first**2


def log_determinants(act, q, s):
    """Sum over layers of E log(d + s), by each layer's own law."""
    laws = [slope_law(act, float(variance)) for variance in q]
    return np.array([sum(p @ np.log(d + shift) for d, p in laws) for shift in s])


@pytest.mark.parametrize("name", ["tanh", "softsign", "gelu", "sin"])
def test_sums_over_the_layers_are_kept_by_fewer_variances(name):
    act = activation(name)
    q = q_profile(act, 1.0, 1.0, 0.0, 200)
    shared = representatives(act, q, moments)
    assert np.unique(shared).size < 50 < 200 == np.unique(q).size
    s = [1e-3, 0.1, 0.7, 20.0]
    exact = log_determinants(act, q, s)
    assert log_determinants(act, shared, s) == pytest.approx(exact, abs=1e-4)
    settled = log_determinants(act, np.full(200, np.exp(np.log(q).mean())), s)
    assert np.max(np.abs(settled - exact)) > 1e-2


def test_ten_thousand_layers_that_never_settle_need_less_than_a_hundred_variances():
    act = activation("tanh")
    q = q_profile(act, 1.0, 1.0, 0.0, 10_000)
    assert np.unique(q).size == 10_000
    assert np.unique(representatives(act, q, moments)).size < 100


def test_a_layer_keeps_its_place():
    act = activation("tanh")
    q = q_profile(act, 4.0, 1.3, 0.2, 40)
    shuffled = np.random.default_rng(0).permutation(40)
    assert representatives(act, q[shuffled], moments) == pytest.approx(
        representatives(act, q, moments)[shuffled]
    )
    assert np.all(np.abs(np.log(representatives(act, q, moments) / q)) < 0.5)


@pytest.mark.parametrize("q", [[0.3], [0.3, 0.4], [0.0, 1e-300, 2.0], [1e-20, 1.0, 1e20, 1e40]])
def test_few_layers_far_apart_stay_as_they_are(q):
    shared = representatives(activation("celu"), np.array(q), moments)
    assert shared == pytest.approx(np.maximum(q, 1e-32), rel=1e-9)
