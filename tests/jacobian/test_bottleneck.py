"""What the structure proves about the rank: never more than is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from isometry import Jacobian
from isometry.jacobian.bottleneck import bottleneck


def rank(J):
    """Numerical rank, the floor taken low so that it can only be too high."""
    sigma = torch.linalg.svdvals(J.dense())
    return int((sigma > 1e-13 * sigma[0].clamp(min=1e-300)).sum())


def caps(model, x):
    found = bottleneck(Jacobian(model, x))
    return found.width, found.alive


# ------------------------------------------------------------------ counted by hand


def test_a_square_smooth_network_has_no_bottleneck(chain):
    assert caps(chain(nn.Tanh, 3, 16), torch.randn(1, 16)) == (16, 16)


def test_the_narrowest_layer_is_the_width():
    net = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 64))
    assert caps(net, torch.randn(1, 64)) == (8, 8)


def test_a_functional_bottleneck_is_found_too():
    def f(x):
        return x.sum(-1, keepdim=True) * torch.ones(7, dtype=x.dtype)

    assert caps(f, torch.randn(1, 7)) == (1, 1)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_dead_units_of_a_relu_chain_are_counted(chain, depth, seed):
    net = chain(nn.ReLU, depth, 24, gain=2**0.5, seed=seed)
    x = torch.randn(1, 24, dtype=torch.float64)
    h, alive = x, 24
    for layer in net:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            alive = min(alive, int((h > 0).sum()))
    J = Jacobian(net, x, self_check=False)
    assert bottleneck(J).alive == alive
    assert bottleneck(J).width == 24
    # Generic square weights between masks lose no more than the smallest mask.
    assert np.linalg.matrix_rank(J.dense().numpy()) == alive


@pytest.mark.parametrize(
    ("flat", "low", "high"),
    [
        (nn.ReLU(), 0, np.inf),
        (nn.ReLU6(), 0, 6),
        (nn.Hardtanh(), -1, 1),
        (nn.Hardsigmoid(), -3, 3),
        (nn.Threshold(0.5, -1), 0.5, np.inf),
        (lambda x: F.relu(x, inplace=True), 0, np.inf),
    ],
)
def test_every_flat_activation_is_known(flat, low, high):
    x = torch.linspace(-7, 7, 29, dtype=torch.float64)[None] + 0.01
    inside = int(((x > low) & (x < high)).sum())
    assert caps(flat, x) == (29, inside)


@pytest.mark.parametrize("shrink", [nn.Hardshrink(0.5), nn.Softshrink(0.5)])
def test_shrinkage_is_flat_in_the_middle(shrink):
    x = torch.linspace(-2, 2, 17, dtype=torch.float64)[None] + 0.01
    assert caps(shrink, x) == (17, int((x.abs() > 0.5).sum()))


@pytest.mark.parametrize("smooth", [nn.LeakyReLU(), nn.ELU(), nn.GELU(), nn.Softplus(), nn.SiLU()])
def test_activations_that_are_flat_nowhere_claim_nothing(smooth):
    assert caps(smooth, torch.randn(1, 20)) == (20, 20)


def test_branches_around_a_relu_lift_its_cap():
    assert caps(lambda x: x + torch.relu(x), torch.randn(1, 20)) == (20, 20)
    assert caps(lambda x: torch.relu(x) - torch.relu(-x), torch.randn(1, 20)) == (20, 20)


def test_a_relu_after_the_sum_caps_again():
    x = torch.randn(1, 20, dtype=torch.float64)
    assert caps(lambda t: torch.relu(t + t.sin()), x) == (20, int((x + x.sin() > 0).sum()))


def test_a_narrow_layer_beside_a_skip_is_no_bottleneck():
    narrow = nn.Sequential(nn.Linear(12, 2), nn.Linear(2, 12)).double()
    assert caps(lambda x: x + narrow(x), torch.randn(1, 12)) == (12, 12)


def test_a_narrow_layer_before_two_branches_is_one():
    narrow = nn.Linear(12, 2).double()
    wide = nn.Linear(2, 12).double()

    def f(x):
        h = narrow(x)
        return wide(h).sin() + wide(h)

    assert caps(f, torch.randn(1, 12)) == (2, 2)


def test_parts_of_the_input_that_are_left_out_count_only_once():
    # The slice has four elements; the two halves of it are joined again.
    assert caps(lambda x: torch.cat([x[:, :2], x[:, 2:4]], -1), torch.randn(1, 9)) == (4, 4)


def test_an_output_that_ignores_the_input_claims_nothing():
    J = Jacobian(lambda x: torch.ones(3, dtype=x.dtype), torch.randn(1, 5))
    assert bottleneck(J).width == 3


def test_a_thousand_layers_are_no_recursion(chain):
    net = chain(nn.ReLU, 1500, 2, weights="orthogonal", gain=1.0)
    assert bottleneck(Jacobian(net, torch.randn(1, 2))).width == 2


def test_a_network_doubling_its_paths_at_every_layer_is_counted_exactly():
    def f(x):
        for _ in range(200):  # 2^200 paths
            x = x + x.sin()
        return torch.relu(x)

    x = torch.tensor([[-1.0, 2.0, 3.0]], dtype=torch.float64)
    assert caps(f, x)[0] == 3
    assert caps(f, x)[1] >= rank(Jacobian(f, x, self_check=False))


# ------------------------------------------------------------------ property: an upper bound

LAYERS = {
    "relu": torch.relu,
    "relu in place": lambda x: F.relu(1 * x, inplace=True),
    "hardtanh": F.hardtanh,
    "tanh": torch.tanh,
    "skip relu": lambda x: x + torch.relu(x),
    "skip": lambda x: x + 0.5 * torch.relu(x - 1),
    "two relus": lambda x: torch.cat([torch.relu(x), torch.relu(-x)], -1),
    "half": lambda x: torch.cat([torch.relu(x[..., ::2]), x[..., 1::2]], -1),
    "chunk": lambda x: torch.cat([torch.relu(c) for c in x.chunk(2, -1)], -1),
    "unbind": lambda x: torch.stack([torch.relu(c) for c in x.unbind(-1)], -1),
    "gate": lambda x: torch.relu(x) * torch.sigmoid(x),
    "norm": lambda x: x / (1 + x.norm()),
    "slice in place": lambda x: _slice_in_place(x),
    "view in place": lambda x: _view_in_place(x),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "max": lambda x: torch.maximum(torch.relu(x), x.flip(-1)),
    "expand": lambda x: torch.relu(x[..., None].expand(*x.shape, 3)).flatten(-2),
}


def _slice_in_place(x):
    h = x * 1
    h[..., 0] = torch.relu(x[..., 0])
    return h


def _view_in_place(x):
    h = x * 1
    h.view(-1)[:2].relu_()
    return h


@settings(max_examples=150)
@given(
    names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4),
    widths=st.lists(st.integers(2, 7), min_size=5, max_size=5),
    batch=st.integers(1, 2),
    seed=st.integers(0, 2**31),
)
def test_the_bound_is_never_below_the_true_rank(names, widths, batch, seed):
    g = torch.Generator().manual_seed(seed)

    def weight(i, n_in):
        own = torch.Generator().manual_seed(seed + i)
        return torch.randn(n_in, widths[i], generator=own, dtype=torch.float64)

    def net(x):
        for i, name in enumerate(names):
            x = LAYERS[name](x @ weight(i, x.shape[-1]))
        return x

    J = Jacobian(net, torch.randn(batch, 5, generator=g, dtype=torch.float64), self_check=False)
    found = bottleneck(J)
    assert rank(J) <= found.alive <= found.width <= min(J.shape)
