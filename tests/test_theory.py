"""The law that a network's weights and activation imply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import theory


def one(model, x=None):
    """The mean-field prediction for a model."""
    report = isometry.analyze(model, x)
    found = [p for p in report.theory if p.name == "mean field"]
    assert len(found) == 1, report.notes
    return found[0], report


# ------------------------------------------------------------------ where there is a law

N = 128


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
def test_gaussian_linear_chains_follow_their_law(chain, depth, gain):
    p, report = one(chain(None, depth, N, gain=gain))
    # One matrix product of width n is within O(1/n) of its limit; seen: 0.3 to 1.3 over n.
    assert p.ks < 4 / N
    assert p.score == pytest.approx(report.score.value, abs=4 / N)
    assert p.mean_log_sigma == pytest.approx(report.score.drift, abs=0.1)
    assert p.std_log_sigma == pytest.approx(report.score.spread, rel=0.1)
    assert p.atoms == ()


@pytest.mark.parametrize("gain", [0.9, 1.0, 1.1])
def test_orthogonal_linear_chains_are_one_atom(chain, gain):
    p, report = one(chain(None, 3, N, weights="orthogonal", gain=gain))
    ((sigma, mass),) = p.atoms
    assert sigma == pytest.approx(gain**3)
    assert mass == 1
    assert p.ks == pytest.approx(0, abs=1e-12)
    assert p.score == pytest.approx(report.score.value)


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_gaussian_relu_chains_follow_their_law(chain, depth):
    p, report = one(chain(nn.ReLU, depth, N, gain=2**0.5, seed=1))
    # The rank of a random mask fluctuates by √n/2: KS of 1/(2√n) = 0.044 per standard deviation.
    assert p.ks < 4 * 0.5 / N**0.5
    assert p.score == pytest.approx(report.score.value, abs=0.12)
    zero, mass = p.atoms[0]
    assert (zero, mass) == (0, pytest.approx(0.5))
    assert report.score.dead == pytest.approx(mass, abs=4 * 0.5 / N**0.5)


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_orthogonal_relu_chains_follow_their_law(chain, depth):
    p, _ = one(chain(nn.ReLU, depth, N, weights="orthogonal", gain=2**0.5, seed=1))
    assert p.ks < 4 * 0.5 / N**0.5
    assert p.atoms[0] == (0, pytest.approx(0.5))


def test_the_overlay_counts_the_activations_that_are_there(chain):
    inner = chain(nn.ReLU, 3, N, weights="orthogonal", gain=2**0.5)
    outer = nn.Sequential(*inner, nn.ReLU())
    a, b = one(inner)[0], one(outer)[0]
    # One mask more halves E[σ²].
    assert b.mean_log_sigma < a.mean_log_sigma
    assert a.ks < 4 * 0.5 / N**0.5
    assert b.ks < 4 * 0.5 / N**0.5


def test_the_curves_of_a_prediction_belong_together(chain):
    p, _ = one(chain(nn.ReLU, 4, 32, gain=2**0.5))
    grid, cdf, density = map(np.array, (p.grid, p.cdf, p.density))
    assert np.all(np.diff(grid) > 0)
    assert np.all(np.diff(cdf) >= 0)
    assert np.all(density >= 0)
    atoms = sum(mass for _, mass in p.atoms)
    # The grid leaves a thousandth of the continuous part below it, at most.
    assert np.trapezoid(density, grid) == pytest.approx(1 - atoms, abs=2e-3)
    steps = (density[1:] + density[:-1]) / 2 * np.diff(grid)
    assert np.cumsum(steps) == pytest.approx(cdf[1:] - cdf[0], abs=2e-3)


def test_a_wrong_law_is_far_from_the_measured_spectrum(chain):
    # The negative control for the distances above.
    right, report = one(chain(None, 2, N))
    from isometry.anatomy import read

    other, _ = theory.predict(read(chain(None, 5, N)), report.spectrum)
    scaled, _ = theory.predict(read(chain(None, 2, N, gain=1.3)), report.spectrum)
    assert right.ks < 0.03 < 0.1 < min(other[0].ks, scaled[0].ks)


# ------------------------------------------------------------------ where there is none


def trained(chain):
    """A Gaussian chain after some steps of training, which leave outliers in its spectrum."""
    net = chain(None, 2, 64)
    x = torch.randn(256, 64, dtype=torch.float64)
    target = x[:, :8].repeat(1, 8)
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    for _ in range(300):
        optimiser.zero_grad()
        (net(x) - target).square().mean().backward()
        optimiser.step()
    return net


def mixed(chain):
    return nn.Sequential(*chain(None, 1, 32), *chain(None, 1, 32, weights="orthogonal"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (trained, "neither all orthogonal nor all like independent random entries"),
        (mixed, "neither all orthogonal nor all like independent"),
        (lambda c: nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 8)), "its layers differ in width"),
        (lambda c: c(nn.Tanh, 3, 16), "the law of a Tanh chain has no closed form"),
        (lambda c: c(nn.LeakyReLU, 3, 16), "the law of a LeakyReLU chain"),
        (lambda c: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), "it holds a LayerNorm"),
    ],
)
def test_without_a_law_the_list_is_empty_and_the_reason_noted(make, words, chain):
    report = isometry.analyze(make(chain))
    assert report.theory == ()
    reasons = [n for n in report.notes if n.startswith("no theory overlay: ")]
    assert len(reasons) == 1
    assert words in reasons[0]


def test_the_data_models_have_an_overlay_where_they_should(file, data_model, digit):
    report = isometry.analyze(data_model(file), digit)
    has = {"relu_he", "relu_orthogonal", "linear_gaussian"}
    assert bool(report.theory) == (file in has)
    assert bool(report.theory) != any("no theory overlay" in n for n in report.notes)
    for p in report.theory:
        # Measured at width 64 with masks of random rank: two standard deviations are 1/√64.
        assert p.ks < 2 / 64**0.5


# ------------------------------------------------------------------ recognition


@pytest.mark.parametrize("n", [24, 32, 64, 200])
@pytest.mark.parametrize("seed", range(5))
def test_ensembles_are_recognised(n, seed):
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.01, 100)
    gaussian = rng.standard_normal((n, n))
    assert theory.recognise(scale * gaussian) == "gaussian"
    assert theory.recognise(scale * rng.uniform(-1, 1, (n, n))) == "gaussian"
    assert theory.recognise(scale * rng.choice([-1.0, 1.0], (n, n))) == "gaussian"
    q = np.linalg.qr(gaussian)[0]
    assert theory.recognise(scale * q) == "orthogonal"
    assert theory.recognise((scale * q).astype(np.float32).astype(float)) == "orthogonal"


@pytest.mark.parametrize("n", [64, 200])
def test_structured_weights_are_not_recognised(n):
    rng = np.random.default_rng(0)
    g = rng.standard_normal((n, n)) / n**0.5
    q = np.linalg.qr(g)[0]
    assert theory.recognise(np.zeros((n, n))) is None
    assert theory.recognise(g @ g) is None
    assert theory.recognise(np.eye(n) + 0.5 * g) is None
    assert theory.recognise(q * np.linspace(0.9, 1.1, n)) is None
    assert theory.recognise(np.diag(rng.standard_normal(n))) is None
    low_rank = g.copy()
    low_rank[: n // 2] = 0
    assert theory.recognise(low_rank) is None


def test_pytorchs_default_weights_count_as_independent():
    torch.manual_seed(0)
    assert theory.recognise(nn.Linear(64, 64).weight.detach().double().numpy()) == "gaussian"


def test_a_narrow_matrix_cannot_tell_whether_it_is_gaussian():
    rng = np.random.default_rng(0)
    assert theory.recognise(rng.standard_normal((23, 23))) is None
    assert theory.recognise(np.linalg.qr(rng.standard_normal((8, 8)))[0]) == "orthogonal"


def _relu_net(change=lambda layer: None):
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(3) for m in (nn.Linear(64, 64), nn.ReLU())])
    for layer in net[::2]:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        change(layer)
    return net


def test_a_relu_chain_with_shifted_biases_has_no_overlay():
    report = isometry.analyze(_relu_net(lambda layer: nn.init.constant_(layer.bias, -0.5)))
    assert report.theory == ()
    assert any("biases are not centred" in note for note in report.notes)
    assert isometry.analyze(_relu_net(lambda layer: nn.init.normal_(layer.bias))).theory


def test_a_linear_layer_that_does_something_else_has_no_overlay():
    class Halved(nn.Linear):
        def forward(self, x):
            return super().forward(x) * torch.tensor([1.0, 0.0]).repeat(32)

    net = _relu_net()
    net[2] = Halved(64, 64)
    assert isometry.analyze(net).theory == ()
    net = _relu_net()
    net[2].register_forward_hook(lambda module, x, y: y.cumsum(-1))
    assert isometry.analyze(net).theory == ()


def test_a_layer_used_twice_is_no_chain():
    layer = nn.Linear(32, 32)
    report = isometry.analyze(nn.Sequential(layer, nn.ReLU(), layer))
    assert any("more than once" in note for note in report.notes)
