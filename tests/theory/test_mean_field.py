"""The law that a network's weights and activation imply at infinite width."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry.init import orthogonal_conv_
from isometry.jacobian import Jacobian
from isometry.measure.parts import parts
from isometry.theory.mean_field import of_limit

N = 128


def one(model, x=None):
    """The mean-field prediction for a model."""
    report = isometry.analyze(model, x)
    found = [p for p in report.theory if p.name == "mean field"]
    assert len(found) == 1, report.notes
    return found[0], report


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("gain", [0.5, 3.0])
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


@pytest.mark.parametrize("depth", [2, 6])
@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_relu_chains_follow_their_law(chain, depth, weights):
    p, report = one(chain(nn.ReLU, depth, N, weights=weights, gain=2**0.5, seed=1))
    # The rank of a random mask fluctuates by √n/2: KS of 1/(2√n) = 0.044 per standard deviation.
    assert p.ks < 4 * 0.5 / N**0.5
    assert p.atoms[0] == (0, pytest.approx(0.5))
    assert report.score.dead == pytest.approx(0.5, abs=4 * 0.5 / N**0.5)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU, nn.LeakyReLU, nn.SiLU, nn.Softsign])
def test_any_activation_has_a_law(chain, activation):
    p, _ = one(chain(activation, 4, N, gain=1.2))
    assert p.judgement.word == "agrees"
    assert p.ks < 1 / N**0.5


def test_a_function_without_a_name_has_a_law(chain):
    class Bent(nn.Module):
        def forward(self, x):
            return x + 0.5 * torch.sin(x)

    p, _ = one(chain(Bent, 3, N), torch.randn(1, N, dtype=torch.float64))
    assert p.ks < 1 / N**0.5


def test_the_variance_of_the_signal_is_followed_layer_by_layer(chain):
    # From q = 4 down to the fixed point: with one q for all layers the law would be far off.
    net, x = chain(nn.Tanh, 4, 256, gain=1.5), torch.randn(1, 256, dtype=torch.float64)
    near, far = one(net, 0.1 * x)[0], one(net, 4 * x)[0]
    assert near.ks < 1 / 16
    assert far.ks < 1 / 16
    assert abs(near.mean_log_sigma - far.mean_log_sigma) > 0.5


def test_widths_may_differ(chain):
    torch.manual_seed(3)
    widths = (100, 300, 200, 150)
    net = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
    p, _ = one(net.double(), torch.randn(1, 100, dtype=torch.float64))
    assert p.ks < 4 / 100


def test_one_activation_more_is_counted(chain):
    inner = chain(nn.ReLU, 3, N, weights="orthogonal", gain=2**0.5)
    a, b = one(inner)[0], one(nn.Sequential(*inner, nn.ReLU()))[0]
    assert b.mean_log_sigma < a.mean_log_sigma
    assert max(a.ks, b.ks) < 4 * 0.5 / N**0.5


def cut(model, x):
    return parts(Jacobian(model, x, self_check=False))


def test_what_has_no_theory_enters_as_measured_with_the_reason(chain):
    x = torch.randn(1, 64, dtype=torch.float64)
    odd = nn.Linear(64, 64, dtype=torch.float64)
    nn.init.eye_(odd.weight)
    odd.weight.data[:32] *= 3
    limit = of_limit(cut(nn.Sequential(*chain(nn.Tanh, 2, 64), odd), x))
    (name,) = limit.measured
    assert name == "3"
    assert "neither Gaussian nor orthogonal" in limit.measured[name]
    assert "1 part as measured" in limit.law.name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda net: nn.init.constant_(net[1].bias, -0.5), "biases are not centred"),
        (lambda net: net[1].weight.data.mul_(torch.linspace(1, 9, 64)), "neither Gaussian nor"),
    ],
)
def test_the_reason_is_noted(change, words):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Tanh(), nn.Linear(64, 64))
    change(net)
    report = isometry.analyze(net, torch.randn(1, 64))
    assert any(words in note for note in report.notes)
    assert not any(p.name == "mean field" for p in report.theory)


def test_training_takes_the_mean_field_away(chain):
    net = chain(None, 2, 64)
    x = torch.randn(256, 64, dtype=torch.float64)
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    for _ in range(200):
        optimiser.zero_grad()
        (net(x) - x[:, :8].repeat(1, 8)).square().mean().backward()
        optimiser.step()
    report = isometry.analyze(net, x[:1])
    assert not any(p.name == "mean field" for p in report.theory)


def test_a_hook_or_a_subclass_is_seen_for_what_it_does(chain):
    net = chain(nn.ReLU, 3, 64, gain=2**0.5)
    x = torch.randn(1, 64, dtype=torch.float64)
    plain = [p.kind for p in cut(net, x)]
    net[2].register_forward_hook(lambda module, args, y: y.cumsum(-1))
    assert [p.kind for p in cut(net, x)] == [*plain[:3], "opaque", *plain[3:]]


@pytest.mark.parametrize("positions", [1, 4])
def test_the_curves_of_a_prediction_belong_together(chain, positions):
    x = torch.randn(1, positions, 32, dtype=torch.float64)
    report = isometry.analyze(chain(nn.ReLU, 4, 32, gain=2**0.5), x)
    for p in report.theory:
        grid, cdf, density = map(np.array, (p.grid, p.cdf, p.density))
        assert np.all(np.diff(grid) > 0)
        assert np.all(np.diff(cdf) >= 0)
        assert np.all(density >= 0)
        atoms = sum(mass for _, mass in p.atoms)
        # The grid leaves a thousandth of the continuous part below it, at most.
        assert np.trapezoid(density, grid) == pytest.approx(1 - atoms, abs=2e-3)


@pytest.mark.parametrize("into", [3, 16])
def test_an_orthogonal_convolution_is_one_by_what_it_does(into):
    torch.manual_seed(0)
    layers = list[nn.Module]()
    for channels in (into, 16):
        conv = nn.Conv2d(channels, 16, 3, padding=1, padding_mode="circular")
        orthogonal_conv_(conv.weight)
        nn.init.zeros_(conv.bias)
        layers += [conv, nn.Tanh()]
    report = isometry.analyze(nn.Sequential(*layers), torch.randn(1, into, 4, 4))
    assert not any("mean field: no theory" in note for note in report.notes)
    layers[2].padding_mode = "zeros"
    limit = of_limit(cut(nn.Sequential(*layers), torch.randn(1, into, 4, 4)))
    assert list(limit.measured) == ["2"]
    assert "as a convolution it is not" in limit.measured["2"]


def test_the_ensembles_and_the_odd_weights_are_noted(chain):
    net, x = chain(nn.Tanh, 4, 64), torch.randn(1, 64, dtype=torch.float64)
    net[2].weight.data *= 1.5
    _, report = one(net, x)
    assert any(note.startswith("weights: 4 Gaussian (σ_w 1.1") for note in report.notes)
    assert any("mean field: 2 enters as it is, although it is odd" in n for n in report.notes)
