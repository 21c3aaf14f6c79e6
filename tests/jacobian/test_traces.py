"""The measured model is as it was, bit for bit, also when something raises."""

from __future__ import annotations

import functools
import random
from contextlib import suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

import isometry
from isometry import InputError, IsometryError


class TrainingBatchNorm(nn.Module):
    """Updates its buffers at every call, whatever its flags say."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("var", torch.ones(6))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls += 1
        h = self.linear(x).reshape(1, 6, 1) * torch.ones(3, dtype=x.dtype)
        return F.batch_norm(h, self.mean, self.var, training=True).flatten(1) + x.repeat(1, 3)


class Reassigning(nn.Module):
    """Replaces a buffer instead of writing to it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("last", torch.zeros(1, 6))

    def forward(self, x):
        self.last = self.linear(x).detach()
        return self.linear(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 6)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Clamping(nn.Module):
    """Writes to its own weight in forward, as max-norm constraints do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        self.linear.weight.data.clamp_(-0.1, 0.1)
        return self.linear(x)


class Random(nn.Module):
    """Uses every global source of random numbers."""

    def forward(self, x):
        return x * (1 + 0 * (torch.rand(()) + np.random.rand() + random.random()))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 4, num_layers=2, batch_first=True, dropout=0.2)

    def forward(self, x):
        return self.rnn(x[:, None])[0].flatten(1)


# fmt: off
MODELS = {
    "MLP": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 4)),
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU()),
    "double": lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()).double(),
    "training batch norm": TrainingBatchNorm,
    "reassigning": Reassigning,
    "tied": Tied,
    "clamping": Clamping,
    "clamping in double": lambda: Clamping().double(),
    "in place": lambda: nn.Sequential(nn.ReLU(True), nn.Linear(6, 6), nn.ELU(inplace=True)),
    "random": Random,
    "recurrent": Recurrent,
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 6)), nn.Tanh()),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 6))),
    "transformer": lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
}
# fmt: on


def prepared(name):
    """A model in mixed modes, with gradients, a frozen weight and a hook."""
    torch.manual_seed(2)
    model = MODELS[name]()
    model.train()
    for i, p in enumerate(model.parameters()):
        p.requires_grad_(i % 2 == 0)
        if i % 3 == 0 and p.requires_grad:
            p.grad = torch.randn_like(p)
    for i, m in enumerate(model.modules()):
        m.training = i % 2 == 0
    model.register_forward_hook(lambda *_: None)
    model.register_forward_pre_hook(lambda *_: None)
    return model


def hold(value):
    """Keep every tensor alive, so that an identity cannot be given to another object."""
    return list(value.parameters()) + list(value.buffers())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("what", ["Jacobian", "analyze", "spectrum", "float32"])
def test_measuring_leaves_no_trace(name, what, traces):
    model = prepared(name)
    x = torch.randn(1, 3, 6) if name == "transformer" else torch.randn(1, 6)
    kept, x_before = hold(model), x.clone()
    before = traces(model)
    try:
        if what == "Jacobian":
            J = isometry.Jacobian(model, x)
            J.dense()
            J @ torch.ones(J.shape[1])
            J.T @ torch.ones(J.shape[0])
        elif what == "analyze":
            isometry.analyze(model, x, samples=1)
        elif what == "float32":
            isometry.analyze(model, x, dtype="float32")
        else:
            isometry.spectrum(model, x)
    except IsometryError:
        if name not in ("training batch norm", "clamping", "clamping in double"):
            raise
    assert traces(model) == before
    assert torch.equal(x, x_before)
    assert len(kept) == len(hold(model))


@given(
    fail_at=st.integers(0, 12),
    error=st.sampled_from([ValueError, RuntimeError, KeyboardInterrupt, MemoryError]),
    double=st.booleans(),
)
def test_an_exception_in_forward_leaves_no_trace(fail_at, error, double, traces):
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(6)
            self.linear = nn.Linear(6, 6)
            self.rnn = nn.LSTM(6, 6, batch_first=True)
            object.__setattr__(self, "left", [fail_at])

        def forward(self, x):
            h = self.rnn(self.linear(self.norm(x))[:, None])[0]
            if self.left[0] == 0:
                torch.rand(3), np.random.rand(), random.random()
                raise error("on purpose")
            self.left[0] -= 1
            return h

    model = Failing().train()
    if double:
        model = model.double()
    model.linear.weight.grad = torch.ones_like(model.linear.weight)
    kept = hold(model)
    before = traces(model)
    with suppress(IsometryError, KeyboardInterrupt, MemoryError):
        isometry.analyze(model, torch.randn(1, 6).to(model.linear.weight.dtype), samples=1)
    after = traces(model)
    after["torch rng"] = before["torch rng"]  # the input above was drawn from it
    assert after == before
    assert kept


@pytest.mark.parametrize("call", [isometry.analyze, isometry.check, isometry.spectrum])
def test_gaussian_inputs_do_not_touch_the_global_random_state(call, traces):
    model = nn.Sequential(nn.Linear(6, 6))
    nn.init.orthogonal_(model[0].weight)
    before = traces(model)
    call(model, seed=5, samples=2)
    assert traces(model) == before


def test_a_model_trains_on_after_a_measurement():
    torch.manual_seed(0)
    model = prepared("MLP").requires_grad_(True)
    x = torch.randn(8, 6)

    def gradient():
        model.zero_grad()
        model.eval()(x).square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    before = gradient()
    isometry.analyze(model, x)
    for a, b in zip(before, gradient(), strict=True):
        assert torch.equal(a, b)


def test_hooks_of_the_model_run_and_stay():
    model = nn.Sequential(nn.Linear(3, 3, dtype=torch.float64))
    handle = model.register_forward_hook(lambda module, args, out: 2 * out)
    J = isometry.Jacobian(model, torch.ones(1, 3))
    assert torch.equal(J.dense(), 2 * model[0].weight)
    handle.remove()
    assert not model._forward_hooks


def test_weights_shared_between_layers_count_in_both():
    torch.manual_seed(0)
    tied = Tied().double()
    x = torch.randn(1, 6, dtype=torch.float64)
    slope = torch.diag(1 - torch.tanh(tied.a(x)).detach()[0] ** 2)
    expected = (tied.a.weight @ slope @ tied.a.weight).detach()
    assert (isometry.Jacobian(tied, x).dense() - expected).norm() < 1e-14


def test_an_eval_method_of_the_users_own_is_not_called():
    class Strict(nn.Linear):
        def eval(self):
            raise AssertionError("called")

        def train(self, mode=True):
            raise AssertionError("called")

    isometry.analyze(Strict(3, 3), torch.ones(1, 3))


def test_two_measurements_may_be_open_at_once():
    a, b = nn.Dropout(), nn.Dropout()
    J, K = isometry.Jacobian(a, torch.ones(1, 3)), isometry.Jacobian(b, torch.ones(1, 3))
    with J.session() as s:
        assert not a.training
        with K.session():
            assert not b.training
        assert b.training
        with J.session():
            pass
        assert not a.training
        assert torch.equal(s.pull(torch.ones(1, 1, 3).double()), torch.ones(1, 1, 3).double())
    assert a.training


def test_a_raising_network_names_its_error_once():
    def f(x):
        raise RuntimeError("first line\nsecond line")

    with pytest.raises(InputError) as e:
        isometry.analyze(f, torch.ones(1, 3))
    assert str(e.value).count("first line") == 1
    assert "second line" not in str(e.value)


class Mutating(nn.Module):
    """Keeps layers in a plain list, grows containers and reorders its parts in forward."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.hidden, self.history, self.cache = [nn.BatchNorm1d(4)], [], {}

    def forward(self, x):
        a = self.a
        del self.a
        self.a = a
        self.history.append(1)
        self.cache["x"] = x
        return self.hidden[0](self.b(self.a(x)))


def test_containers_order_and_layers_in_a_list_are_put_back():
    torch.manual_seed(0)
    net = Mutating().train()
    names, running = list(net.state_dict()), net.hidden[0].running_mean.clone()
    assert isometry.analyze(net, torch.randn(1, 4)).trustworthy
    assert (net.history, net.cache, list(net.state_dict())) == ([], {}, names)
    assert torch.equal(net.hidden[0].running_mean, running)
    assert net.hidden[0].training


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: lambda x, held=[net]: held[0](x),
        lambda net: lambda x, n=net: n(x),
        lambda net: functools.partial(lambda n, x: n[0](x), [net]),
        lambda net: (lambda inner: lambda x: inner(x))(lambda x: net(x)),
    ],
    ids=["list", "default", "partial", "nested"],
)
def test_functions_over_a_network_leave_it_alone(wrap):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    report = isometry.analyze(wrap(net), torch.randn(1, 4))
    assert report.trustworthy
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class HookingItself(nn.Module):
    """Installs a hook on its layer at its first call, as some libraries do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.seen = []
        self.installed = False

    def forward(self, x):
        if not self.installed:
            self.layer.register_forward_hook(lambda m, a, out: self.seen.append(out))
            self.installed = True
        self.seen.clear()
        self.layer(x)
        return torch.stack(self.seen).sum(0)


def test_hooks_that_forward_installs_are_taken_off_again():
    torch.manual_seed(0)
    net = HookingItself()
    x = torch.randn(1, 3)
    isometry.analyze(net, x)
    assert not net.layer._forward_hooks
    torch.testing.assert_close(net(x), net.layer(x))
