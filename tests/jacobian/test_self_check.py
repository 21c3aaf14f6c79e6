"""The self-check: wrong derivatives are caught, right ones are not accused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.func import vjp

import isometry
from isometry import Jacobian, MeasurementError
from isometry.jacobian import operator, self_check
from isometry.jacobian.routes import CentralDifference, Route


def checked(model, x, **options):
    """The check of the first routes, whatever others there are."""
    J = Jacobian(model, x, self_check=False, **options)
    return self_check(J, J.dense())[0]


# ------------------------------------------------------------------ PyTorch's own wrong derivative


class LoopedPullback(Route):
    """What a pull would be without vmap: the plain pullback, one cotangent after the other."""

    name = "looped vjp"

    def __init__(self, f, x):
        self.y, self._pullback = vjp(f, x)[:2]

    def __call__(self, block):
        return torch.stack([self._pullback(u)[0] for u in block])


def relative(a, b):
    return float((a - b).norm() / b.norm())


def test_plain_reverse_mode_is_wrong_through_batch_norm_at_batch_size_one(
    tokens, central_differences
):
    # When this fails, PyTorch has mended it: say so in routes/pullback.py and in the CHANGELOG.
    model, x = tokens
    true = central_differences(model, x)
    u = torch.randn(1, 6, 4, dtype=torch.float64)
    model.requires_grad_(False)
    by_vjp = vjp(model, x)[1](u)[0].flatten()
    point = x.clone().requires_grad_()
    by_autograd = torch.autograd.grad(model(point), point, u)[0].flatten()
    assert relative(by_vjp, true.T @ u.flatten()) > 0.1
    assert relative(by_autograd, true.T @ u.flatten()) > 0.1


def test_the_operator_is_right_through_batch_norm_at_batch_size_one(tokens, central_differences):
    model, x = tokens
    J = Jacobian(model, x)
    true = central_differences(model, x)
    u = torch.randn(24, dtype=torch.float64)
    assert relative(J.dense(), true) < 1e-8
    assert relative(J.T @ u, true.T @ u) < 1e-8
    assert relative(J.T @ torch.eye(24, dtype=torch.float64), true.T) < 1e-8
    assert checked(model, x).passed
    assert isometry.analyze(model, x).trustworthy


def test_plain_reverse_mode_in_the_operator_is_caught(tokens, monkeypatch):
    monkeypatch.setattr(operator, "REVERSE", (LoopedPullback,))
    model, x = tokens
    check = checked(model, x)
    assert check.failures in (("ISO302",), ("ISO302", "ISO303"))
    assert check.adjoint_error > 1e-3
    assert check.dense_error > 0.1
    assert not check.passed


def test_plain_reverse_mode_in_the_operator_withholds_the_verdict(tokens, monkeypatch):
    monkeypatch.setattr(operator, "REVERSE", (LoopedPullback,))
    model, x = tokens
    report = isometry.analyze(model, x)
    assert report.verdict.status == "WITHHELD"
    assert "the self-check failed" in report.verdict.reason
    assert not report.trustworthy
    assert report.findings[0].code == "ISO302"
    assert report.findings[0].severity == "error"
    with pytest.raises(MeasurementError, match="self-check failed: forward and backward"):
        isometry.check(model, x)
    with pytest.raises(MeasurementError, match="self-check failed"):
        isometry.check(model, x, min_score=0.0)
    with pytest.raises(MeasurementError, match="the self-check failed: forward"):
        isometry.spectrum(model, x)


def test_a_wrong_route_is_left_for_one_that_is_right(tokens, central_differences, monkeypatch):
    monkeypatch.setattr(operator, "REVERSE", (LoopedPullback, *operator.REVERSE))
    model, x = tokens
    true = central_differences(model, x)
    J = Jacobian(model, x)
    assert relative(J.dense(), true) < 1e-8
    assert J.notes == ["products Jᵀu by vmap(vjp): looped vjp gave wrong products"]
    report = isometry.analyze(model, x)
    assert report.trustworthy
    sigma = torch.linalg.svdvals(true)
    assert relative(torch.tensor(report.spectrum.singular_values), sigma) < 1e-8


@pytest.mark.parametrize("route", operator.REVERSE, ids=lambda route: route.__name__)
def test_every_reverse_route_is_right_through_batch_norm(
    tokens, central_differences, monkeypatch, route
):
    monkeypatch.setattr(operator, "REVERSE", (route,))
    model, x = tokens
    assert relative(Jacobian(model, x).dense(), central_differences(model, x)) < 1e-8


def test_where_every_route_is_wrong_the_spectrum_is_of_differences(
    tokens, central_differences, monkeypatch
):
    monkeypatch.setattr(operator, "REVERSE", (LoopedPullback,))
    model, x = tokens
    report = isometry.analyze(model, x)
    assert report.verdict.status == "WITHHELD"
    assert any("by no route: looped vjp gave wrong products" in note for note in report.notes)
    sigma = torch.linalg.svdvals(central_differences(model, x))
    assert relative(torch.tensor(report.spectrum.singular_values), sigma) < 1e-8
    with pytest.raises(MeasurementError, match=r"the self-check failed: .* \(ISO302;"):
        Jacobian(model, x).dense()


def test_without_forward_mode_the_difference_catches_plain_reverse_mode(tokens, monkeypatch):
    monkeypatch.setattr(operator, "REVERSE", (LoopedPullback,))
    monkeypatch.setattr(operator, "FORWARD", (CentralDifference,))
    check = checked(*tokens)
    assert check.adjoint_error is None
    assert "ISO303" in check.failures


def test_the_same_network_with_a_healthy_route_passes_when_looped(network, monkeypatch):
    # The negative control: looping is no fault where PyTorch is right.
    monkeypatch.setattr(operator, "REVERSE", (LoopedPullback,))
    assert checked(*network).passed


# ------------------------------------------------------------------ faults of the network


class Doubled(torch.autograd.Function):
    """Identity whose backward is twice what it should be."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad

    @staticmethod
    def jvp(ctx, tangent):
        return tangent.clone()


class DoubledBothWays(Doubled):
    """The same in both modes, which then agree with each other."""

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * tangent


class DoubledBackwardOnly(torch.autograd.Function):
    """Wrong in reverse mode, and without a rule for forward mode."""

    generate_vmap_rule = True
    forward = Doubled.forward
    setup_context = Doubled.setup_context
    backward = Doubled.backward


def inner_no_grad(x):
    with torch.no_grad():
        scale = x.square().sum()
    return x * scale


# fmt: off
FAULTS = {
    "dropout in forward": (lambda x: F.dropout(x, 0.5, training=True), {"ISO301"}),
    "noise in forward": (lambda x: x + 0.1 * torch.randn_like(x), {"ISO301"}),
    "detached term": (lambda x: x + x.detach().square(), {"ISO303"}),
    "detached factor": (lambda x: x * x.detach().norm(), {"ISO303"}),
    "data": (lambda x: x + x.data.sin(), {"ISO303"}),
    "no_grad inside": (inner_no_grad, {"ISO302", "ISO303"}),
    "rounding passed straight through": (
        lambda x: x + (torch.round(5 * x) / 5 - x).detach(), {"ISO303"}),
    "wrong backward": (Doubled.apply, {"ISO302"}),
    "wrong both ways": (DoubledBothWays.apply, {"ISO303"}),
    "wrong backward alone": (DoubledBackwardOnly.apply, {"ISO303"}),
}
# fmt: on


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_network_with_a_hidden_fault_is_not_trusted(name, dtype):
    f, codes = FAULTS[name]
    x = torch.randn(1, 6, dtype=torch.float64)
    check = checked(f, x, dtype=dtype)
    assert codes & set(check.failures), check
    report = isometry.analyze(f, x, dtype=dtype)
    assert report.verdict.status == "WITHHELD"
    with pytest.raises(MeasurementError):
        isometry.check(f, x, dtype=dtype)


def test_a_value_taken_by_item_is_caught():
    def f(x):
        return x * x.square().mean().item()

    x = torch.randn(1, 6, dtype=torch.float64)
    # .item() is impossible under some transforms: then there is nothing to measure.
    try:
        check = checked(f, x)
    except MeasurementError:
        return
    assert "ISO303" in check.failures


def test_dropout_is_found_out_for_what_it_is():
    check = checked(lambda x: F.dropout(x, 0.5, training=True), torch.randn(1, 40))
    assert check.repeatable is False
    assert "ISO301" in check.failures


def test_a_wrong_dense_matrix_is_caught(network):
    J = Jacobian(*network)
    dense = J.dense()
    assert self_check(J, dense)[0].dense_error < 1e-10
    wrong = dense.clone()
    wrong[0, 0] += 0.1 * dense.norm()
    check, suspect = self_check(J, wrong)
    assert suspect == "reverse"
    assert check.failures == ("ISO302",)
    assert self_check(J)[0].dense_error is None


def test_a_transposed_square_matrix_is_caught(chain):
    J = Jacobian(chain(nn.Tanh, 3, 8), torch.randn(1, 8))
    assert self_check(J, J.dense())[0].passed
    assert self_check(J, J.dense().T)[0].failures == ("ISO302",)


# ------------------------------------------------------------------ float32 alone


class Scaled(torch.autograd.Function):
    """Identity with a backward and a forward derivative of one's choice."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, backward, forward):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.factors = inputs[1:]

    @staticmethod
    def backward(ctx, grad):
        return ctx.factors[0] * grad, None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        return ctx.factors[1] * tangent


def float32_alone(net, backward=1.0, forward=1.0):
    def f(x):
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        return net(Scaled.apply(x, backward, forward))

    return f


ORDINARY = {
    "tanh": lambda: 5 * [nn.Linear(32, 32), nn.Tanh()],
    "relu": lambda: 3 * [nn.Linear(64, 64), nn.ReLU()],
    "layer norm": lambda: 3 * [nn.Linear(32, 32), nn.LayerNorm(32), nn.GELU()],
    "convolutions": lambda: [nn.Unflatten(1, (1, 32)), nn.Conv1d(1, 4, 3), nn.SiLU()],
    "one": lambda: [nn.Linear(32, 1), nn.Sigmoid()],
}


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize(
    ("backward", "forward", "code"),
    [(1.003, 1.003, "ISO303"), (0.99, 0.99, "ISO303"), (1.003, 1, "ISO302"), (1, 1, None)],
)
def test_a_small_error_is_seen_where_the_network_runs_in_float32_alone(
    name, backward, forward, code
):
    torch.manual_seed(0)
    net = nn.Sequential(*ORDINARY[name]())
    x = torch.randn(1, 64 if name == "relu" else 32)
    J = Jacobian(float32_alone(net, backward, forward), x, self_check=False)
    check = self_check(J)[0]
    assert (code in check.failures) if code else check.passed, check
    told = [note for note in J.notes if "could pass the self-check" in note]
    assert len(told) == (code != "ISO303")


def test_a_kink_within_the_steps_is_no_error_in_float32_alone():
    x = torch.full((1, 4), 1e-4)
    x[0, 0] = 1.0
    assert checked(float32_alone(nn.LeakyReLU(0.5)), x).passed
    assert not checked(float32_alone(nn.LeakyReLU(0.5), 1.02, 1.02), x).passed


# ------------------------------------------------------------------ rounding


@pytest.mark.parametrize("seed", range(5))
def test_a_derivative_of_rounding_alone_is_not_called_wrong(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.GroupNorm(2, 2), nn.AvgPool1d(4)).double()  # means of 0
    assert set(checked(net, torch.randn(1, 2, 4)).failures) <= {"ISO307"}


def test_a_wrong_derivative_beside_rounding_is_called_wrong():
    torch.manual_seed(0)
    net = nn.Sequential(nn.GroupNorm(2, 2), nn.Linear(4, 4)).double()
    check = checked(lambda x: Doubled.apply(net(x)), torch.randn(1, 2, 4).double())
    assert check.failures == ("ISO302",)


# ------------------------------------------------------------------ healthy networks


def test_healthy_networks_pass(network):
    check = checked(*network)
    assert check.passed
    assert check.failures == ()
    assert check.repeatable
    assert not check.kink
    assert check.adjoint_error < 1e-10
    assert check.dense_error < 1e-10
    assert check.difference_error < 1e-5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_deep_vanishing_networks_pass(seed, dtype):
    torch.manual_seed(seed)
    layers = [m for _ in range(50) for m in (nn.Linear(64, 64), nn.Tanh())]
    assert checked(nn.Sequential(*layers), torch.randn(1, 64), dtype=dtype).passed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gain", [1.5, 2.0, 2.5])
def test_deep_chaotic_networks_pass(chain, seed, gain):
    assert checked(chain(nn.Tanh, 50, gain=gain, seed=seed), torch.randn(1, 64)).passed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("depth", [2, 10, 30])
def test_relu_networks_pass(chain, seed, depth):
    net = chain(nn.ReLU, depth, gain=2**0.5, seed=seed)
    assert checked(net, torch.randn(1, 64)).passed


@pytest.mark.parametrize("gain", [1e-4, 1e-2, 1e2, 1e4])
@pytest.mark.parametrize("activation", [None, nn.ReLU])
def test_networks_of_extreme_gain_pass(chain, gain, activation):
    # 40 layers: σ of about 1e±160 and squares that leave float64.
    net = chain(activation, 40, 16, weights="orthogonal", gain=gain, seed=3)
    assert checked(net, torch.randn(1, 16)).passed


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e3, 1e8])
def test_the_scale_of_the_input_does_not_matter(chain, scale):
    net = chain(nn.ReLU, 5, 16, gain=2**0.5)
    assert checked(net, scale * torch.randn(1, 16)).passed


def test_every_network_of_the_data_passes(file, data_model, digit):
    check = checked(data_model(file), digit)
    assert check.passed, check


def test_float32_networks_pass_in_float32(file, data_model, digit):
    check = checked(data_model(file), digit, dtype=torch.float32)
    assert check.passed, check


# ------------------------------------------------------------------ kinks


def test_an_input_on_a_kink_is_recognised_and_forgiven():
    check = checked(nn.ReLU(), torch.zeros(1, 8))
    assert check.kink
    assert check.passed


def test_a_relu_network_at_zero_sits_on_a_kink(chain):
    net = chain(nn.ReLU, 3, 8)
    check = checked(lambda x: x + net(x), torch.zeros(1, 8))
    assert check.kink
    assert check.passed
    report = isometry.analyze(lambda x: x + net(x), torch.zeros(1, 8, dtype=torch.float64))
    assert "ISO201" in [f.code for f in report.findings]


def test_away_from_the_kink_there_is_none():
    assert not checked(nn.ReLU(), torch.randn(1, 8)).kink


def test_a_kink_does_not_excuse_a_wrong_derivative():
    check = checked(lambda x: Doubled.apply(torch.relu(x)) + x, torch.zeros(1, 8))
    assert not check.passed


# ------------------------------------------------------------------ what it costs and leaves


def test_the_same_seed_gives_the_same_check(network):
    J = Jacobian(*network)
    dense = J.dense()
    assert self_check(J, dense, seed=3) == self_check(J, dense, seed=3)
    other = self_check(J, dense, seed=4)[0]
    assert replace(other, adjoint_error=0.0) != replace(other, adjoint_error=1.0)


def test_switched_off_the_report_says_so(tokens, monkeypatch):
    monkeypatch.setattr(operator, "REVERSE", (LoopedPullback,))
    report = isometry.analyze(*tokens, check_itself=False)
    assert report.jacobian.self_check is None
    assert any("self-check was switched off" in note for note in report.notes)
