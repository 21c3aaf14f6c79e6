"""Networks that look behind the measurement's back, and users who are inside something else."""

import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd import Function
from torch.nn.utils import parametrize
from torch.utils import checkpoint

import isometry
from isometry.coverage.traces import changed, traces
from isometry.errors import InputError
from isometry.jacobian import (
    Jacobian,
    context,
    culprit,
    function,
    kept,
    lent,
    operator,
    randomness,
    section,
    undo,
)
from isometry.jacobian.modules import modules_of
from isometry.jacobian.routes import batched_gradient


class Aliased(nn.Module):
    """A buffer that is a view of another, written to in forward, as a cache of keys is."""

    def __init__(self):
        super().__init__()
        self.register_buffer("all", torch.ones(4, dtype=torch.float64))
        self.register_buffer("first", self.all[:2])

    def forward(self, x):
        self.first.copy_(x[0, :2])
        return x * self.all


def test_buffers_that_view_one_memory_go_on_doing_so():
    model = Aliased()
    J = Jacobian(model, torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64))
    assert torch.equal(J.dense(), torch.diag(torch.tensor([2.0, 4, 1, 1], dtype=torch.float64)))
    assert torch.equal(model.all, torch.ones(4))
    assert model.first.data_ptr() == model.all.data_ptr()


class Conjugate(nn.Module):
    """Two buffers of one memory, one of which is its conjugate."""

    def __init__(self):
        super().__init__()
        a = torch.complex(torch.tensor([3.0]), torch.tensor([4.0])).to(torch.complex128)
        self.register_buffer("a", a)
        self.register_buffer("b", a.conj())

    def forward(self, x):
        return x * self.a.imag - 2 * x * self.b.imag


def test_buffers_that_are_conjugates_stay_so():
    J = Jacobian(Conjugate(), torch.ones(1, 1, dtype=torch.float64))
    assert J.dense().item() == 12.0


def in_place(change):
    class InPlace(Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return change(g)

    return InPlace.apply


def test_a_backward_that_writes_to_its_gradient_is_found_out():
    wrong = Jacobian(in_place(lambda g: g.neg_()), torch.randn(1, 3, dtype=torch.float64))
    check = wrong.verify()
    assert not check.passed or torch.allclose(wrong.dense(), torch.eye(3).double(), atol=1e-6)


def test_the_callers_vectors_are_not_written_to():
    right = Jacobian(in_place(lambda g: g.mul_(1)), torch.randn(1, 3), self_check=False)
    negating = Jacobian(in_place(lambda g: g.neg_()), torch.randn(1, 3), self_check=False)
    u = torch.randn(3, 2, dtype=torch.float64)
    before = u.clone()
    for J in (right, negating):
        J.T @ u
        assert torch.equal(u, before)


def test_integer_parameters_on_stock_layers_leave_the_model_whole():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    model[0].zero_point = nn.Parameter(torch.tensor([1, 2]), requires_grad=False)
    x = torch.randn(1, 4)
    before = model(x)
    isometry.analyze(model, x)
    assert torch.equal(model(x), before)
    assert isinstance(model[0].weight, nn.Parameter)


class NormedBias(nn.Linear):
    def forward(self, x):
        b = self.bias
        return nn.functional.linear(x, self.weight) + b / (b.pow(2).sum().sqrt() + 1e-6)


def test_biases_with_infinite_slopes_do_not_matter():
    model = NormedBias(4, 4)
    nn.init.zeros_(model.bias)
    J = Jacobian(model, torch.randn(1, 4))
    assert J.verify().passed
    assert torch.allclose(J @ torch.eye(4).double(), model.weight.double())


def interrupted_at(line, work, modules):
    """Run it with an interrupt at the n-th line within these modules; whether it came."""
    left = line
    files = {m.__file__ for m in modules}

    def within(frame, event, _):
        nonlocal left
        left -= event == "line"
        if event == "line" and left == 0:
            raise KeyboardInterrupt
        return within

    def tracer(frame, event, _):
        return within if frame.f_code.co_filename in files else None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_at_any_line_leaves_the_weights():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.BatchNorm1d(4), nn.Tanh()).eval()
    slots = [
        (table, name, t)
        for m in model.modules()
        for table in (m._parameters, m._buffers)
        for name, t in table.items()
    ]
    J = Jacobian(model, torch.randn(1, 4), self_check=False)
    v = torch.randn(4, 2)
    line = 1
    while interrupted_at(line, lambda: J @ v, [lent]):
        assert all(table[name] is t for table, name, t in slots), f"line {line}"
        line += 1
    assert line > 20


class Everything(nn.Module):
    """It needs all that the measurement context holds still."""

    def __init__(self):
        super().__init__()
        self.rnn, self.norm = nn.LSTM(3, 3, batch_first=True), nn.RMSNorm(3)
        self.seen = []

    def forward(self, x):
        self.seen.append(torch.rand(()))
        return self.norm(self.rnn(x)[0])


def flags():
    backends = torch.backends
    return (
        *(backends.mha.get_fastpath_enabled(), backends.mkldnn.enabled, F.dropout),
        *(backends.cuda.flash_sdp_enabled(), F.scaled_dot_product_attention),
        *(F.batch_norm, F.instance_norm, torch.is_grad_enabled(), torch.get_default_dtype()),
        *(checkpoint.CheckpointFunction, id(parametrize._cache), parametrize._cache_enabled),
        *(np.random.get_bit_generator(), context._held.get()),
    )


@pytest.mark.parametrize("train_mode", [False, True])
@pytest.mark.parametrize("part", [[context, undo, randomness], [kept, undo]], ids=["flags", "kept"])
def test_an_interrupt_at_any_line_leaves_no_trace(part, train_mode):
    model, x = Everything().train(), torch.randn(1, 2, 3)
    device = x.device

    def work():
        with context.measuring(modules, device, train_mode=train_mode):
            model(x)

    modules = modules_of(model)
    before, around = traces(model), flags()
    line = 1
    while interrupted_at(line, work, part):
        assert flags() == around, f"line {line}"
        assert changed(before, traces(model)) == [], f"line {line}"
        line += 1
    assert line > 20


@pytest.mark.parametrize("ends", [{"stop": "1"}, {"start": "1"}, {"start": "1", "stop": "2"}])
def test_an_interrupt_at_any_line_of_a_section_leaves_no_hook(ends):
    model, x = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)), torch.randn(1, 3)
    before = traces(model)
    line = 1
    while interrupted_at(line, lambda: Jacobian(model, x, **ends), [section]):
        assert changed(before, traces(model)) == [], f"line {line}"
        line += 1
    assert line > 5


class Switching(nn.Linear):
    """It takes no function transforms, and is NaN at a negative input."""

    def forward(self, x):
        self.training = not self.training
        return Old.apply(F.batch_norm(super().forward(x), None, None, training=True)).sqrt() + x


class Old(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g


@pytest.mark.parametrize(
    "part", [batched_gradient, culprit, operator, function], ids=lambda m: m.__name__
)
def test_an_interrupt_at_any_line_of_a_measurement_leaves_no_trace(part):
    model, x = nn.Sequential(Switching(3, 3), nn.Tanh()), torch.randn(2, 3)

    def work():
        with suppress(isometry.MeasurementError):
            Jacobian(model, x)

    before, around = traces(model), flags()
    line = 1
    while interrupted_at(line, work, [part]):
        assert flags() == around, f"line {line}"
        assert changed(before, traces(model)) == [], f"line {line}"
        line += 1
    assert line > 10


def test_an_interrupt_while_passes_are_compared_forgets_that():
    J = Jacobian(nn.Linear(3, 3), torch.randn(1, 3))

    def work():
        with J.network.remembering():
            pass

    line = 1
    while interrupted_at(line, work, [function, undo]):
        assert not J.network._remembering, f"line {line}"
        line += 1
    assert line > 5


class Rerun(Function):
    """Checkpointing by hand, as reversible networks do it: backward runs the layer again."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer(x).detach()

    @staticmethod
    def backward(ctx, g):
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            y = ctx.layer(x)
        torch.autograd.backward(y, g)
        return x.grad, None


class Reversible(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return Rerun.apply(x, self.layer) * self.scale


@pytest.mark.parametrize("double", [True, False])
def test_a_backward_that_runs_layers_again_finds_the_lent_weights(double):
    model = Reversible().double() if double else Reversible()
    x = torch.randn(1, 4, dtype=torch.float64 if double else torch.float32)
    expected = torch.autograd.functional.jacobian(lambda z: model.layer(z)[0], x)[:, 0]
    J = Jacobian(model, x)
    assert torch.allclose(J.T @ torch.eye(4).double(), expected.double().T, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


def test_a_forward_put_in_place_of_the_stock_one_is_not_stock(monkeypatch):
    original = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: keep(self, original(self, x)))

    def keep(module, y):
        module.last = y
        torch.rand(1)
        return y

    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    state = torch.get_rng_state()
    Jacobian(model, torch.randn(1, 4, generator=torch.Generator().manual_seed(0))).dense()
    assert torch.equal(torch.get_rng_state(), state)
    assert not hasattr(model[0], "last")


class RootOfBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        return 2 * x + self.layer.bias.sqrt()


def test_a_bias_may_be_used_in_any_way():
    J = Jacobian(RootOfBias(), torch.randn(1, 4))
    assert torch.equal(J @ torch.eye(4).double(), 2 * torch.eye(4).double())


@pytest.mark.parametrize("grad", [True, False])
def test_inference_mode_is_left_whatever_the_grad_mode(grad):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    x = torch.randn(1, 3)
    expected = Jacobian(model, x).dense()
    with torch.inference_mode(), torch.set_grad_enabled(grad):
        J = Jacobian(model, x)
        assert J.verify().loop_error < 1e-9
        assert torch.equal(J.dense(), expected)


def test_what_was_inherited_of_precision_goes_on_being_inherited():
    backends = torch.backends
    try:
        backends.fp32_precision = "tf32"
        Jacobian(nn.Linear(4, 4), torch.randn(1, 4)).dense()
        backends.fp32_precision = "ieee"
        assert backends.mkldnn.matmul.fp32_precision == "ieee"
    finally:
        backends.fp32_precision = "none"


def test_what_was_set_of_precision_stays_set():
    place = torch.backends.mkldnn.matmul
    try:
        place.fp32_precision = "bf16"
        Jacobian(nn.Linear(4, 4), torch.randn(1, 4)).dense()
        assert place.fp32_precision == "bf16"
    finally:
        place.fp32_precision = "none"


def test_cached_parametrizations_are_set_aside():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    x = torch.randn(1, 4)
    with nn.utils.parametrize.cached():
        before = model(x)
        Jacobian(model, x).dense()
        assert torch.equal(model(x), before)


def test_inside_a_transform_of_something_else():
    model, x = nn.Linear(3, 3), torch.randn(1, 3)
    found = []
    torch.func.grad(lambda z: (found.append(Jacobian(model, x).shape), z.sum())[1])(torch.ones(2))
    assert found == [(3, 3)]


def test_an_input_inside_vmap_is_refused():
    model = nn.Linear(3, 3)
    with pytest.raises(InputError, match=r"inside torch\.vmap"):
        torch.func.vmap(lambda z: Jacobian(model, z[None]).dense())(torch.randn(2, 3))


@pytest.mark.parametrize("slope", [40, 100])
def test_a_derivative_that_is_only_rounding_is_called_zero(slope):
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    check = Jacobian(lambda x: torch.softmax(slope * x, -1), x).verify()
    assert check.adjoint_error > 1e-3  # rounding has no adjoint
    assert check.failures == ("ISO307",)


def test_small_but_wrong_is_not_called_zero():
    wrong = in_place(lambda g: 2 * g)
    check = Jacobian(lambda x: 1e-6 * wrong(x) + 1, torch.zeros(1, 3).double()).verify()
    assert check.failures
    assert "ISO307" not in check.failures


class Leaving(Function):
    """Ends the program where it is differentiated by plain autograd."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        if torch._C._functorch.peek_interpreter_stack() is None:
            sys.exit(3)
        return 2 * g


def test_a_backward_that_ends_the_program_does_not():
    check = Jacobian(Leaving.apply, torch.randn(1, 3)).verify()
    assert check.loop_error is None


class Remembering(nn.Linear):
    """It keeps its input, as a layer that was last run by a transform of PyTorch's."""

    def forward(self, x):
        self.last = x
        return super().forward(x)


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.vmap])
def test_a_tensor_left_over_from_a_transform_is_no_obstacle(transform):
    def make():
        net = Remembering(3, 3)
        transform(net)(torch.ones(2, 3))
        return net

    net = make()
    before = traces(net)
    assert torch.equal(Jacobian(net, torch.ones(1, 3)).dense(), net.weight.double())
    assert changed(before, traces(net)) == []
    assert isometry.check_architecture(make, torch.ones(1, 3)).passed


@pytest.mark.parametrize("place", ["meta", "cuda"])
def test_an_array_is_read_on_the_cpu_whatever_the_default_device(place):
    net, x = nn.Linear(3, 3), np.ones((1, 3))
    try:
        torch.set_default_device(place)
        assert torch.equal(Jacobian(net, x).dense(), net.weight.double())
    finally:
        torch.set_default_device(None)


def test_a_forward_that_sets_what_belongs_to_the_process_is_put_right():
    class Setting(nn.Linear):
        def forward(self, x):
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(False)
            return super().forward(x)

    net, x = Setting(3, 3), torch.randn(1, 3)
    before = traces(net)
    with suppress(isometry.MeasurementError):
        Jacobian(net, x).dense()
    assert changed(before, traces(net)) == []


def test_a_fixed_input_inside_vmap_is_refused_too():
    net, x = nn.Linear(3, 3), torch.randn(1, 3)
    with pytest.raises(InputError, match=r"inside torch\.vmap"):
        torch.func.vmap(lambda z: Jacobian(net, x).dense().sum() * z)(torch.ones(2))


class Closed(nn.Linear):
    """No attribute of it can be set."""

    def __setattr__(self, name, value):
        if "weight" in self.__dict__.get("_parameters", {}):
            raise RuntimeError("closed")
        super().__setattr__(name, value)


def test_a_module_whose_attributes_cannot_be_set_is_measured_in_evaluation_mode():
    net, x = nn.Sequential(Closed(3, 3, bias=False), nn.Dropout()), torch.randn(1, 3)
    before = traces(net)
    assert torch.equal(Jacobian(net, x).dense(), net[0].weight.double())
    assert changed(before, traces(net)) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by", [1.1, 0.5])
def test_a_weight_that_forward_writes_to_past_the_version_counter_stays_as_it_was(dtype, by):
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            weight = self.linear.weight.detach().numpy()
            weight *= by
            return self.linear(x)

    torch.manual_seed(0)
    net = Writes().to(dtype)
    before = {n: v.clone() for n, v in net.state_dict().items()}
    for measure in (isometry.Jacobian, isometry.analyze):
        with suppress(isometry.IsometryError):
            measure(net, torch.ones(1, 4))
        for name, value in net.state_dict().items():
            assert torch.equal(value, before[name]), (measure, name)
