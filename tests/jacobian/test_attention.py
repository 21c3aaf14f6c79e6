"""Attention's memory on the plain kernel is known before it is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import isometry
from isometry import Jacobian, MemoryBudgetError

HEADS, WIDTH = 2, 8


class Attention(nn.Module):
    def forward(self, x):
        q = x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)
        return F.scaled_dot_product_attention(q, q, q, is_causal=True).transpose(1, 2).flatten(2)


def test_a_sequence_whose_scores_do_not_fit_is_refused_before_they_are_formed():
    positions = 2**13
    x = torch.randn(1, positions, WIDTH)
    with pytest.raises(MemoryBudgetError, match="attention needs 4 GB on the plain kernel"):
        Jacobian(Attention(), x, memory=2**28)
    with pytest.raises(MemoryBudgetError, match="give a shorter sequence, or allow it with"):
        isometry.analyze(Attention(), x, memory=2**28)


def test_tables_that_are_large_but_fit_are_noted_and_narrow_the_blocks():
    x = torch.randn(1, 64, WIDTH, dtype=torch.float64)
    table = 2 * 8 * HEADS * 64**2  # scores and their softmax, in bytes
    J = Jacobian(Attention(), x, memory=5 * table)
    assert J.notes[-1] == "attention takes 256 KB on the plain kernel"
    whole = Jacobian(Attention(), x)
    assert len(whole.notes) == len(J.notes) - 1
    dense = 2 * 8 * (64 * WIDTH) ** 2
    narrow = J.dense(memory=dense + 5 * table)
    torch.testing.assert_close(narrow, whole.dense(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "net",
    [
        Attention(),
        nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True), 3),
    ],
    ids=["function", "layer", "three layers"],
)
def test_every_layer_is_counted(net):
    J = Jacobian(net.eval(), torch.randn(1, 64, WIDTH), self_check=False)
    layers = max(1, sum(isinstance(m, nn.MultiheadAttention) for m in net.modules()))
    assert J._attention.elements == [HEADS * 64**2] * layers


def test_the_look_leaves_the_function_in_place():
    before = F.scaled_dot_product_attention
    Jacobian(Attention(), torch.randn(1, 64, WIDTH), self_check=False)
    assert F.scaled_dot_product_attention is before
