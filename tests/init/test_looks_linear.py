"""Looks-linear weights: a ReLU network that is linear, and isometric, when it begins."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import isometry
from isometry.init import gain, looks_linear_, orthogonal_


def network(widths, make, activation):
    layers = []
    for i, (n, m) in enumerate(pairwise(widths)):
        layers += [activation()] if i else []
        layers.append(make(n, m))
    return nn.Sequential(*layers).double()


def values_of(model, *shape):
    return torch.linalg.svdvals(isometry.Jacobian(model, torch.randn(1, *shape)).dense())


def test_a_deep_relu_network_is_exactly_isometric():
    model = network([6, *[12] * 20, 6], lambda n, m: nn.Linear(n, m, bias=False), nn.ReLU)
    for i, layer in enumerate(model[::2]):
        looks_linear_(layer.weight, paired_in=i > 0, paired_out=i < 20)
    values = values_of(model, 6)
    torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-12, atol=0)


def test_orthogonal_weights_alone_do_not_make_it_so():
    model = network([12] * 21, lambda n, m: nn.Linear(n, m, bias=False), nn.ReLU)
    for layer in model[::2]:
        orthogonal_(layer.weight, gain("relu"))
    values = values_of(model, 12)
    assert float(values.min()) < 1e-3


def test_a_convolution_is_too():
    def conv(n, m):
        return nn.Conv2d(n, m, 3, padding=1, bias=False)

    model = network([2, 4, 4, 8, 4], conv, nn.ReLU)
    for i, layer in enumerate(model[::2]):
        looks_linear_(layer.weight, paired_in=i > 0, paired_out=i < 3, preserve="norm")
    values = values_of(model, 2, 3, 3)
    torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-12, atol=0)


class Concatenated(nn.Module):
    def forward(self, x):
        return torch.cat([x.relu(), (-x).relu()], -1)


def test_layers_behind_a_concatenated_relu_take_pairs_and_give_none():
    first = nn.Linear(5, 5, bias=False)
    layers = [nn.Sequential(Concatenated(), nn.Linear(10, 5, bias=False)) for _ in range(9)]
    model = nn.Sequential(first, *layers).double()
    orthogonal_(first.weight)
    for layer in layers:
        looks_linear_(layer[1].weight, paired_out=False)
    values = values_of(model, 5)
    torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-12, atol=0)


def test_the_weight_has_its_four_quarters():
    w = looks_linear_(torch.empty(6, 4), 1.7)
    v = w[:3, :2]
    assert torch.equal(w, torch.cat([torch.cat([v, -v], 1), torch.cat([-v, v], 1)]))
    torch.testing.assert_close(v.T @ v, 1.7**2 * 1.5 * torch.eye(2))


def test_a_transposed_one_has_inputs_first():
    w = looks_linear_(torch.empty(4, 3, 3), transposed=True, paired_out=False)
    assert torch.equal(w[2:], -w[:2])
    torch.testing.assert_close(w[:2, :, 1] @ w[:2, :, 1].T, 1.5 * torch.eye(2))


@pytest.mark.parametrize("widths", [(10, 40, 400), (400, 40, 10)])
def test_second_moments_of_pre_activations_are_what_sigma_w_says(widths):
    a, b, c = widths
    first, second = torch.empty(b, a), torch.empty(c, b)
    looks_linear_(first, paired_in=False)
    looks_linear_(second, 1.5)
    x = torch.randn(20_000, a)
    h = x @ first.T
    assert float((h**2).mean()) == pytest.approx(float((x**2).mean()), rel=0.01)
    out = h.relu() @ second.T
    assert float((out**2).mean()) == pytest.approx(2.25 * float((h**2).mean()), rel=0.01)
