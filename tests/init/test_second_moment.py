"""Data pushed through layers that widen and narrow: second moments are those of the q-map."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from isometry.init import (
    biases_,
    delta_orthogonal_,
    gain,
    gaussian_,
    layout,
    orthogonal_,
    orthogonal_conv_,
    stem_gain,
    uniform_,
)
from isometry.meanfield import critical_point, q_map

DENSE = [orthogonal_, gaussian_, uniform_]
SIZES = [(100, 400), (400, 100), (200, 200)]
ANY_KERNEL = [delta_orthogonal_, orthogonal_conv_, orthogonal_, gaussian_, uniform_]


def gaussian_data(q, shape, generator):
    """The quantiles of N(0, q) in random order: all that is random is their place."""
    n = math.prod(shape)
    levels = (torch.randperm(n, generator=generator) + 0.5) / n
    return math.sqrt(q) * torch.special.ndtri(levels).reshape(shape)


def mean_square(layers, x, activation):
    """Averaged over independent layers, since the mean of φ goes into few directions."""
    with torch.no_grad():
        moments = [float((layer(activation(x)) ** 2).mean()) for layer in layers]
    return sum(moments) / len(moments)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("fill", DENSE)
@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_a_linear_layer_gives_the_variance_of_theory(sizes, fill, name, seeded):
    g, q, sigma_w, sigma_b = seeded(), 1.3, 1.2, 0.3
    layers = [nn.Linear(*sizes) for _ in range(300)]
    for layer in layers:
        fill(layer.weight, sigma_w, generator=g)
        biases_(layer.bias, sigma_b, generator=g)
    found = mean_square(layers, gaussian_data(q, (100, sizes[0]), g), getattr(torch, name))
    assert found == pytest.approx(q_map(name, q, sigma_w, sigma_b), rel=0.01)


@pytest.mark.parametrize("sizes", [(16, 64), (64, 16)])
@pytest.mark.parametrize("fill", ANY_KERNEL)
def test_a_convolution_gives_the_variance_of_theory(sizes, fill, seeded):
    g, q, sigma_w = seeded(), 0.8, 1.4
    layers = [nn.Conv2d(*sizes, 3, bias=False) for _ in range(8)]
    for layer in layers:
        fill(layer.weight, sigma_w, generator=g)
    found = mean_square(layers, gaussian_data(q, (50, sizes[0], 10, 10), g), torch.tanh)
    assert found == pytest.approx(q_map("tanh", q, sigma_w, 0.0), rel=0.01)


@pytest.mark.parametrize("options", [{"stride": 2}, {"stride": 1}, {"stride": (1, 2), "groups": 4}])
@pytest.mark.parametrize("fill", [gaussian_, uniform_])
def test_a_transposed_convolution_counts_the_inputs_that_meet(options, fill, seeded):
    g = seeded()
    layers = [nn.ConvTranspose2d(16, 64, 4, bias=False, **options) for _ in range(4)]
    for layer in layers:
        fill(layer.weight, 1.4, stride=layer.stride, generator=g, **layout(layer))
    x = torch.randn(40, 16, 12, 12, generator=g)
    with torch.no_grad():  # away from the border, where fewer meet
        inside = [layer(x)[..., 4:-4, 4:-4] for layer in layers]
    found = sum(float((y**2).mean()) for y in inside) / len(inside)
    assert found == pytest.approx(1.96, rel=0.01)


@pytest.mark.parametrize("sizes", [(16, 32), (64, 4)])
def test_patches_that_do_not_overlap_keep_it_too(sizes, seeded):
    g = seeded()
    layers = [nn.ConvTranspose2d(*sizes, 2, stride=2, bias=False) for _ in range(30)]
    for layer in layers:
        orthogonal_(layer.weight, 1.4, generator=g, **layout(layer))
    found = mean_square(layers, gaussian_data(1.0, (40, sizes[0], 5, 5), g), torch.tanh)
    assert found == pytest.approx(q_map("tanh", 1.0, 1.4, 0.0), rel=0.01)


def test_keeping_norms_instead_keeps_norms():
    x = torch.randn(50, 100)
    for fill in (orthogonal_, delta_orthogonal_):
        layer = nn.Linear(100, 400, bias=False)
        fill(layer.weight, preserve="norm")
        torch.testing.assert_close(layer(x).norm(dim=1), x.norm(dim=1))


def test_a_network_begins_at_its_fixed_point_and_stays(seeded):
    g, q = seeded(), 0.02
    point = critical_point("tanh", q_star=q)
    widths = [64, 400, 300, 500, 400, 400]
    layers = [nn.Linear(n, m) for n, m in pairwise(widths)]
    for i, layer in enumerate(layers):
        first = stem_gain("tanh", q_star=q, input_variance=9.0)
        orthogonal_(layer.weight, gain("tanh", q_star=q) if i else first, generator=g)
        biases_(layer.bias, point.sigma_b, generator=g)
    h = 3.0 * torch.randn(1000, 64, generator=g)
    for i, layer in enumerate(layers):
        h = layer(h.tanh() if i else h).detach()
        assert float((h**2).mean()) == pytest.approx(q, rel=0.02)
