"""A network that makes much of little is refused before it does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import isometry
from isometry import Jacobian, MemoryBudgetError

HUGE = 10**11  # elements; nothing here may allocate them


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConstantPad1d(HUGE, 0.0),
        nn.Upsample(scale_factor=HUGE),
        nn.AdaptiveAvgPool1d(HUGE),
        nn.Conv1d(1, 1, 1, padding=HUGE),
        nn.ConvTranspose1d(1, 1, 2, stride=HUGE),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_that_expands_without_bound_is_refused(layer):
    net, x = nn.Sequential(layer, nn.AdaptiveAvgPool1d(4)), torch.randn(1, 1, 8)
    with pytest.raises(MemoryBudgetError, match="one forward pass makes tensors of"):
        Jacobian(net, x)
    with pytest.raises(MemoryBudgetError, match="one forward pass makes tensors"):
        isometry.analyze(net, x, memory=2**20)


def test_layers_that_expand_a_little_are_measured():
    net = nn.Sequential(nn.Upsample(scale_factor=2), nn.ConstantPad1d(3, 0.0))
    assert Jacobian(net, torch.randn(1, 2, 4)).shape == (28, 8)
    with pytest.raises(MemoryBudgetError, match="the dense Jacobian is"):
        isometry.analyze(net, torch.randn(1, 2, 4), memory=100)
