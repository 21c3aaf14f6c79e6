"""Networks that write to their own weights and buffers, under one name or another."""

from collections import deque, namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from isometry.coverage.traces import changed, traces
from isometry.errors import InputError
from isometry.jacobian import Jacobian
from isometry.jacobian.alias import Alias, overlapping

Pair = namedtuple("Pair", "name view")


class Network(nn.Module):
    """x ↦ c ∘ W x with ones for W and for c, which lie in memory as `make` says."""

    def __init__(self, make, write):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))
        self.register_buffer("scale", torch.ones(3))
        make(self)
        self.write = write

    def forward(self, x):
        self.write(self, x)
        return F.linear(x, self.weight) * self.scale


def keep(name, value):
    return lambda net: setattr(net, name, value(net))


def buffer(name, value):
    return lambda net: net.register_buffer(name, value(net))


def complex_scale(net):
    net.register_buffer("whole", torch.ones(3, dtype=net.scale.dtype.to_complex()))
    net.scale = torch.view_as_real(net.whole)[:, 0]


def conjugate_scale(net):
    complex_scale(net)
    net.mirror = net.whole.conj()
    net.below = net.mirror.imag


def in_numpy(net):
    array = np.ones(6, dtype=np.float32 if net.scale.dtype == torch.float32 else np.float64)
    net.scale, net.other = torch.from_numpy(array[:3]), torch.from_numpy(array[2:])


def two(view):
    return lambda net, x: view(net).fill_(2.0)


ROW = torch.tensor([[2.0, 2, 2], [1, 1, 1], [1, 1, 1]])
LAST = torch.tensor([[1.0, 1, 1], [1, 1, 1], [2, 2, 2]])
ALL = torch.full((3, 3), 2.0)

# How it is made, what forward writes, and J.
# fmt: off
ALIASES = {
    "a buffer that views a weight": (
        buffer("row", lambda n: n.weight.data[0]), two(lambda n: n.row), ROW),
    "an attribute": (keep("row", lambda n: n.weight.data[0]), two(lambda n: n.row), ROW),
    "a list": (keep("rows", lambda n: [n.weight.data[0]]), two(lambda n: n.rows[0]), ROW),
    "a list in a mapping": (
        keep("rows", lambda n: {"a": [n.weight.data[0]]}), two(lambda n: n.rows["a"][0]), ROW),
    "a tuple": (keep("rows", lambda n: (0, n.weight.data[0])), two(lambda n: n.rows[1]), ROW),
    "a tuple in a tuple": (
        keep("rows", lambda n: ((n.weight.data[0],),)), two(lambda n: n.rows[0][0]), ROW),
    "a named tuple": (
        keep("rows", lambda n: Pair("first", n.weight.data[0])), two(lambda n: n.rows.view), ROW),
    "a list in a tuple": (
        keep("rows", lambda n: ([n.weight.data[0]],)), two(lambda n: n.rows[0][0]), ROW),
    "a deque": (keep("rows", lambda n: deque([n.weight.data[0]])), two(lambda n: n.rows[0]), ROW),
    "the buffer itself in a list": (
        keep("held", lambda n: [n.scale]), two(lambda n: n.held[0][:1]), ROW),
    "a transposed weight": (
        keep("turned", lambda n: nn.Parameter(n.weight.data.T)), two(lambda n: n.turned.data[:, 0]),
        ROW),
    "an expanded tensor": (
        buffer("scale", lambda n: torch.ones(1, dtype=n.scale.dtype).expand(3)),
        two(lambda n: n.scale[0]), ALL),
    "a complex buffer": (complex_scale, two(lambda n: n.whole[:1]), ROW),
    "a conjugate": (conjugate_scale, two(lambda n: n.mirror[:1]), ROW),
    "two arrays of one memory": (in_numpy, two(lambda n: n.other[0]), LAST),
}
# fmt: on


def network(name, dtype):
    """The network in that precision from the start: a conversion would part what is shared."""
    make, write, expected = ALIASES[name]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return Network(make, write), expected.double()
    finally:
        torch.set_default_dtype(before)


PRODUCTS = {
    "dense": lambda J: J.dense(),
    "forward": lambda J: J @ torch.eye(3).double(),
    "reverse": lambda J: (J.T @ torch.eye(3).double()).T,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALIASES)
def test_what_views_one_memory_goes_on_doing_so(name, dtype):
    net, expected = network(name, dtype)
    before = traces(net)
    for product in PRODUCTS.values():
        J = Jacobian(net, torch.ones(1, 3))
        assert J.dtype == torch.float64
        assert torch.equal(product(J), expected)
    assert not changed(before, traces(net))


def bits(net):
    net.register_buffer("bits", net.scale.view(torch.int32))


def doubled(net, x):
    net.bits.add_(1 << 23)  # one more in the exponent


def test_two_readings_of_one_memory_are_measured_in_its_own_precision():
    net = Network(bits, doubled)
    J = Jacobian(net, torch.ones(1, 3))
    assert J.dtype == torch.float32
    assert torch.equal(J.dense(), ALL)
    assert any("'scale' (float32) and 'bits' (int32) view one memory" in note for note in J.notes)
    with pytest.raises(InputError, match=r"'scale' .* and 'bits' .* view one memory, which no"):
        Jacobian(net, torch.ones(1, 3), dtype=torch.float64)


def test_parts_of_one_memory_that_do_not_meet_are_no_aliases():
    memory = torch.zeros(64, dtype=torch.uint8)
    floats, integers = memory[:32].view(torch.float32), memory[32:].view(torch.int64)
    assert overlapping([floats, integers, torch.zeros(2)]) == []
    several = overlapping([floats, memory, integers])
    assert [len(ts) for ts in several] == [3]


def test_a_copy_is_viewed_as_the_memory_was():
    whole = torch.randn(4, 6, dtype=torch.complex64)
    views = [whole, whole[1].conj(), whole.T[2:4], whole.imag[:, ::2], whole.conj().imag[0]]
    alias = Alias([(str(i), t) for i, t in enumerate(views)], torch.float64, torch.device("cpu"))
    found = alias.views(alias.base.clone())
    assert all(torch.equal(a.to(b.dtype), b) for a, b in zip(found, views, strict=True))
    assert found[0].dtype == torch.complex128
    found[0][1, 0] = 3 + 4j
    assert (found[1][0], found[3][1, 0]) == (3 - 4j, 4)


def constrained(net, x):
    net.weight.data = torch.renorm(net.weight.data, 2, 0, 0.5)


def clamped(net, x):
    with torch.no_grad():
        net.weight.clamp_(0.1, 0.3)


def clamped_data(net, x):
    net.weight.data.clamp_(0.1, 0.3)


def decayed(net, x):
    net.weight.data.mul_(0.5)


def divided(net, x):
    with torch.no_grad():
        net.weight /= 4


WRITES = {constrained: 0.5 / 3**0.5, clamped: 0.3, clamped_data: 0.3, decayed: 0.5, divided: 0.25}


@pytest.mark.parametrize("write", WRITES)
def test_a_forward_that_writes_to_its_weight_starts_from_the_same_one_each_time(write):
    # Setting `data` inside a function transform of PyTorch's kills the process.
    net, expected = Network(lambda _: None, write).double(), torch.full((3, 3), WRITES[write])
    before = traces(net)
    J = Jacobian(net, torch.ones(1, 3))
    for product in PRODUCTS.values():
        torch.testing.assert_close(product(J), expected.double(), rtol=1e-6, atol=0)
    assert J.verify().passed
    assert not changed(before, traces(net))


def test_weights_keep_their_shape():
    net = Network(lambda _: None, lambda n, _: setattr(n.weight, "data", torch.ones(3)))
    with pytest.raises(InputError, match=r"data of shape \(3,\) set for \(3, 3\)"):
        Jacobian(net, torch.ones(1, 3))


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_embedding_that_rescales_the_weight_it_shares(wrapped):
    embedding, head = nn.Embedding(5, 3, max_norm=0.5), nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    net = nn.Sequential(embedding, nn.Tanh(), head).double()
    weight = embedding.weight.detach().clone()
    J = Jacobian(nn.Sequential(net) if wrapped else net, torch.tensor([2]))
    dense = J.dense()
    assert torch.equal(embedding.weight, weight)
    weight[2] *= min(1, 0.5 / float(weight[2].norm()))
    expected = weight @ torch.diag(1 - torch.tanh(weight[2]) ** 2)
    torch.testing.assert_close(dense, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(J.T @ torch.eye(5).double(), expected.T, atol=1e-6, rtol=0)


def appending(net, x):
    net.seen["x"].append(x.sin())
    net.scale = net.seen["x"][0]


def caching(net, x):
    net.seen.setdefault("y", x.sin())
    net.scale = net.seen["y"]


@pytest.mark.parametrize("write", [appending, caching])
def test_every_pass_finds_containers_as_they_were_given(write):
    net = Network(keep("seen", lambda _: {"x": []}), write).double()
    before = traces(net)
    x = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    expected = torch.ones(3, 3).double() * x.sin().T + torch.diag(x[0].cos()) * x.sum()
    for product in PRODUCTS.values():
        torch.testing.assert_close(product(Jacobian(net, x)), expected)
    assert not changed(before, traces(net))


def test_containers_that_hold_themselves_or_data_sets_are_left():
    def make(net):
        net.loop = [1]
        net.loop.append(net.loop)
        net.data = [torch.zeros(1)] * 2000
        net.sets = {3, 4}

    net = Network(make, lambda n, _: n.sets.clear())
    before = traces(net)
    Jacobian(net, torch.ones(1, 3)).dense()
    assert not changed(before, traces(net))
