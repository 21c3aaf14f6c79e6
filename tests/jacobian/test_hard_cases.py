"""Networks that once got a wrong number, or left a trace: right now, or refused."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import isometry
from isometry import InputError, Jacobian, MeasurementError

ONE = torch.ones(1, dtype=torch.float64)


class InPlaceAfterEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 4)

    def forward(self, ids):
        hidden = self.table(ids)
        hidden += 1
        return torch.tanh(self.head(hidden))


def test_what_enters_a_section_is_taken_before_it_is_written_over():
    torch.manual_seed(0)
    net, ids = InPlaceAfterEmbedding().double(), torch.tensor([[3, 7]])
    x = net.table(ids).detach()
    true = torch.func.jacrev(lambda e: torch.tanh(net.head(e + 1)))(x).reshape(8, 8)
    torch.testing.assert_close(Jacobian(net, ids).dense(), true)
    chain = nn.Sequential(nn.Linear(4, 4), nn.SiLU(inplace=True), nn.Linear(4, 4)).double()
    h = chain[0](x[0]).detach()
    true = torch.func.jacrev(lambda e: F.silu(e))(h).reshape(8, 8)
    torch.testing.assert_close(Jacobian(chain, x[0], start="1", stop="1").dense(), true)


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = x.sin()
        return x + self.kept


def test_every_pass_finds_the_network_as_it_was_given():
    J = Jacobian(Remembering(), ONE)
    expected = 1 + ONE.cos()
    for found in (J.dense()[0], J @ ONE, J.T @ ONE):
        torch.testing.assert_close(found, expected)


def clipped(x):
    y = torch.tanh(x)
    if y.requires_grad:
        y.register_hook(lambda g: g.clamp(-10, 10))
    return y


def coin(x):
    return x if random.random() < 0.5 else 2 * x


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x + F.relu(x) - F.relu(-x), torch.zeros(1, 4)),
        (lambda x: x.clamp(min=0) + x.clamp(max=0), torch.zeros(1, 4)),
        (
            lambda x: torch.cat([x + 3 * torch.tanh(x).detach(), torch.full_like(x, -3e38)]),
            torch.linspace(-1, 1, 3),
        ),
        (lambda x: x.pow(2.2) + x + 5 * torch.sin(x).detach(), torch.tensor([0, 0.3, 0.7])),
        (lambda x: x + 2 * x.detach(), torch.full((3,), 1e160, dtype=torch.float64)),
        (lambda x: x + 5e-5 * x.detach(), torch.linspace(-1, 1, 3)),
        (clipped, torch.zeros(1)),
        (coin, torch.ones(2)),
    ],
    ids=[
        "a smooth sum of kinks",
        "two clamps",
        "beside a huge constant",
        "not finite on one side",
        "at the end of the range",
        "wrong by a little",
        "clipped gradients",
        "a coin of Python",
    ],
)
def test_a_derivative_that_is_wrong_or_none_is_refused(f, x):
    with pytest.raises(MeasurementError, match="the self-check failed"):
        Jacobian(f, x.double()).dense()
    assert isometry.analyze(f, x.double()).verdict.status == "WITHHELD"


def test_a_true_kink_is_still_forgiven():
    x = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    report = isometry.analyze(F.relu, x)
    assert report.trustworthy
    assert any(f.code == "ISO201" for f in report.findings)


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self._orig_mod = nn.Identity()

    def forward(self, x):
        return 2 * self._orig_mod(x)


def test_only_compiled_modules_are_unwrapped():
    assert Jacobian(Wrapper(), ONE).dense().item() == 2


def test_other_arguments_are_held_fixed():
    scale = torch.ones(1, dtype=torch.float64)
    J = Jacobian(lambda a, b: a * b, (ONE, scale))
    J.dense()
    scale.mul_(3)
    assert (J @ ONE).item() == (J.T @ ONE).item() == 1


def test_functions_over_plain_layers_get_the_whole_context():
    layer = nn.Linear(3, 3)
    before = torch.get_rng_state()
    assert isometry.analyze(lambda x: layer(x) + 0 * torch.rand(3), torch.randn(1, 3)).trustworthy
    with pytest.raises(MeasurementError, match="random"):
        Jacobian(lambda x: F.dropout(layer(x)), torch.ones(1, 3)).dense()
    torch.set_rng_state(before)
    Jacobian(lambda x: layer(x) + 0 * torch.rand(3), torch.ones(1, 3)).dense()
    assert torch.equal(torch.get_rng_state(), before)
    checkpointed = torch.utils.checkpoint.checkpoint
    J = Jacobian(lambda x: checkpointed(layer, x, use_reentrant=True), torch.randn(1, 3))
    torch.testing.assert_close(J.dense(), layer.weight.detach().double())


norm = nn.BatchNorm1d(3)


def test_layers_reached_from_a_comprehension_or_an_object_are_left_alone():
    class Caller:
        def __call__(self, x):
            return norm(x)

    class Holder:
        def __init__(self):
            self.inner = nn.BatchNorm1d(3)

    class Holding(nn.Module):
        def __init__(self):
            super().__init__()
            self.holder = Holder()

        def forward(self, x):
            return self.holder.inner(x)

    holding = Holding()
    for f in (lambda x: torch.cat([norm(row) for row in [x]]), Caller(), holding):
        isometry.analyze(f, torch.randn(2, 3))
    assert norm.num_batches_tracked == holding.holder.inner.num_batches_tracked == 0


def test_a_mask_is_not_what_is_differentiated_by():
    net = InPlaceAfterEmbedding()
    f = nn.Module()
    f.net = net
    f.forward = lambda input_ids, attention_mask: net(input_ids) * attention_mask[..., None]
    ids = torch.tensor([[1, 2, 3]])
    J = Jacobian(f, {"input_ids": ids, "attention_mask": torch.ones(1, 3)})
    assert J.shape == (12, 12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "unknown device"),
        ({"device": "meta"}, "cannot measure on 'meta'"),
        ({"dtype": "int8"}, "cannot measure in int8"),
        ({"memory": "much"}, "cannot read 'much' as a memory size"),
    ],
)
def test_unusable_options_are_refused_with_words(options, words):
    with pytest.raises(InputError, match=words):
        Jacobian(nn.Linear(3, 3), torch.ones(1, 3), **options)


def test_columns_by_differences_that_disagree_with_the_rows_are_refused():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(1e6 * x)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return 1e6 * torch.cos(1e6 * ctx.saved_tensors[0]) * g

    J = Jacobian(Once.apply, torch.zeros(1, dtype=torch.float64), self_check=False)
    with pytest.raises(MeasurementError, match="only be had by central differences"):
        J @ ONE


class Shared(nn.Module):
    cache: dict = {}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        table = self.cache.setdefault(len(x), self.layer(x).detach())
        return self.layer(x) + table


def test_a_cache_on_the_class_is_emptied_again():
    net, x = Shared(), torch.randn(2, 3)
    isometry.analyze(net, x)
    assert Shared.cache == {}
    assert net(x).dtype == torch.float32


@pytest.mark.parametrize("offset", [1.0, 300.0, 1e6])
def test_constant_components_do_not_acquit_the_others(offset):
    with pytest.raises(MeasurementError, match="the self-check failed"):
        Jacobian(
            lambda x: torch.cat([3 * x.detach() + offset, x], 1), torch.zeros(1, 4).double()
        ).dense()


def test_a_kink_excuses_only_what_bends():
    def f(x):
        safe = torch.where(x == 0, 1.0, x)
        return torch.cat([F.relu(x), torch.where(x == 0, 1.0, torch.expm1(safe) / safe)], 1)

    with pytest.raises(MeasurementError, match="the self-check failed"):
        Jacobian(f, torch.zeros(1, 4).double()).dense()


def test_backward_hooks_meet_the_mode_that_is_measured():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double().train()

    def shrink(module, given, _):
        return tuple(g * 0.1 for g in given) if module.training else None

    net[0].register_full_backward_hook(shrink)
    J = Jacobian(net, torch.randn(1, 4))
    u = torch.randn(4, dtype=torch.float64)
    torch.testing.assert_close(J.T @ u, J.dense().T @ u)


def test_an_open_eps_is_that_of_the_network():
    norm, x = nn.RMSNorm(8), 1e-4 * torch.randn(1, 8)
    own = torch.func.jacrev(norm)(x).detach().reshape(8, 8)
    torch.testing.assert_close(Jacobian(norm, x).dense().float(), own, rtol=1e-4, atol=1e-2)
