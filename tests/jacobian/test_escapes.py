"""What the code of a network may do to the measurement besides computing."""

import copy
import dataclasses
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import Function

import isometry
from isometry.errors import InputError, MeasurementError
from isometry.jacobian import Jacobian


class Raising(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.table, self.first, self.second = nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.error = error

    def forward(self, x):
        self.first(x if x.is_floating_point() else self.table(x))
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no"), RecursionError("no")])
@pytest.mark.parametrize("options", [{}, {"start": "first"}, {"stop": "second"}])
@pytest.mark.parametrize("x", [torch.ones(1, 3), torch.tensor([[1, 2]])])
def test_whatever_forward_raises_is_one_line(error, options, x):
    words = "recurses without end" if isinstance(error, RecursionError) else "raised .* no; run it"
    with pytest.raises(InputError, match=words):
        Jacobian(Raising(error), x, **options)


def test_an_interrupt_of_the_users_is_let_through():
    with pytest.raises(KeyboardInterrupt):
        Jacobian(Raising(KeyboardInterrupt()), torch.ones(1, 3), start="first")


class Leaving(Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        sys.exit(3)


@pytest.mark.parametrize("product", [lambda J: J.T @ torch.ones(3), lambda J: J.dense()])
def test_a_backward_that_ends_the_program_is_refused(product):
    with pytest.raises(MeasurementError, match="ISO305"):
        product(Jacobian(Leaving.apply, torch.ones(1, 3)))
    J = Jacobian(Leaving.apply, torch.ones(1, 3), self_check=False)
    with pytest.raises(MeasurementError, match=r"the network called sys\.exit"):
        J.T @ torch.ones(3)


def chain():
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Sequential(nn.Linear(3, 3), nn.Tanh()))


def test_a_stop_before_the_start_is_refused():
    with pytest.raises(InputError, match="'0' has run before '1' begins: give --start"):
        Jacobian(chain(), torch.ones(1, 3), start="1", stop="0")


@pytest.mark.parametrize(("start", "stop"), [("2", "2.0"), ("2.0", "2"), ("2", "2"), ("0", "2.1")])
def test_layers_in_one_another_may_be_start_and_stop(start, stop):
    assert Jacobian(chain(), torch.ones(1, 3), start=start, stop=stop).verify().passed


@pytest.mark.parametrize("place", ["meta", "cuda"])
def test_a_default_device_of_the_users_does_not_matter(place):
    net, x = chain(), torch.ones(1, 3)
    expected = Jacobian(net, x).dense()
    try:
        torch.set_default_device(place)
        J = Jacobian(net, x)
        assert J.verify().passed
        assert torch.equal(J.dense(), expected)
        assert J.as_linear_operator().matvec(expected[0].numpy()).shape == (3,)
        assert isometry.analyze(net, x).trustworthy
    finally:
        torch.set_default_device(None)


class Checkpoint(Function):
    """Checkpointing as it is often written: backward asks for the gradients of weights itself."""

    @staticmethod
    def forward(ctx, run, x, *weights):
        ctx.run, ctx.weights = run, weights
        ctx.save_for_backward(x)
        with torch.no_grad():
            return run(x)

    @staticmethod
    def backward(ctx, g):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.run(x)
        return None, *torch.autograd.grad(y, (x, *ctx.weights), g)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = chain(), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(Checkpoint.apply(self.inner, x, *self.inner.parameters()))


def test_checkpointing_that_wants_the_gradients_of_weights():
    net, x = Checkpointed(), torch.randn(1, 3)
    expected = Jacobian(nn.Sequential(net.inner, net.head), x).dense()
    J = Jacobian(net, x)
    torch.testing.assert_close(J.dense(), expected)
    torch.testing.assert_close(J.T @ torch.eye(2).double(), expected.T)
    assert any("autograd.grad beside the weights" in note for note in J.notes)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.kept = SimpleNamespace(row=self.layer.weight.data[0])

    def forward(self, x):
        self.kept.row.fill_(2.0)
        return self.layer(x)


def test_a_view_in_an_object_is_followed():
    net, x = Hidden(), torch.ones(1, 3)
    before = copy.deepcopy(net.state_dict())
    truth = net.layer.weight.detach().double().clone()
    truth[0] = 2.0
    torch.testing.assert_close(Jacobian(net, x).dense(), truth)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert net.kept.row.data_ptr() == net.layer.weight.data_ptr()


class Reader(nn.Module):
    """It reads a buffer of its own through an object."""

    def __init__(self):
        super().__init__()
        self.register_buffer("c", torch.zeros(3))
        self.kept = SimpleNamespace(inner=SimpleNamespace(key=self.c))

    def forward(self, x):
        self.c.copy_(x[0].detach())
        return x * self.kept.inner.key + 0.5 * x


def test_a_buffer_read_through_an_object_is_the_one_that_was_written():
    net, x = Reader(), torch.tensor([[0.3, 0.7, 1.1]])
    found = isometry.spectrum(net, x, check_itself=False).singular_values
    assert found == pytest.approx([1.6, 1.2, 0.8], rel=1e-6)
    assert not net.c.any()


ROWS = {}


class Global(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        ROWS["row"] = self.layer.weight.data[0]

    def forward(self, x):
        ROWS["row"].mul_(0.5)
        return self.layer(x)


@pytest.mark.parametrize("measure", [Jacobian, isometry.analyze, isometry.spectrum])
def test_a_weight_written_through_a_global_is_refused_and_given_back(measure):
    net = Global()
    before = net.layer.weight.detach().clone()
    with pytest.raises(MeasurementError, match="forward writes to 'weight' through an object"):
        measure(net, torch.ones(1, 3))
    assert torch.equal(net.layer.weight, before)


class Base(nn.Module):
    cache = {}  # noqa: RUF012 - the point is that instances share it

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)


class Child(Base):
    def forward(self, x):
        if x.shape not in self.cache:
            self.cache[x.shape] = x.sin()
        return self.layer(x) * self.cache[x.shape]


def test_a_cache_on_a_base_class_is_put_back():
    isometry.analyze(Child(), torch.ones(1, 3))
    assert Base.cache == {}


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.seen = Counter(calls=3, other=1)

    def forward(self, x):
        return self.layer(x)


def test_a_counter_keeps_its_counts():
    net = Counting()
    isometry.analyze(net, torch.ones(1, 3))
    assert net.seen == Counter(calls=3, other=1)


class Sparse(nn.Module):
    def __init__(self, layout):
        super().__init__()
        graph = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("a", graph.to_sparse() if layout == "coo" else graph.to_sparse_csr())
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(torch.sparse.mm(self.a, x.T).T)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_sparse_buffers_are_lent(layout):
    net = Sparse(layout)
    truth = net.layer.weight.detach().double() * torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(Jacobian(net, torch.ones(1, 3)).T.dense().T, truth)


def test_a_replaced_method_of_a_plain_layer_is_code_of_the_users_own():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    plain, x = net[0]._conv_forward, torch.ones(1, 1, 4, 4)

    def patched(input, weight, bias):
        patched.calls += 1
        torch.rand(1)
        return 2 * plain(input, weight, bias)

    patched.calls = 0
    net[0]._conv_forward = patched
    state = torch.get_rng_state()
    doubled = Jacobian(net, x).dense()
    assert torch.equal(torch.get_rng_state(), state)
    del net[0]._conv_forward
    torch.testing.assert_close(doubled, 2 * Jacobian(net, x).dense())


@dataclasses.dataclass
class State:
    seen: list
    scale: torch.Tensor


def test_an_object_among_the_arguments_is_not_changed():
    def forward(x, state):
        state.seen.append(x)
        state.scale.mul_(2)
        return x * state.scale * len(state.seen)

    state = State([], torch.tensor(1.5))
    J = Jacobian(forward, (torch.ones(3), state))
    torch.testing.assert_close(J.dense(), 3 * torch.eye(3).double())
    assert state.seen == []
    assert state.scale == 1.5


def test_an_exported_program_says_which_shapes_it_takes():
    program = torch.export.export(chain(), (torch.ones(2, 3),)).module()
    assert Jacobian(program, torch.ones(2, 3)).verify().passed
    with pytest.raises(InputError, match=r"size\(\)\[0\] == 2; it was exported for other shapes"):
        Jacobian(program, torch.ones(1, 3))
