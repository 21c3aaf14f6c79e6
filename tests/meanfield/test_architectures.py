"""Residual branches, normalisation and dropout, against small real networks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry.errors import TheoryError
from isometry.meanfield import (
    activation,
    batch_norm_growth,
    branch_strength,
    chi_1,
    dropout_point,
    layer_norm_gain,
    operating_point,
    q_map,
    residual_profile,
)
from isometry.meanfield.kernel import Kernel
from isometry.meanfield.moments import second_moment


def test_a_residual_stream_adds_variances_and_gains():
    profile = residual_profile("tanh", 1.0, 1.3, 0.2, 5, skip=0.9, branch=0.5)
    q = 1.0
    for after, growth in zip(profile.q, profile.growth, strict=True):
        assert growth == pytest.approx(0.81 + 0.25 * chi_1("tanh", q, 1.3), rel=1e-14)
        q = 0.81 * q + 0.25 * q_map("tanh", q, 1.3, 0.2)
        assert after == pytest.approx(q, rel=1e-14)
    assert profile.log_growth == pytest.approx(np.log(profile.growth).sum())


def test_tanh_grows_slower_than_any_exponential_and_relu_does_not():
    tanh = residual_profile("tanh", 1.0, 1.0, 0.0, 400)
    assert np.diff(tanh.q)[-50:] == pytest.approx(1.0, abs=0.06)  # linearly, by E φ² → 1
    assert tanh.growth[-1] - 1 < 0.1 * (tanh.growth[0] - 1)
    relu = residual_profile("relu", 1.0, math.sqrt(2.0), 0.0, 100)
    assert relu.q == pytest.approx(2.0 ** np.arange(1, 101), rel=1e-12)
    assert relu.growth == pytest.approx(2.0, rel=1e-14)


def test_a_real_residual_network_has_the_gain_of_the_profile():
    n, depth, rng = 300, 5, np.random.default_rng(0)
    x = rng.standard_normal(n)
    x /= math.sqrt(np.mean(x**2))
    jacobian = np.eye(n)
    for _ in range(depth):
        w = 1.2 / math.sqrt(n) * rng.standard_normal((n, n))
        jacobian = jacobian + w @ ((1 - np.tanh(x) ** 2)[:, None] * jacobian)
        x = x + w @ np.tanh(x)
    profile = residual_profile("tanh", 1.0, 1.2, 0.0, depth)
    assert np.mean(x**2) == pytest.approx(profile.q[-1], rel=0.15)
    measured = math.log(np.sum(jacobian**2) / n)
    assert measured == pytest.approx(profile.log_growth, abs=0.15)
    plain = math.log(np.prod([chi_1("tanh", q, 1.2) for q in profile.q]))
    assert measured != pytest.approx(plain, abs=0.15)


def test_small_branches_have_the_universal_numbers():
    for c, std in ((0.25, 0.360844), (1.0, 0.763763), (4.0, 1.825742)):
        strength = branch_strength(math.sqrt(c / 50), 1.0, 50)
        assert strength.c == pytest.approx(c)
        assert strength.std_log_sigma == pytest.approx(std, abs=6e-7)
        assert strength.mean_square == pytest.approx(math.exp(c))
    deep = residual_profile("relu", 1.0, math.sqrt(2.0), 0.0, 10000, branch=0.01)
    assert deep.log_growth == pytest.approx(branch_strength(0.01, 1.0, 10000).c, rel=1e-4)
    assert branch_strength(1.0, 2.0, 1000).mean_square == math.inf


def test_batch_norm_grows_gradients_by_the_printed_factors():
    assert batch_norm_growth("relu") == pytest.approx(math.pi / (math.pi - 1), rel=1e-14)
    assert batch_norm_growth("linear") == pytest.approx(1.0, rel=1e-14)
    assert batch_norm_growth("tanh") == pytest.approx(1.1778, abs=5e-5)


@given(st.floats(-5.0, 5.0), st.sampled_from(["tanh", "gelu", "sigmoid", "selu"]))
def test_batch_norm_does_not_see_a_constant_added(shift, name):
    act = activation(name)
    moved = activation(lambda h: act.function(h) + shift)
    assert batch_norm_growth(moved) == pytest.approx(batch_norm_growth(name), rel=1e-9)
    assert batch_norm_growth(name) >= 1.0


def test_real_batch_normalisation_grows_gradients_by_the_factor():
    n, batch, rng = 200, 64, np.random.default_rng(5)
    ratios = []
    for _ in range(8):
        h = rng.standard_normal((batch, n))
        std = h.std(axis=0)
        z = (h - h.mean(axis=0)) / std
        w = rng.standard_normal((n, n)) / math.sqrt(n)
        following = np.maximum(z, 0) @ w.T
        g = rng.standard_normal((batch, n))  # gradient after the next normalisation
        y = (following - following.mean(axis=0)) / following.std(axis=0)
        back = (g - g.mean(axis=0) - y * np.mean(g * y, axis=0)) / following.std(axis=0)
        before = (back @ w) * (z > 0)
        ratios.append(np.mean(before**2) / np.mean(g**2))
    # centring and the norm take two directions of the batch of each unit
    expected = batch_norm_growth("relu") * (1 - 2 / batch)
    assert np.mean(ratios) == pytest.approx(expected, rel=0.05)


def test_layer_norm_has_the_gain_of_a_variance_of_one():
    assert layer_norm_gain("relu", 3.0) == pytest.approx(1.0, rel=1e-14)
    assert layer_norm_gain("linear", 0.1) == pytest.approx(1.0, rel=1e-14)
    assert layer_norm_gain("tanh", 2.0) == pytest.approx(layer_norm_gain("tanh", 5.0), rel=1e-14)
    with_bias = layer_norm_gain("tanh", 1.5, 0.3)
    expected = chi_1("tanh", 1.0, 1.5) / q_map("tanh", 1.0, 1.5, 0.3)
    assert with_bias == pytest.approx(expected, rel=1e-14)
    assert with_bias < layer_norm_gain("tanh", 1.5)


@pytest.mark.parametrize("name", ["tanh", "relu", "hard_tanh", "elu"])
@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999999])
def test_dropout_leaves_no_two_inputs_alike(name, keep):
    point = dropout_point(name, 0.7, 0.3, keep)
    act, q, c = activation(name), point.q_star, point.c_star
    single = 0.49 * second_moment(act, q) / keep + 0.09
    assert single == pytest.approx(q, rel=1e-12)
    assert (0.49 * Kernel(act, q).value(c) + 0.09) / q == pytest.approx(c, abs=1e-12)
    assert c < 1.0
    assert 0 < point.xi_c < math.inf
    assert point.chi_1 == pytest.approx(chi_1(name, q, 0.7) / keep, rel=1e-12)


def test_dropout_takes_away_the_critical_line():
    critical = operating_point("tanh", 1.122539005, 0.05)
    assert critical.xi_c > 1e6
    scales = [dropout_point("tanh", 1.122539005, 0.05, keep).xi_c for keep in (0.999, 0.99, 0.9)]
    assert scales[0] > scales[1] > scales[2]
    assert scales[0] < 500


def test_keeping_everything_is_no_dropout():
    point, plain = dropout_point("tanh", 1.5, 0.1, 1.0), operating_point("tanh", 1.5, 0.1)
    for field in ("q_star", "chi_1", "chi_q", "c_star", "chi_c", "xi_q", "xi_c"):
        assert getattr(point, field) == getattr(plain, field)


def test_real_dropout_decorrelates_two_copies_of_one_input():
    n, keep, rng = 800, 0.8, np.random.default_rng(2)
    point = dropout_point("tanh", 1.4, 0.3, keep)
    x = rng.standard_normal((2, n))
    x[1] = x[0]
    variances, correlations = [], []
    for layer in range(40):
        w = 1.4 / math.sqrt(n) * rng.standard_normal((n, n))
        masks = (rng.random((2, n)) < keep) / keep
        h = (x * masks) @ w.T + 0.3 * rng.standard_normal(n)
        x = np.tanh(h)
        if layer >= 10:
            variances.append(np.mean(h**2))
            correlations.append(h[0] @ h[1] / math.sqrt(h[0] @ h[0] * (h[1] @ h[1])))
    assert np.mean(variances) == pytest.approx(point.q_star, rel=0.03)
    assert np.mean(correlations) == pytest.approx(point.c_star, abs=0.04)
    plain = operating_point("tanh", 1.4, 0.3).c_star
    assert np.mean(correlations) != pytest.approx(plain, abs=0.2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: residual_profile("tanh", -1.0, 1.0, 0.0, 3), "q0 is -1.0"),
        (lambda: residual_profile("tanh", 1.0, 1.0, 0.0, 0), "depth is 0"),
        (lambda: residual_profile("tanh", 1.0, 1.0, 0.0, 3, skip=math.nan), "skip is nan"),
        (lambda: residual_profile("relu", 1.0, 9.0, 0.0, 300), "try a branch of about"),
        (lambda: branch_strength(0.1, -1.0, 3), "chi_1 is -1.0"),
        (lambda: branch_strength(0.1, 1.0, 0.5), "depth is 0.5"),
        (lambda: batch_norm_growth(lambda h: 0.0 * h), "is constant"),
        (lambda: layer_norm_gain("tanh", 0.0), "the output of tanh is zero"),
        (lambda: layer_norm_gain("tanh", -1.0), "sigma_w is -1.0"),
        (lambda: dropout_point("tanh", 1.0, 0.1, 0.0), "keep is 0.0; expected a probability"),
        (lambda: dropout_point("tanh", 1.0, 0.1, 1.5), "keep is 1.5"),
        (lambda: dropout_point("tanh", 0.5, 0.0, 0.9), "dies out"),
        (lambda: dropout_point("relu", 1.4, 0.1, 0.5), "no stable variance"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(TheoryError) as caught:
        call()
    assert words in str(caught.value)
