"""What is predicted of sums, and what is said where nothing is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import isometry


def told(net, x):
    report = isometry.analyze(net, x, check_itself=False)
    skips = [n for n in report.notes if "skip" in n]
    return {p.name: p for p in report.theory}, " | ".join(skips)


class Scaled(nn.Module):
    def __init__(self, n, scale):
        super().__init__()
        self.layer, self.scale = nn.Linear(n, n), scale
        nn.init.orthogonal_(self.layer.weight, 0.8)

    def forward(self, x):
        return self.scale * x + self.layer(x)


@pytest.mark.parametrize("scale", [1.0, 0.7, -0.7])
def test_a_scaled_skip_is_added_with_its_scale(scale):
    torch.manual_seed(0)
    net = nn.Sequential(*(Scaled(128, scale) for _ in range(3)))
    found, notes = told(net, torch.randn(1, 128))
    law = found["free skips"]
    assert law.judgement.word == "agrees"
    assert "3 skips" in law.law
    assert "no free skips" not in notes
    assert "no correlated skips: not needed, for no other prediction departs" in notes


class Projected(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.one, self.other = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x):
        return self.one(x) + torch.relu(self.other(x))


def test_a_sum_without_a_skip_is_said_to_have_no_prediction():
    torch.manual_seed(0)
    found, notes = told(nn.Sequential(Projected(64), Projected(64)), torch.randn(1, 64))
    assert "free skips" not in found
    assert (
        "no free skips: 0, 1 add two ways neither of which is the input itself; measured" in notes
    )
    assert "no correlated skips: not needed" in notes


def test_a_chain_is_told_nothing_of_skips():
    torch.manual_seed(0)
    found, notes = told(nn.Sequential(nn.Linear(64, 64), nn.Tanh()), torch.randn(1, 64))
    assert "free product" in found
    assert notes == ""


def test_a_branch_that_is_nothing_yet_leaves_its_skip():
    torch.manual_seed(0)
    zero = Scaled(64, 1.0)
    nn.init.zeros_(zero.layer.weight)
    net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), zero)
    found, _ = told(net, torch.randn(1, 64))
    assert found["free skips"].score == pytest.approx(found["free product"].score)


class Token(nn.Module):
    """A class token beside the positions, alone read out."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv1d(5, 5, 1)

    def forward(self, x):
        x = torch.cat([torch.ones_like(x[:, :1]).detach(), x], 1)
        return (x + self.mix(x))[:, 0]


def test_what_is_filled_in_and_selected_again_has_no_theory():
    torch.manual_seed(0)
    net = nn.Sequential(Token(), nn.Linear(16, 8))
    report = isometry.analyze(net, torch.randn(1, 4, 16), check_itself=False)
    assert report.theory == ()
    assert "selects among the entries that" in " | ".join(report.notes)


def test_what_a_weight_mixes_may_be_selected():
    torch.manual_seed(0)
    pad = nn.ConstantPad1d((0, 16), 0.0)
    net = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), pad, nn.Linear(48, 48), nn.MaxPool1d(2))
    report = isometry.analyze(net, torch.randn(1, 32), check_itself=False)
    assert {p.name for p in report.theory} >= {"free product"}
