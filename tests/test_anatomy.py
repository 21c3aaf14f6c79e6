"""What the modules tell, and what they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isometry import anatomy


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return x + torch.relu(self.a(x))


def test_a_chain_is_its_weights_in_order():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Tanh())
    read = anatomy.read(net)
    assert read.kinds == ("Linear", "Linear")
    assert read.activations == ("Tanh",)
    assert read.why_not_chain == ""
    assert read.chain.activation == "Tanh"
    assert read.chain.activations == 2
    for found, layer in zip(read.chain.weights, (net[0], net[2]), strict=True):
        assert found.dtype == np.float64
        assert np.array_equal(found, layer.weight.detach().numpy())


def test_nested_containers_and_what_passes_through_are_seen_through():
    net = nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU())), nn.Dropout(),
        nn.Identity(), nn.Linear(3, 3),
    )  # fmt: skip
    chain = anatomy.read(net).chain
    assert len(chain.weights) == 2
    assert (chain.activation, chain.activations) == ("ReLU", 1)


def test_a_linear_network_has_no_activation():
    chain = anatomy.read(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))).chain
    assert (chain.activation, chain.activations, len(chain.weights)) == (None, 0, 2)
    assert anatomy.read(nn.Linear(3, 3)).chain.activation is None


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (torch.sin, "a function, not a module, was given"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), "it holds a Conv2d"),
        (nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), "it holds a LayerNorm"),
        (nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1)), "it holds a Softmax"),
        (nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 3)), "it holds an Embedding"),
        (nn.LSTM(3, 3), "it holds an LSTM"),
        (nn.GRU(3, 3), "it holds a GRU"),
        (Skip(), "it holds a Skip"),
        (nn.Sequential(nn.Linear(4, 4), Skip()), "it holds a Skip"),
        (nn.Tanh(), "it has no Linear layer"),
        (nn.Sequential(), "it has no Linear layer"),
        (
            nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.ReLU()),
            "its activations differ: ReLU, Tanh",
        ),
        (nn.Sequential(nn.Tanh(), nn.Linear(3, 3)), "do not alternate"),
        (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Tanh()), "do not alternate"),
        (nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Tanh()), "do not alternate"),
    ],
)
def test_what_is_no_plain_chain_is_said(model, words):
    read = anatomy.read(model)
    assert read.chain is None
    assert words in read.why_not_chain


def test_a_subclass_of_sequential_may_run_its_layers_differently():
    class Backwards(nn.Sequential):
        def forward(self, x):
            for layer in reversed(self):
                x = layer(x)
            return x

    assert anatomy.read(Backwards(nn.Linear(3, 3), nn.Tanh())).chain is None


def test_kinds_and_activations_are_read_in_any_network():
    read = anatomy.read(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), Skip(), nn.GELU(), nn.ReLU()))
    assert read.kinds == ("Conv2d", "Linear")
    assert read.activations == ("ReLU", "GELU")
    assert anatomy.read(torch.sin) == anatomy.read(torch.cos)


def test_attention_and_softmax_are_no_activations():
    for module in (nn.MultiheadAttention(4, 2), nn.Softmax(-1), nn.GLU(), nn.Linear(2, 2)):
        assert not anatomy.is_activation(module)
    for module in (nn.ReLU(), nn.PReLU(), nn.Tanh(), nn.SELU()):
        assert anatomy.is_activation(module)
