"""A forward pass, written down call by call and made again."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from isometry.anatomy import record
from isometry.anatomy.tape import Ref
from isometry.jacobian import Jacobian


def taped(model, x):
    jacobian = Jacobian(model, x, self_check=False)
    with jacobian.session():
        return record(jacobian), jacobian


def names(tape):
    """What was called, but for the copy of the input that every measurement begins with."""
    return [call.name for call in tape.calls if call.name != "clone"]


def assert_replays(model, x):
    """What was recorded, made again, is the network: at its input and at another one."""
    tape, jacobian = taped(model, x)
    assert tape.output is not None
    again = tape.between(Ref(0), tape.output, range(1, len(tape.calls) + 1))
    with jacobian.session():
        for point in (tape.input, tape.input + 0.1 * torch.randn_like(tape.input)):
            kept = point.clone()
            assert torch.allclose(again(point), jacobian.f(point), atol=1e-12)
            assert torch.equal(point, kept)
    return tape


class InPlace(nn.Module):
    def forward(self, x):
        y = torch.sin(x)
        y += 1
        y.mul_(x)
        functional.relu_(y)
        return y - 0.5


class Several(nn.Module):
    def forward(self, x):
        a, b = torch.chunk(x, 2, -1)
        values, _ = torch.sort(a, dim=-1)
        return torch.cat([values * b, torch.ones_like(a)], -1)


class Keywords(nn.Module):
    def forward(self, x):
        y = torch.add(input=x, other=torch.sin(x), alpha=2)
        return functional.softmax(input=y, dim=-1)


class Indexed(nn.Module):
    def forward(self, x):
        y = torch.zeros(3, 4, dtype=x.dtype)
        y[1] = x[0]
        return y * 2


class Branching(nn.Module):
    def forward(self, x):
        return torch.tanh(x) if x.sum() > -100 else x


class Mutated(nn.Module):
    """What is kept for later is written to in between."""

    def forward(self, x):
        y = torch.sin(x)
        kept = y * 3
        y.zero_()
        return kept + y


@pytest.mark.parametrize(
    "model", [InPlace(), Several(), Keywords(), Indexed(), Branching(), Mutated(), torch.cumsum]
)
def test_functional_code_can_be_made_again(model):
    call = (lambda x: torch.cumsum(x, -1)) if model is torch.cumsum else model
    assert_replays(call, torch.randn(1, 4, dtype=torch.float64))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4, 3)),
        nn.LSTM(4, 3, batch_first=True),
        nn.GRU(4, 3, batch_first=True),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        nn.MultiheadAttention(4, 1),
    ],
)
def test_stock_modules_can_be_made_again(model):
    torch.manual_seed(0)
    net = model.double().eval()
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    if isinstance(net, nn.MultiheadAttention):
        assert_replays(lambda x: net(x, x, x)[0], x)
    else:
        assert_replays(lambda x: (y := net(x))[0] if isinstance(y := net(x), tuple) else y, x)


def test_calls_know_the_module_that_made_them():
    net = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 3)))
    tape, _ = taped(net, torch.randn(1, 3))
    made = [(c.name, c.module) for c in tape.calls if c.module]
    assert made == [("linear", "0"), ("tanh", "1.0"), ("linear", "1.1")]


def test_what_does_not_depend_on_the_input_is_not_written_down():
    layer = nn.Linear(3, 3)
    tape, _ = taped(lambda x: x @ torch.tanh(layer.weight * 2), torch.randn(1, 3))
    assert names(tape) == ["matmul"]


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.detach().pow(2)

    @staticmethod
    def backward(ctx, u):
        (x,) = ctx.saved_tensors
        return 2 * x * u


class UsesCustom(nn.Module):
    def forward(self, x):
        return Custom.apply(torch.sin(x)) + 1


def product(x):
    return torch.sin(x) * x


with warnings.catch_warnings():  # scripting is deprecated, and still met
    warnings.simplefilter("ignore", DeprecationWarning)
    scripted = torch.jit.script(product)


class UsesScripted(nn.Module):
    def forward(self, x):
        return scripted(x)


class ThroughAView(nn.Module):
    def forward(self, x):
        y = x * 2
        y[:, :2].mul_(3)
        return torch.sin(y)


@pytest.mark.parametrize("module", [UsesCustom(), UsesScripted(), ThroughAView()])
def test_where_calls_cannot_be_followed_the_module_is_one_call(module):
    net = nn.Sequential(nn.Linear(4, 4), module, nn.Linear(4, 4)).double()
    tape = assert_replays(net, torch.randn(1, 4, dtype=torch.float64))
    ways = [c for c in tape.calls if c.function is module]
    assert len(ways) == 1
    assert (ways[0].name, ways[0].module) == (type(module).__name__, "1")


def test_a_function_that_cannot_be_followed_has_no_output():
    tape, _ = taped(lambda x: Custom.apply(x), torch.randn(1, 4))
    assert tape.output is None


def test_a_hook_is_followed_like_any_other_code():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    net[0].register_forward_hook(lambda module, args, y: y * 2)
    tape, _ = taped(net, torch.randn(1, 3))
    assert names(tape) == ["linear", "mul", "tanh"]


def test_an_identity_makes_no_call():
    assert names(taped(nn.Identity(), torch.randn(1, 3))[0]) == []
