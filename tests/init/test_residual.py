"""Branches that begin small: the spectrum is then that of theory, or the identity's."""

import math

import pytest
import torch
from torch import nn

import isometry
from isometry.errors import InputError
from isometry.init import (
    biases_,
    delta_orthogonal_,
    depth_scaled_,
    fixup_,
    gain,
    gaussian_,
    skip_init_,
)
from isometry.meanfield import branch_strength


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.one, self.two = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
        self.alpha = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x + self.alpha * self.two(self.one(x).relu())


def network(blocks, n, generator):
    model = nn.Sequential(*(Block(n) for _ in range(blocks)))
    for block in model:
        gaussian_(block.one.weight, gain("relu"), generator=generator)
        gaussian_(block.two.weight, generator=generator)
    return model.double()


def values_of(model, n):
    x = torch.randn(1, n, dtype=torch.float64)
    return torch.linalg.svdvals(isometry.Jacobian(model, x).dense())


@pytest.mark.parametrize("blocks", [20, 60])
def test_scaled_by_depth_the_spread_does_not_depend_on_it(blocks, seeded):
    model = network(blocks, 200, seeded())
    for block in model:
        depth_scaled_(block.two.weight, blocks)
    logs = values_of(model, 200).log()
    theory = branch_strength(blocks**-0.5, 1.0, blocks)
    assert float(logs.std()) == pytest.approx(theory.std_log_sigma, rel=0.1)
    assert float(logs.mean()) == pytest.approx(theory.mean_log_sigma, abs=0.05)


def test_unscaled_it_does(seeded):
    logs = values_of(network(20, 100, seeded()), 100).log()
    assert float(logs.std()) > 2.0


@pytest.mark.parametrize("way", ["alpha", "fixup"])
def test_blocks_begin_as_the_identity(way, seeded):
    model = network(8, 10, seeded())
    for block in model:
        if way == "alpha":
            assert skip_init_(block.alpha) is block.alpha
        else:
            fixup_([block.one.weight, block.two.weight], 8)
    assert torch.equal(values_of(model, 10), torch.ones(10, dtype=torch.float64))


@pytest.mark.parametrize(("layers", "exponent"), [(2, -1 / 2), (3, -1 / 4), (4, -1 / 6)])
def test_fixup_scales_all_but_the_last_weight(layers, exponent):
    weights = [nn.Linear(5, 5).weight for _ in range(layers)]
    before = [w.detach().clone() for w in weights]
    assert all(a is b for a, b in zip(fixup_(weights, 16), weights, strict=True))
    for w, old in zip(weights[:-1], before, strict=False):
        torch.testing.assert_close(w.detach(), 16**exponent * old)
    assert not weights[-1].any()


def test_a_branch_of_one_layer_is_zero():
    (w,) = fixup_([torch.ones(2, 2)], 4)
    assert not w.any()


def test_depth_divides_by_its_root():
    w = torch.full((3, 3), 2.0)
    assert depth_scaled_(w, 16) is w
    assert torch.equal(w, torch.full((3, 3), 0.5))


def test_nothing_changes_when_one_of_them_cannot():
    good = torch.ones(3, 3)
    for bad in (torch.ones(3, 3, dtype=torch.int64), torch.ones(3)):
        with pytest.raises(InputError):
            fixup_([good, bad], 4)
    with pytest.raises(InputError, match="blocks is 0"):
        fixup_([good, good.clone()], 0)
    with pytest.raises(InputError, match="expected a list"):
        fixup_(good, 4)
    with pytest.raises(InputError, match="expected a list"):
        fixup_([], 4)
    with pytest.raises(InputError, match=r"blocks is 2\.5"):
        depth_scaled_(good, 2.5)
    with pytest.raises(InputError, match=r"the alpha is a dense tensor of torch.int64"):
        skip_init_(torch.ones((), dtype=torch.int64))
    assert torch.equal(good, torch.ones(3, 3))


def test_biases_have_the_deviation_asked_for(seeded):
    b = biases_(torch.empty(100_000), 0.3, generator=seeded())
    assert float(b.std()) == pytest.approx(0.3, rel=0.01)
    assert abs(float(b.mean())) < 0.003
    assert not biases_(b).any()


def test_a_plain_deep_cnn_is_isometric_where_gaussian_weights_are_not(seeded):
    def deviation(fill, q=1e-3):
        g = seeded()
        convs = [nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(50)]
        for conv in convs:
            fill(conv.weight, gain("tanh", q_star=q), generator=g)
        layers = [m for conv in convs for m in (conv, nn.Tanh())]
        x = math.sqrt(q) * torch.randn(1, 4, 3, 3, dtype=torch.float64, generator=g)
        jacobian = isometry.Jacobian(nn.Sequential(*layers).double(), x)
        return float(torch.linalg.svdvals(jacobian.dense()).log().std())

    assert deviation(delta_orthogonal_) < 0.3
    assert deviation(gaussian_) > 5.0
