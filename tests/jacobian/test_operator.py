"""The operator: adjoint, linear, and what PyTorch's own jacrev says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

import isometry
from isometry import InputError, Jacobian, MeasurementError, MemoryBudgetError
from isometry.jacobian import operator
from isometry.jacobian.blocks import Blocks
from isometry.jacobian.routes import FORWARD, REVERSE, CentralDifference, Route

EPS = torch.finfo(torch.float64).eps


def close(a, b, tolerance=1e3 * EPS):
    """Relative distance of two tensors, within some hundred roundings."""
    return (a - b).norm() <= tolerance * b.norm()


def by_jacrev(model, x):
    state = (
        {k: v.detach() for k, v in model.state_dict().items()}
        if isinstance(model, nn.Module)
        else None
    )
    f = model if state is None else lambda point: functional_call(model, state, (point,))
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no batched derivative
        jac = jacrev(f)(x)
    return jac.reshape(-1, x.numel())


# ------------------------------------------------------------------ identities


def test_products_are_adjoint(network):
    J = Jacobian(*network)
    m, n = J.shape
    U, V = torch.randn(m, 3, dtype=torch.float64), torch.randn(n, 4, dtype=torch.float64)
    assert close((J.T @ U).T @ V, U.T @ (J @ V))


def test_products_are_linear(network):
    J = Jacobian(*network)
    v, w = torch.randn(2, J.shape[1], dtype=torch.float64)
    assert close(J @ (2 * v - 3 * w), 2 * (J @ v) - 3 * (J @ w))


def test_dense_is_what_the_products_say(network):
    J = Jacobian(*network)
    m, n = J.shape
    dense = J.dense()
    assert dense.shape == (m, n)
    assert close(J @ torch.eye(n, dtype=torch.float64), dense)
    assert close((J.T @ torch.eye(m, dtype=torch.float64)).T, dense)


def test_a_vector_gives_a_vector_and_a_block_of_one_a_block(network):
    J = Jacobian(*network)
    m, n = J.shape
    v, u = torch.randn(n, dtype=torch.float64), torch.randn(m, dtype=torch.float64)
    assert (J @ v).shape == (m,)
    assert (J.T @ u).shape == (n,)
    assert (J @ v[:, None]).shape == (m, 1)
    assert (J.T @ u[:, None]).shape == (n, 1)
    assert close((J @ v[:, None])[:, 0], J @ v)
    assert close((J.T @ u[:, None])[:, 0], J.T @ u)
    assert close(J.rmatmul(u), J.T @ u, 0.0)
    assert J.T.shape == (n, m)
    assert J.T.T is J


@given(
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=5),
    activation=st.sampled_from([nn.Tanh, nn.ReLU, nn.GELU, nn.Softplus, nn.Hardtanh, nn.Sigmoid]),
    batch=st.integers(1, 3),
    skip=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_small_random_networks_have_adjoint_products(widths, activation, batch, skip, seed):
    g = torch.Generator().manual_seed(seed)
    weights = [torch.randn(b, a, generator=g, dtype=torch.float64) for a, b in pairwise(widths)]
    act = activation()

    def net(x):
        for w in weights:
            h = act(x @ w.T)
            x = x + h if skip and h.shape == x.shape else h
        return x

    x = torch.randn(batch, widths[0], generator=g, dtype=torch.float64)
    J = Jacobian(net, x)
    u = torch.randn(J.shape[0], generator=g, dtype=torch.float64)
    v = torch.randn(J.shape[1], generator=g, dtype=torch.float64)
    size = (J @ v).norm() * u.norm() + (J.T @ u).norm() * v.norm()
    assert abs(u @ (J @ v) - (J.T @ u) @ v) <= 100 * EPS * size
    assert (J.dense() - by_jacrev(net, x)).norm() <= 100 * EPS * (1 + J.dense().norm())


# ------------------------------------------------------------------ closed forms and rivals


def test_of_a_linear_layer_is_its_weight():
    layer = nn.Linear(5, 3, dtype=torch.float64)
    J = Jacobian(layer, torch.randn(1, 5))
    assert J.shape == (3, 5)
    assert torch.equal(J.dense(), layer.weight)


def test_of_a_batch_is_block_diagonal():
    layer = nn.Linear(3, 2, dtype=torch.float64)
    expected = torch.block_diag(layer.weight, layer.weight)
    assert torch.equal(Jacobian(layer, torch.randn(2, 3)).dense(), expected)


def test_of_an_elementwise_function_is_its_slopes_on_the_diagonal():
    x = torch.randn(2, 3, dtype=torch.float64)
    assert close(Jacobian(torch.sin, x).dense(), torch.diag(x.cos().flatten()))


def test_agrees_with_jacrev(network):
    model, x = network
    assert close(Jacobian(model, x).dense(), by_jacrev(model, x), 1e4 * EPS)


def test_agrees_with_central_differences(network, central_differences):
    model, x = network
    # Rounding eps/h and curvature h² are both below 1e-9 of the slopes at h = 1e-6.
    assert close(Jacobian(model, x).dense(), central_differences(model, x), 1e-8)


# ------------------------------------------------------------------ one function


def double_it(module, args, out):
    return 2 * out


def detach_it(module, args, out):
    return out.detach()


CHANGES = {
    "a hook": lambda net: net[0].register_forward_hook(double_it),
    "a hook that detaches": lambda net: net[1].register_forward_hook(detach_it),
    "another layer": lambda net: net.__setitem__(1, nn.ReLU()),
    "one more layer": lambda net: net.append(nn.Tanh()),
}


def tanh_network():
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_was_changed_is_not_answered_for_by_half(change):
    net = tanh_network()
    J = Jacobian(net, torch.randn(1, 3))
    before = J.dense()
    CHANGES[change](net)
    with pytest.raises(MeasurementError, match="the network has changed since"):
        J @ torch.eye(3)
    assert close((J.T @ torch.eye(3)).T, before)
    assert close(J.dense(), before)


class Remembered(torch.autograd.Function):
    """x times a number that both the forward and the backward pass read when they run."""

    generate_vmap_rule = True
    scale = 2.0

    @staticmethod
    def forward(x):
        return Remembered.scale * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return Remembered.scale * grad

    @staticmethod
    def jvp(ctx, tangent):
        return 2.0 * tangent


def test_rows_of_a_graph_that_reads_what_has_changed_are_refused(monkeypatch):
    J = Jacobian(Remembered.apply, torch.randn(1, 3))
    assert close(J.dense(), 2 * torch.eye(3))
    monkeypatch.setattr(Remembered, "scale", 5.0)
    for product in (lambda: J.T @ torch.ones(3), J.dense):
        with pytest.raises(MeasurementError, match="the network has changed since"):
            product()


def test_weights_that_change_and_hooks_that_only_look_change_nothing():
    net = tanh_network()
    J = Jacobian(net, torch.randn(1, 3))
    before = J.dense()
    net[0].weight.data.mul_(3)
    net[2].weight = nn.Parameter(torch.zeros(3, 3))
    net[1].register_forward_hook(lambda m, args, out: None)
    assert close(J @ torch.eye(3), before)
    assert close((J.T @ torch.eye(3)).T, before)


# ------------------------------------------------------------------ routes and blocks


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_block_width_does_not_matter(network, width, monkeypatch):
    J = Jacobian(*network)
    whole = J.dense()
    monkeypatch.setattr(Blocks, "width", lambda *_: width)
    assert close(J.dense(), whole)


def test_a_tight_budget_narrows_the_blocks_and_changes_nothing():
    net = nn.Sequential(nn.Linear(6, 400), nn.Tanh(), nn.Linear(400, 30)).double()
    J = Jacobian(net, torch.randn(1, 6))
    steps: list[float] = []
    matrix = 2 * 30 * 6 * 8
    tight = J.dense(memory=matrix + 3 * 4 * 8 * 400, progress=steps.append)
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert steps[-1] == 1
    assert close(tight, J.dense())


def test_a_budget_for_the_matrix_alone_still_measures_one_vector_at_a_time():
    J = Jacobian(nn.Linear(6, 4).double(), torch.randn(1, 6))
    steps: list[float] = []
    J.dense(memory=2 * 4 * 6 * 8, progress=steps.append)
    assert steps == [0.25, 0.5, 0.75, 1]


def test_a_jacobian_over_budget_is_refused_with_its_size_and_the_ways_on():
    J = Jacobian(nn.Linear(64, 32).double(), torch.randn(1, 64))
    with pytest.raises(MemoryBudgetError, match=r"is 32 x 64 in float64 and needs 32 KB") as e:
        J.dense(memory=1000)
    assert "more than the 1000 B allowed" in str(e.value)
    assert "--memory" in str(e.value)
    assert isinstance(e.value, InputError)


def test_forward_products_without_a_forward_rule_come_from_the_pullback(monkeypatch):
    class Cube(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x**3

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * grad

    x = torch.randn(4, dtype=torch.float64)
    J = Jacobian(Cube.apply, x)
    v = torch.randn(4, dtype=torch.float64)
    assert close(J @ v, 3 * x**2 * v)
    assert any("products J v by vmap(vjp) of the pullback: vmap(jvp)" in note for note in J.notes)


@pytest.mark.parametrize("route", FORWARD, ids=lambda route: route.__name__)
def test_every_forward_route_is_the_same_map(network, route, monkeypatch):
    monkeypatch.setattr(operator, "FORWARD", (route,))
    model, x = network
    v = torch.randn(x.numel(), 3, dtype=torch.float64)
    found = Jacobian(model, x, self_check=False) @ v
    assert close(found, by_jacrev(model, x) @ v, 1e-7 if route is CentralDifference else 1e4 * EPS)


@pytest.mark.parametrize("route", REVERSE, ids=lambda route: route.__name__)
def test_every_reverse_route_is_the_same_map(network, route, monkeypatch):
    monkeypatch.setattr(operator, "REVERSE", (route,))
    model, x = network
    J = Jacobian(model, x, self_check=False)
    u = torch.randn(J.shape[0], 3, dtype=torch.float64)
    assert close(J.T @ u, by_jacrev(model, x).T @ u, 1e4 * EPS)


def test_a_network_without_forward_products_is_measured_by_rows(monkeypatch):
    monkeypatch.setattr(operator, "FORWARD", (CentralDifference,))
    net = nn.Linear(2, 5).double()
    J = Jacobian(net, torch.randn(1, 2))
    assert torch.equal(J.dense(), net.weight)


def test_without_reverse_mode_columns_come_from_forward_mode(monkeypatch):
    monkeypatch.setattr(operator, "REVERSE", (NoRule,))
    net = nn.Linear(5, 2).double()
    J = Jacobian(net, torch.randn(1, 5))
    assert J.verify().passed
    assert torch.equal(J.dense(), net.weight)
    with pytest.raises(MeasurementError, match="reverse-mode differentiation failed: none failed"):
        J.T @ torch.ones(2)


class NoRule(Route):
    name = "none"

    def __init__(self, f, x):
        raise NotImplementedError("no rule")

    def __call__(self, block):
        raise AssertionError


def test_a_network_that_leaves_pytorch_is_measured_by_differences_without_a_verdict():
    weight = torch.randn(3, 4, dtype=torch.float64)

    def f(x):
        return torch.as_tensor(np.tanh(x.detach().numpy()) @ weight.numpy().T)

    def f_leaving(x):
        return torch.as_tensor(np.tanh(x.numpy()) @ weight.numpy().T)

    x = torch.randn(1, 4, dtype=torch.float64)
    report = isometry.analyze(f_leaving, x)
    assert report.verdict.status == "WITHHELD"
    assert report.findings[0].code == "ISO305"
    true = torch.linalg.svdvals(weight * (1 - torch.tanh(x) ** 2))
    assert close(torch.tensor(report.spectrum.singular_values), true, 1e-9)
    with pytest.raises(MeasurementError, match="ISO305"):
        Jacobian(f_leaving, x) @ torch.ones(4)
    with pytest.raises(MeasurementError, match="does not depend on the input differentiably"):
        isometry.analyze(f, x)


# ------------------------------------------------------------------ precision


def test_float32_networks_are_measured_in_float64_by_default():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    J = Jacobian(net, torch.randn(1, 4))
    assert J.dtype == torch.float64
    assert J.notes == []
    assert net[0].weight.dtype == torch.float32


def test_float32_on_request_is_float32():
    net = nn.Linear(4, 4)
    J = Jacobian(net, torch.randn(1, 4), dtype=torch.float32)
    assert J.dense().dtype == torch.float32
    assert torch.equal(J.dense(), net.weight)


def test_a_network_that_runs_in_float32_only_is_measured_in_it_with_a_note():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            if x.dtype != torch.float32:
                raise RuntimeError("expected float32")
            return self.linear(x)

    net = Picky()
    J = Jacobian(net, torch.randn(1, 3))
    assert J.dtype == torch.float32
    assert len(J.notes) == 1
    assert "measured in float32: the network does not run in float64" in J.notes[0]
    assert "expected float32" in J.notes[0]
    assert torch.equal(J.dense(), net.linear.weight)
    with pytest.raises(InputError, match="expected float32"):
        Jacobian(net, torch.randn(1, 3), dtype=torch.float64)


def test_half_precision_weights_are_raised_to_double():
    net = nn.Linear(4, 4, dtype=torch.bfloat16)
    assert torch.equal(Jacobian(net, torch.randn(1, 4)).dense(), net.weight.double())


# ------------------------------------------------------------------ wrappers and inference mode


def test_compiled_and_parallel_wrappers_are_taken_off():
    net = nn.Linear(3, 3).double()
    compiled = torch.compile(net, backend="eager")
    for wrapped in (compiled, nn.DataParallel(net), nn.DataParallel(compiled)):
        J = Jacobian(wrapped, torch.ones(1, 3))
        assert J.network.model is net
        assert torch.equal(J.dense(), net.weight)


def test_a_module_with_a_child_called_module_is_not_taken_apart():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(3, 3, dtype=torch.float64)

        def forward(self, x):
            return 2 * self.module(x)

    net = Twice()
    assert torch.equal(Jacobian(net, torch.ones(1, 3)).dense(), 2 * net.module.weight)


def test_tensors_made_in_inference_mode_work():
    with torch.inference_mode():
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()).eval()
        x = torch.randn(1, 3)
    J = Jacobian(net, x)
    assert close(J @ torch.eye(3, dtype=torch.float64), J.dense())
    assert net[0].weight.is_inference()


def test_measuring_inside_inference_mode_and_no_grad_works(network):
    model, x = network
    outside = Jacobian(model, x).dense()
    with torch.inference_mode():
        assert close(Jacobian(model, x).dense(), outside)
        assert torch.is_inference_mode_enabled()
    with torch.no_grad():
        J = Jacobian(model, x)
        assert close(J @ torch.eye(J.shape[1], dtype=torch.float64), outside)
        assert not torch.is_grad_enabled()


def test_frozen_parameters_do_not_matter(network):
    model, x = network
    before = Jacobian(model, x).dense()
    if isinstance(model, nn.Module):
        model.requires_grad_(False)
    assert torch.equal(Jacobian(model, x).dense(), before)


def test_dropout_layers_and_batch_norm_are_measured_in_evaluation_mode():
    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)).double()
    x = torch.randn(1, 6, dtype=torch.float64)
    in_training = Jacobian(net.train(), x).dense()
    assert torch.equal(in_training, Jacobian(net.eval(), x).dense())


def test_operations_in_place_on_the_input_do_not_reach_it():
    x = torch.randn(1, 3, dtype=torch.float64)
    kept = x.clone()
    J = Jacobian(lambda t: t.mul_(2).relu_(), x)
    assert torch.equal(J.dense(), torch.diag(2.0 * (x[0] > 0)))
    assert torch.equal(x, kept)


def test_an_input_that_requires_grad_gets_none():
    x = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    isometry.analyze(nn.Linear(3, 3), x)
    assert x.grad is None
    assert x.requires_grad


# ------------------------------------------------------------------ refusals


def test_stacks_of_blocks_are_multiplied_as_matmul_does(network):
    J = Jacobian(*network)
    m, n = J.shape
    v, u = torch.randn(2, 3, n, 2, dtype=torch.float64), torch.randn(2, m, 1, dtype=torch.float64)
    assert close(J @ v, J.dense() @ v, 1e4 * EPS)
    assert close(J.T @ u, J.dense().T @ u, 1e4 * EPS)


@pytest.mark.parametrize(
    "v", [torch.ones(4), torch.ones(1, 5), torch.ones(5, 1, 1), torch.tensor(1.0), [1.0] * 5]
)
def test_a_block_of_the_wrong_shape_is_refused(v):
    J = Jacobian(nn.Linear(5, 3), torch.ones(1, 5))
    with pytest.raises(InputError, match=r"needs a tensor of shape \(5,\) or \(..., 5, k\), got"):
        J @ v
    with pytest.raises(InputError, match=r"needs a tensor of shape \(3,\) or \(..., 3, k\)"):
        J.T @ v


@pytest.mark.parametrize(
    "made",
    [
        lambda v: torch.diag(v).to_sparse(),
        lambda v: v.to("meta"),
        lambda v: torch.nested.as_nested_tensor([v]),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
def test_a_block_that_is_not_dense_is_refused(made):
    with pytest.raises(InputError, match="takes dense tensors with values"):
        Jacobian(nn.Linear(5, 3), torch.ones(1, 5)) @ made(torch.ones(5))


def test_the_smallest_numbers_there_are_do_not_look_like_another_network():
    net = nn.Linear(5, 3, dtype=torch.float64)
    J = Jacobian(net, torch.ones(1, 5))
    small = torch.full((5,), 1e-320, dtype=torch.float64)
    assert torch.allclose(J @ small, net.weight @ small, atol=1e-322)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"dtype": torch.int32}, "cannot measure in int32: choose float64 or float32"),
        ({"dtype": torch.complex64}, "cannot measure in complex64"),
        ({"dtype": torch.float8_e5m2}, "cannot measure in float8_e5m2"),
        ({"dtype": np.float32}, "cannot measure in .*float32.*: choose"),
        ({"dtype": 3}, "cannot measure in 3: choose"),
        ({"device": 3.5}, "unknown device 3.5: choose auto, cpu"),
        ({"memory": 0}, "cannot read 0 as a memory size: write it as '4GB', or in bytes"),
        ({"memory": float("nan")}, "cannot read nan as a memory size"),
        ({"memory": []}, r"cannot read \[\] as a memory size"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_words(option, words):
    with pytest.raises(InputError, match=words):
        Jacobian(nn.Linear(3, 2), torch.ones(1, 3), **option)


class Headless(nn.Module):
    def __init__(self):
        self.made = True


@pytest.mark.parametrize("net", [Headless(), nn.DataParallel(nn.Identity())])
def test_a_module_that_was_never_begun_is_refused(net):
    if isinstance(net, nn.DataParallel):
        net.module = Headless()
    with pytest.raises(InputError, match=r"Headless is no whole module: its __init__ must begin"):
        Jacobian(net, torch.ones(1, 3))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ([1.0, 2.0], "must be a tensor, got list"),
        (torch.ones(1, 3, dtype=torch.int64), "the input is int64, expected floating point"),
        (torch.ones(1, 3, dtype=torch.complex64), "the input is complex64"),
        (torch.ones(0, 3), r"has no elements: its shape is \(0, 3\)"),
        (torch.tensor([[1.0, float("nan"), float("inf")]]), "2 NaN or infinite values of 3"),
        (torch.ones(1, 3, device="meta"), "no values"),
        (torch.ones(1, 4), r"raised RuntimeError on an input of shape \(1, 4\)"),
    ],
)
def test_an_unusable_input_is_refused_with_words(x, words):
    with pytest.raises(InputError, match=words):
        Jacobian(nn.Linear(3, 3), x)


def raising(x):
    raise KeyError("missing table")


def recursing(x):
    return recursing(x)


@pytest.mark.parametrize(
    ("f", "error", "words"),
    [
        (lambda x: (3, "x"), InputError, "a tuple holding 0: int, 1: str, expected a tensor"),
        (lambda x: None, InputError, "returned None, expected a tensor"),
        (lambda x: 3.0, InputError, "a value of type float"),
        (lambda x: x.argmax(-1), MeasurementError, "int64, which has no derivative"),
        (lambda x: x.to(torch.complex128), MeasurementError, "complex"),
        (lambda x: x / 0, MeasurementError, r"not finite at this input \(3 of 3 values\)"),
        (lambda x: x[:0], InputError, "the output has no elements"),
        (raising, InputError, "raised KeyError.*missing table"),
        (recursing, InputError, "recurses without end"),
        (5, InputError, "expected a module or a function, got int"),
    ],
)
def test_an_unusable_network_is_refused_with_words(f, error, words):
    with pytest.raises(error, match=words):
        Jacobian(f, torch.ones(1, 3))


def test_weights_that_are_not_finite_are_named():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight.data[0, :2] = float("nan")
    with pytest.raises(MeasurementError, match=r"'1.weight' has 2 NaN or infinite values of 9"):
        Jacobian(net, torch.ones(1, 3))


def test_lazy_and_meta_layers_are_refused_by_name():
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(InputError, match="'weight' has no shape yet"):
        Jacobian(lazy, torch.ones(1, 3))
    with pytest.raises(InputError, match="'weight' has no values"):
        Jacobian(nn.Linear(3, 3, device="meta"), torch.ones(1, 3))


def test_a_function_over_a_module_leaves_no_graph_and_no_gradient():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()
    x = torch.randn(1, 3, dtype=torch.float64)
    J = Jacobian(lambda t: net(t), x)
    for product in (J.dense(), J @ torch.ones(3), J.T @ torch.ones(3)):
        assert not product.requires_grad
    assert close(J.dense(), Jacobian(net, x).dense())
    assert isometry.analyze(lambda t: net(t), x).trustworthy
    assert all(p.grad is None for p in net.parameters())
