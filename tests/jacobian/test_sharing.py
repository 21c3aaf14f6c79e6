"""Weights that are lent without a copy, where nothing writes to them."""

from __future__ import annotations

import torch
from torch import nn

from isometry.jacobian.lent import LentWeights, sharing
from isometry.jacobian.modules import modules_of
from isometry.measure import chain

CPU = torch.device("cpu")


class Own(nn.Linear):
    """Code of the user's own, which may write to its weight."""

    def forward(self, x):
        with torch.no_grad():
            self.weight.mul_(0.5)
        return super().forward(x)


def shares(model: nn.Module, dtype: torch.dtype = torch.float64) -> bool:
    """Whether a layer runs on its own memory."""
    model.double()
    lent = LentWeights(modules_of(model), dtype, CPU)
    own = model[0].weight.data_ptr()
    with lent:
        return model[0].weight.data_ptr() == own


def test_copies_are_saved_only_where_asked_for_and_safe():
    plain = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    assert not shares(plain)
    with sharing():
        assert shares(plain)
        assert not shares(plain, torch.float32)
        assert not shares(nn.Sequential(Own(4, 4)))
        assert not shares(nn.Sequential(nn.Embedding(4, 4, max_norm=1.0)))
    assert not shares(plain)


def test_a_chain_is_measured_on_its_own_weights_and_left_as_it_was():
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(8, 8), nn.BatchNorm1d(8))])
    model.double()
    before = {name: (t.clone(), t.data_ptr()) for name, t in model.state_dict().items()}
    versions = [p._version for p in model.parameters()]
    found = chain(model, torch.randn(1, 8))
    assert found.unresolved == 0
    assert [p._version for p in model.parameters()] == versions
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name][0])
        assert t.data_ptr() == before[name][1]
