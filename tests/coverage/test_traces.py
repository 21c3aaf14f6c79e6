"""`traces` notices whatever a measurement could leave behind."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from isometry.coverage.traces import changed, traces


class Holding(nn.Linear):
    """Holds something of each kind."""

    def __init__(self):
        super().__init__(2, 2)
        self.register_buffer("buffer", torch.zeros(2, dtype=torch.bfloat16))
        self.plain = torch.zeros(2)
        self.listed = [torch.zeros(2), {"deep": torch.zeros(2)}]
        self.array = np.zeros(2)
        self.generators = (torch.Generator(), np.random.default_rng(0), random.Random(0))
        self.config = type("Config", (), {})()
        self.config.kernel = "grouped"
        self.parts = [nn.BatchNorm1d(2)]
        self.weight.grad = torch.ones(2, 2)


CHANGES = {
    "a weight": lambda net: net.weight.data.mul_(1 + 1e-7),
    "a weight of another identity": lambda net: setattr(net, "weight", nn.Parameter(net.weight)),
    "a sign of zero": lambda net: net.buffer.neg_(),
    "a gradient": lambda net: net.weight.grad.add_(1),
    "a lost gradient": lambda net: net.zero_grad(),
    "a frozen weight": lambda net: net.bias.requires_grad_(False),
    "the mode": lambda net: net.eval(),
    "the mode of a layer in a list": lambda net: net.parts[0].eval(),
    "a hook": lambda net: net.register_forward_hook(lambda *_: None),
    "a plain tensor": lambda net: net.plain.add_(1),
    "a tensor in a list": lambda net: net.listed[0].add_(1),
    "a tensor deeper": lambda net: net.listed[1]["deep"].add_(1),
    "a longer list": lambda net: net.listed.append(1),
    "an array": lambda net: net.array.__iadd__(1),
    "a generator": lambda net: torch.rand(1, generator=net.generators[0]),
    "a generator of NumPy": lambda net: net.generators[1].random(),
    "a generator of Python": lambda net: net.generators[2].random(),
    "a configuration": lambda net: setattr(net.config, "kernel", "batched"),
    "a new attribute": lambda net: setattr(net, "grown", 1),
    "a random number": lambda net: torch.rand(()),
    "a random number of NumPy": lambda net: np.random.rand(),
    "a random number of Python": lambda net: random.random(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed_and_named(change):
    net = Holding()
    before = traces(net)
    assert changed(before, traces(net)) == []
    change(net)
    assert len(changed(before, traces(net))) in (1, 2)


def test_modules_behind_a_function_are_seen():
    net = nn.Linear(2, 2)
    function = lambda x: net(x).sin()  # noqa: E731
    before = traces(function)
    net.weight.data += 1
    assert changed(before, traces(function)) == ["0 Linear._parameters"]


def test_looking_leaves_no_trace():
    net = Holding()
    before = traces(net)
    for _ in range(3):
        traces(net)
    assert changed(before, traces(net)) == []
