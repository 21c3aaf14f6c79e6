"""Twins: the same singular values in every weight, and the network itself untouched."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import isometry
from isometry.coverage.traces import changed, traces
from isometry.twins import twin


def singular_values(weight):
    return torch.linalg.svdvals(weight.detach().double())


class Stack(nn.Module):
    """Weights of experts, one behind the other."""

    def __init__(self):
        super().__init__()
        self.experts = nn.Parameter(torch.randn(3, 5, 4))

    def forward(self, x):
        return (x @ self.experts).sum(0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(7, 5),
        nn.Linear(4, 1),
        spectral_norm(nn.Linear(6, 6)),
        weight_norm(nn.Linear(6, 3)),
    ],
)
def test_a_matrix_keeps_its_singular_values_and_turns(layer):
    layer.eval()
    before = traces(layer)
    other = twin(layer, 0)
    assert changed(before, traces(layer)) == []
    torch.testing.assert_close(singular_values(other.weight), singular_values(layer.weight))
    assert (other.weight - layer.weight).norm() > 0.1 * layer.weight.norm()
    assert torch.equal(other.bias, layer.bias)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_keeps_the_singular_values_of_its_operator(groups):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, padding=1, groups=groups, padding_mode="circular")
    x = torch.randn(1, 4, 5, 5)
    before, after = (isometry.Jacobian(net, x).dense() for net in (layer, twin(layer, 1)))
    torch.testing.assert_close(
        torch.linalg.svdvals(after), torch.linalg.svdvals(before), rtol=1e-5, atol=1e-5
    )
    assert (after - before).norm() > 0.1 * before.norm()


def test_every_matrix_of_a_stack_turns_by_itself():
    net = Stack()
    for one, other in zip(net.experts, twin(net, 0).experts, strict=True):
        torch.testing.assert_close(singular_values(one), singular_values(other))


def test_embeddings_and_what_is_tied_to_them_stay():
    net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    net[1].weight = net[0].weight
    assert torch.equal(twin(net, 0)[1].weight, net[1].weight)


def test_a_tied_weight_turns_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    other = twin(net, 0)
    assert other[0].weight is other[2].weight
    torch.testing.assert_close(singular_values(other[0].weight), singular_values(net[0].weight))


def test_a_seed_gives_the_same_twin_and_another_a_new_one():
    net = nn.Linear(5, 5)
    assert torch.equal(twin(net, 3).weight, twin(net, 3).weight)
    assert not torch.equal(twin(net, 3).weight, twin(net, 4).weight)


def test_rotations_are_uniform():
    # Of a Haar matrix, E u_11 = 0 and E u_11² = 1/n; without the signs of R, E u_11 is not 0.
    net = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.diag(torch.tensor([1.0, 0.0, 0.0])))
    first = np.array([float(twin(net, seed).weight[0, 0].detach()) for seed in range(2000)])
    assert abs(first.mean()) < 4 * first.std() / len(first) ** 0.5
    assert np.mean(first**2) == pytest.approx(1 / 9, abs=4 * np.std(first**2) / len(first) ** 0.5)


def test_the_network_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    x = torch.randn(1, 6)
    before = traces(net)
    report = isometry.analyze(net, x, band=3)
    assert changed(before, traces(net)) == []
    assert len(report.band.spectra) == 3


def test_the_band_of_a_fresh_network_holds_its_score_and_an_aligned_one_is_outside():
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(3)))
    aligned = copy.deepcopy(net)
    with torch.no_grad():  # the transpose undoes what the layer before did to directions
        aligned[1].weight.copy_(aligned[0].weight.T)
    x = torch.randn(1, 100)
    for each, inside in ((net, True), (aligned, False)):
        report = isometry.analyze(each, x, band=6)
        spread = report.band.spread
        assert (abs(report.score.spread - spread.mean) < 5 * spread.deviation) is inside


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (lambda x: x, {"band": 3}, "band turns the weights of a module, and a function shows none"),
        (nn.Linear(3, 3), {"band": 1}, "band needs two twins or more to span, got 1"),
        (nn.Linear(3, 3), {"band": "x"}, "band must be a whole number, got 'x'"),
    ],
)
def test_what_has_no_twins_is_refused(model, options, words):
    with pytest.raises(isometry.InputError, match=words):
        isometry.analyze(model, torch.ones(1, 3), **options)


def test_a_network_that_cannot_be_copied_is_refused():
    net = nn.Linear(3, 3)
    net.open = open(__file__, encoding="utf-8")  # noqa: SIM115
    with net.open, pytest.raises(isometry.InputError, match="cannot be copied"):
        isometry.analyze(net, torch.ones(1, 3), band=2)
