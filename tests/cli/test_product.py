"""Chains deeper than float64 can follow, from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

FACTORY = '''
import torch
from torch import nn

DIAGONAL = torch.tensor([9.0, 3.0, 1.5, 1.0, 0.8, 0.5, 0.2, 0.1], dtype=torch.float64)


def deep(depth=2000, width=8):
    """W_i = Q_i diag(d) Q_(i-1)^T: the weights multiply to Q_L diag(d^L) Q_0^T."""
    g = torch.Generator().manual_seed(0)
    turn = [nn.init.orthogonal_(torch.empty(width, width, dtype=torch.float64), generator=g)
            for _ in range(depth + 1)]
    layers = []
    for before, after in zip(turn, turn[1:]):
        layer = nn.Linear(width, width, bias=False, dtype=torch.float64)
        layer.weight.data = after @ torch.diag(DIAGONAL) @ before.T
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.layer(x)
'''


@pytest.fixture
def deep(place, array):
    (place / "deep_chains.py").write_text(FACTORY)
    return ("--model", "deep_chains:deep", "--input", array(np.zeros(8)))


def test_two_thousand_layers_are_measured_exactly(isometry, deep, place):
    ended = isometry("analyze", *deep, "--method", "product", "--json", "r.json")
    assert ended.code == 0, ended.err
    report = json.loads((place / "r.json").read_text(encoding="utf-8"))
    expected = 2000 * np.log([9, 3, 1.5, 1, 0.8, 0.5, 0.2, 0.1])
    assert report["spectrum"]["log_sigma"] == pytest.approx(expected, abs=1e-9)
    assert (report["spectrum"]["method"], report["spectrum"]["log_floor"]) == (
        "graded product",
        "-inf",
    )
    assert report["score"]["gain"] == report["score"]["condition"] == "inf"
    assert report["score"]["log_gain"] == pytest.approx(expected[0] - np.log(8) / 2, abs=1e-9)
    assert report["score"]["value"] == pytest.approx(1 / 8)
    assert "gain        1.080e+1908  root mean square" in ended.out
    assert "condition   3.06e+3908  σ_max / σ_min" in ended.out


def test_what_is_no_chain_is_refused_in_one_line(refused, deep):
    residual = ("--model", "deep_chains:Residual", *deep[2:])
    refused(2, "Residual is no chain of modules", "analyze", *residual, "--method", "product")
    refused(2, "cannot serve stop", "analyze", *deep, "--method", "product", "--stop", "3")
