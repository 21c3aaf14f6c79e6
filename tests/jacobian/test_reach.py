"""Whatever a forward changes where the network can reach it, a measurement puts back."""

from __future__ import annotations

import copy
import functools
import random
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import isometry


class Keeping(nn.Module):
    """It keeps something, and changes it in every pass."""

    def __init__(self, make, change):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.change = change
        make(self)

    def forward(self, x):
        self.change(self)
        return self.layer(x)


def keeps(value):
    return lambda net: setattr(net, "kept", value())


class Shared(Keeping):
    calls, scale, bits = 0, torch.zeros(2), [bytearray(2)]


def counted_on_its_class(net):
    Shared.calls += 1
    Shared.last = net.layer
    Shared.scale.add_(1)
    Shared.bits[0][0] += 1


def closing(net):
    seen, last, weights, array = [], None, torch.zeros(2), np.zeros(2)

    def hook(*_):
        nonlocal last
        last = len(seen)
        seen.append(last)
        weights.add_(1)
        array.__iadd__(1)

    net.layer.register_forward_hook(hook)
    net.look = lambda: (last, list(seen), weights.clone(), array.copy())


class Slotted:
    __slots__ = ("__count", "empty")

    def __init__(self):
        self.__count = 0

    def change(self):
        self.__count += 1
        self.empty = 1

    def look(self):
        return self.__count, hasattr(self, "empty")


class Rows(list):
    def __setitem__(self, *_):
        raise TypeError("rows are not replaced")


class Table(dict):
    tag = "none"

    def __setitem__(self, key, value):
        super().__setitem__(key, value + 1)


def subclassed(net):
    rows, table, names, queue = net.kept
    rows.append(2)
    rows[0].add_(1)
    table["new"] = 2
    table.tag = "changed"
    names.add("new")
    queue.append(3)


class Names(set):
    pass


class Queue(deque):
    def __init__(self):
        super().__init__([1, 2], maxlen=2)


def default(net, found=([],)):
    found[0].append(1)


def draw(net):
    g, python, numpy, old, bits = net.kept.all
    torch.rand(1, generator=g), python.random(), numpy.random(), old.rand()
    bits[0] += 1
    bits.append(1)


def states(net):
    g, python, numpy, old, bits = net.kept.all
    old = old.get_state(legacy=False)["state"]["key"]
    return g.get_state(), python.getstate(), numpy.bit_generator.state, old, bytes(bits)


def seeded():
    return [
        *(torch.Generator().manual_seed(0), random.Random(0), np.random.default_rng(0)),
        *(np.random.RandomState(0), bytearray(b"abc")),
    ]


# How it is made, what every pass changes, and how that looks.
# fmt: off
KEPT = {
    "an array in mappings": (
        keeps(lambda: {"a": {"b": {"c": np.zeros(2)}}}),
        lambda n: n.kept["a"]["b"]["c"].__iadd__(1), lambda n: n.kept["a"]["b"]["c"].copy()),
    "generators in an object": (
        keeps(lambda: SimpleNamespace(all=seeded())), draw, states),
    "the class": (
        lambda n: None, counted_on_its_class,
        lambda n: (Shared.calls, hasattr(Shared, "last"), Shared.scale + 0, bytes(Shared.bits[0]))),
    "what a hook closes over": (closing, lambda n: None, lambda n: n.look()),
    "slots": (keeps(Slotted), lambda n: n.kept.change(), lambda n: n.kept.look()),
    "containers of classes of the user's own": (
        keeps(lambda: (Rows([torch.zeros(2), 1]), Table(a=1), Names("x"), Queue())), subclassed,
        lambda n: (list(n.kept[0]), n.kept[0][0].clone(), dict(n.kept[1]), vars(n.kept[1]).copy(),
                   set(n.kept[2]), list(n.kept[3]))),
    "an object that had nothing": (
        keeps(lambda: SimpleNamespace()), lambda n: setattr(n.kept, "new", 1),
        lambda n: vars(n.kept).copy()),
    "an argument by default": (
        lambda n: None, default, lambda n: list(default.__defaults__[0][0])),
}
# fmt: on


def same(a, b):
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    return bool((a == b).all()) if isinstance(a, (torch.Tensor, np.ndarray)) else a == b


@pytest.mark.parametrize("where", KEPT)
def test_whatever_forward_changes_is_put_back(where):
    make, change, look = KEPT[where]
    net = Shared(make, change)
    x, before = torch.randn(1, 3), look(net)
    net(x)
    assert not same(look(net), before)
    before = look(net)
    isometry.analyze(net, x)
    assert same(look(net), before)


def test_what_a_function_closes_over_is_put_back():
    calls, weight, generator = 0, torch.eye(3), torch.Generator().manual_seed(0)

    def forward(x):
        nonlocal calls
        calls += 1
        weight[0, 0].fill_(2.0)
        torch.rand(1, generator=generator)
        return x @ weight

    state = generator.get_state()
    expected = torch.diag(torch.tensor([2.0, 1, 1], dtype=torch.float64))
    assert torch.equal(isometry.Jacobian(forward, torch.ones(1, 3)).dense(), expected)
    assert calls == 0
    assert torch.equal(weight, torch.eye(3))
    assert torch.equal(generator.get_state(), state)


class Hidden:
    __slots__ = ("module",)

    def __init__(self, module):
        self.module = module


@pytest.mark.parametrize(
    "hide",
    [
        lambda m: [[[[[[m]]]]]],
        lambda m: [0] * 1500 + [m],
        lambda m: {i: {"x": i} for i in range(1500)} | {"last": ({"m": m},)},
        Hidden,
        lambda m: functools.partial(lambda inner, x: inner(x), m),
    ],
    ids=["deep", "long", "long and deep", "slots", "partial"],
)
def test_modules_are_found_wherever_they_are(hide):
    inner = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    net = nn.Linear(3, 3)
    net.hidden = hide(inner)
    net.register_forward_hook(lambda m, args, y: inner(y))
    before = inner[0].running_mean.clone()
    truth = copy.deepcopy(net.weight).detach().double() / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(isometry.Jacobian(net, torch.ones(2, 3)[:1]).dense(), truth)
    assert inner.training
    assert inner[0].training
    assert torch.equal(inner[0].running_mean, before)


def test_more_than_can_be_looked_at_is_said():
    net = Keeping(keeps(lambda: list(range(60_000))), lambda _: None)
    assert not any("100,000" in note for note in isometry.Jacobian(net, torch.ones(1, 3)).notes)
    net.more = list(range(60_000))
    assert any("100,000" in note for note in isometry.Jacobian(net, torch.ones(1, 3)).notes)


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls, self.scale = nn.Linear(3, 3), 0, torch.ones(3)
        self.seen = torch.jit.Attribute([0], list[int])

    def forward(self, x):
        self.calls += 1
        self.seen.append(self.calls)
        self.scale.mul_(2)
        return self.layer(x) * self.scale


@pytest.mark.filterwarnings("ignore")
def test_attributes_of_torchscript_are_put_back():
    net = torch.jit.script(Scripted()).eval()
    J = isometry.Jacobian(net, torch.ones(1, 3))
    torch.testing.assert_close(J.dense(), 2 * net.layer.weight.detach().double())
    assert (net.calls, net.seen) == (0, [0])
    assert torch.equal(net.scale, torch.ones(3))


ACTIVATIONS = {}


def keeping(module, _inputs, output):
    ACTIVATIONS[type(module).__name__] = output


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_global_that_a_hook_fills_is_put_back(everywhere):
    net, x = nn.Sequential(nn.Linear(3, 3), nn.Tanh()), torch.ones(1, 3)
    on_all = torch.nn.modules.module.register_module_forward_hook
    taken_off = on_all(keeping) if everywhere else net[1].register_forward_hook(keeping)
    try:
        y = net(x)
        before = dict(ACTIVATIONS)
        J = isometry.Jacobian(net, x)
        J.dense(), J @ torch.ones(3)
    finally:
        taken_off.remove()
    assert before["Tanh"] is y
    assert list(ACTIVATIONS.items()) == list(before.items())
    ACTIVATIONS.clear()
