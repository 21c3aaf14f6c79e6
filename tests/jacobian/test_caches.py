"""Functions that remember their results: what is measured does not get into their memory."""

import functools
from collections import Counter

import pytest
import torch
from torch import nn

from isometry import Jacobian
from isometry.coverage.traces import changed, traces

CALLS = Counter()


@functools.lru_cache(maxsize=4)
def table_of(module, n):
    CALLS["table_of"] += 1
    return module.weight[:n].tanh()


class OfTheFile(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))

    def forward(self, x):
        return x * table_of(self, 3)

    cached = staticmethod(table_of)


class OfTheClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))

    @functools.cache  # noqa: B019 - as users write it
    def cached(self, n):
        return self.weight[:n].tanh()

    def forward(self, x):
        return x * self.cached(3)


class OfTheModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.cached = functools.lru_cache(lambda n: self.weight[:n].tanh())

    def forward(self, x):
        return x * self.cached(3)


@pytest.mark.parametrize("kind", [OfTheFile, OfTheClass, OfTheModule])
@pytest.mark.parametrize("used_before", [True, False])
def test_what_a_network_remembers_of_its_weights_stays_its_own(kind, used_before):
    net, x = kind(), torch.randn(2, 3)
    expected = torch.diag(net.weight.detach().double().tanh().repeat(2))
    if used_before:
        net(x)
    before, known = traces(net), net.cached.cache_info()
    J = Jacobian(net, x)
    assert torch.allclose(J.dense(), expected)
    assert torch.allclose(J @ torch.eye(6).double(), expected)
    assert changed(before, traces(net)) == []
    assert net.cached.cache_info() == known
    y = net(x)
    assert y.dtype == torch.float32
    assert y.requires_grad


def test_a_function_remembers_within_a_measurement():
    net = OfTheFile()
    CALLS.clear()
    Jacobian(net, torch.randn(2, 3, dtype=torch.float64)).dense()
    assert CALLS["table_of"] <= 2  # once, and once for the shapes alone


class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) @ lower(3).to(x)


@functools.lru_cache
def lower(n):
    return torch.ones(n, n).tril()


def test_no_remnant_of_a_transform_is_remembered():
    J = Jacobian(Mask(), torch.randn(1, 3))
    J.T @ torch.ones(3)
    J @ torch.ones(3)
    assert lower.cache_info().currsize == 0


def test_a_trace_in_a_memory_would_be_noticed():
    net = OfTheModule()
    before = traces(net)
    net.cached(2)
    assert changed(before, traces(net)) == ["0 OfTheModule.cached"]
