"""Whatever the network is made of, a measurement leaves no bit of it changed.

Stacks of layers are drawn at random, put into a mixed state and measured; everything that
PyTorch, NumPy and Python know about them is compared before and after.
"""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import isometry

WIDTH = 6
# PyTorch's own remark on RReLU under vmap.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


# ------------------------------------------------------------------ layers with something to lose


class Counting(nn.Module):
    """Keeps plain tensors, which are no buffers, and changes them in place."""

    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(WIDTH)
        self.history = [torch.zeros(2)]
        self.table = {"last": torch.zeros(1, WIDTH)}
        self.array = np.zeros(3)

    def forward(self, x):
        self.seen += 1
        self.history[0].add_(1)
        self.history.append(x.detach())
        self.table["last"].copy_(x.detach().sum(0, keepdim=True))
        self.array += 1
        return x * 2


class Reassigning(nn.Module):
    """Replaces its tensors and grows new attributes."""

    def __init__(self):
        super().__init__()
        self.plain = torch.zeros(3)
        self.register_buffer("buffer", torch.zeros(3))
        self.register_buffer("hidden", torch.zeros(3), persistent=False)

    def forward(self, x):
        self.plain, self.buffer, self.hidden = self.plain + 1, self.buffer + 1, self.hidden + 1
        self.grown = x.detach()
        return x + 1


class Clamping(nn.Module):
    """Writes to its own weight."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        with torch.no_grad():
            self.linear.weight.clamp_(-0.1, 0.1)
        return self.linear(x)


class Random(nn.Module):
    """Draws from every global source."""

    def forward(self, x):
        return x * (1 + 0 * (torch.rand(()) + np.random.rand() + random.random()))


class Switching(nn.Module):
    """Changes a flag, and the layers of its own in a plain list."""

    def __init__(self):
        super().__init__()
        self.parts = [nn.BatchNorm1d(WIDTH)]

    def forward(self, x):
        self.training = not self.training
        return self.parts[0](x)


class Wrapped(nn.Module):
    """A layer that takes another shape."""

    def __init__(self, inner, shape):
        super().__init__()
        self.inner, self.shape = inner, shape

    def forward(self, x):
        y = self.inner(x.reshape(len(x), *self.shape))
        return (y[0] if isinstance(y, tuple) else y).reshape(len(x), WIDTH)


# fmt: off
LAYERS = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "no bias": lambda: nn.Linear(WIDTH, WIDTH, bias=False),
    "tanh": nn.Tanh,
    "in place": lambda: nn.ReLU(inplace=True),
    "batch norm": lambda: nn.BatchNorm1d(WIDTH),
    "batch norm 2d": lambda: Wrapped(nn.BatchNorm2d(2), (2, 1, 3)),
    "batch norm, cumulative": lambda: nn.BatchNorm1d(WIDTH, momentum=None),
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "group norm": lambda: nn.GroupNorm(2, WIDTH),
    "instance norm": lambda: Wrapped(nn.InstanceNorm1d(2, track_running_stats=True), (2, 3)),
    "dropout": lambda: nn.Dropout(0.5),
    "alpha dropout": lambda: nn.AlphaDropout(0.5),
    "rrelu": nn.RReLU,
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "convolution": lambda: Wrapped(nn.Conv1d(2, 2, 3, padding=1), (2, 3)),
    "LSTM": lambda: Wrapped(nn.LSTM(3, 3, dropout=0.5, num_layers=2, batch_first=True), (2, 3)),
    "attention": lambda: Wrapped(nn.TransformerEncoderLayer(3, 1, 4, batch_first=True), (2, 3)),
    "counting": Counting,
    "reassigning": Reassigning,
    "clamping": Clamping,
    "random": Random,
    "switching": Switching,
}

MEASUREMENTS = {
    "analyze": lambda net, x: isometry.analyze(net, x),
    "analyze in float32": lambda net, x: isometry.analyze(net, x, dtype="float32"),
    "check": lambda net, x: isometry.check(net, x),
    "spectrum": lambda net, x: isometry.spectrum(net, x),
    "dense": lambda net, x: isometry.Jacobian(net, x).dense(),
    "in training mode": lambda net, x: isometry.Jacobian(net, x, train_mode=True).dense(),
    "J @ V": lambda net, x: isometry.Jacobian(net, x) @ torch.ones(x.numel(), 2),
    "J.T @ U": lambda net, x: isometry.Jacobian(net, x).T @ torch.ones(x.numel(), 2),
    "of a function": lambda net, x: isometry.analyze(lambda point: net(point), x),
}
# fmt: on


# ------------------------------------------------------------------ the state, as comparable values


def content(value):
    """A value bit by bit; what it is, not only what it equals."""
    if isinstance(value, Tensor):
        grad = None if value.grad_fn is not None else value.grad
        kind = (id(value), value.dtype, value.shape, value.stride(), value.requires_grad)
        return (*kind, value.detach().numpy().tobytes(), None if grad is None else content(grad))
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes()
    if isinstance(value, dict):
        return id(value), [(k, content(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return id(value), [content(v) for v in value]
    return id(value), repr(value) if isinstance(value, (bool, int, float, str)) else None


def modules(net):
    for name, m in net.named_modules():
        yield name, m
        for i, part in enumerate(m.parts if isinstance(m, Switching) else []):
            yield f"{name}.parts.{i}", part


def state_of(net):
    """Flags, slots, hooks and attributes of every module; a state dict holds less."""
    found = {name: {k: content(v) for k, v in vars(m).items()} for name, m in modules(net)}
    for name, m in modules(net):
        found[name]["order of attributes"] = list(vars(m))
    found["state dict"] = content(dict(net.state_dict(keep_vars=True)))
    return {k: v[1] if k == "state dict" else v for k, v in found.items()}


def globals_of_torch():
    backends = torch.backends
    return {
        "python rng": random.getstate(),
        "numpy rng": repr(np.random.get_state()),
        "torch rng": torch.get_rng_state().numpy().tobytes(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "anomaly": torch.is_anomaly_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "fast path": backends.mha.get_fastpath_enabled(),
        "mkldnn": (backends.mkldnn.enabled, torch._C._get_mkldnn_enabled()),
        "cudnn": (backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic),
        "precision": [
            place.fp32_precision
            for place in (
                *(backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn),
                *(backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn),
            )
        ],
        "attention": (
            *(backends.cuda.flash_sdp_enabled(), backends.cuda.math_sdp_enabled()),
            *(backends.cuda.mem_efficient_sdp_enabled(), backends.cuda.cudnn_sdp_enabled()),
        ),
        "autocast": (
            *(torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
            torch.is_autocast_cache_enabled(),
        ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "print": repr(torch._tensor_str.PRINT_OPTS),
    }


# ------------------------------------------------------------------ the property


def hook(module, args, out):
    return out * 1.5


def pre_hook(module, args):
    return (args[0] + torch.rand(()),)


@st.composite
def networks(draw):
    """A stack of layers with mixed flags, some gradients, frozen weights and hooks."""
    kinds = draw(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=5))
    bit = draw(st.randoms(use_true_random=False)).getrandbits
    torch.manual_seed(bit(32))
    net = nn.Sequential(*(LAYERS[kind]() for kind in kinds))
    net = net.double() if draw(st.booleans()) else net
    for m in net.modules():
        m.training = bool(bit(1))
        if not bit(2):
            m.register_forward_hook(hook)
            m.register_full_backward_hook(lambda *_: None) if not bit(2) else None
        if not bit(3) and not isinstance(m, nn.TransformerEncoderLayer):
            m.register_forward_pre_hook(pre_hook)
    for p in net.parameters():
        p.requires_grad_(bool(bit(1)))
        p.grad = torch.randn_like(p) if bit(1) else None
    return net


@settings(max_examples=150)
@given(
    net=networks(),
    measurement=st.sampled_from(sorted(MEASUREMENTS)),
    rows=st.integers(1, 2),
    grad=st.booleans(),
    deterministic=st.booleans(),
)
@example(nn.Sequential(Counting(), nn.Linear(WIDTH, WIDTH)), "analyze", 1, True, False)
@example(nn.Sequential(Counting(), nn.Linear(WIDTH, WIDTH)), "of a function", 1, True, False)
@example(nn.Sequential(Reassigning(), nn.Linear(WIDTH, WIDTH)), "dense", 2, False, True)
def test_a_measurement_leaves_every_bit_as_it_was(net, measurement, rows, grad, deterministic):
    x = torch.randn(rows, WIDTH)
    x_before = content(x)
    try:
        torch.use_deterministic_algorithms(deterministic)
        with torch.set_grad_enabled(grad):
            before, around = state_of(net), globals_of_torch()
            with suppress(isometry.IsometryError):  # refused or failed: no excuse for a trace
                MEASUREMENTS[measurement](net, x)
            assert globals_of_torch() == around
            assert state_of(net) == before
    finally:
        torch.use_deterministic_algorithms(False)
    assert content(x) == x_before


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_layer_is_left_alone_in_training_mode(kind):
    torch.manual_seed(0)
    net, x = nn.Sequential(LAYERS[kind]()).train(), torch.randn(2, WIDTH)
    before, around = state_of(net), globals_of_torch()
    with suppress(isometry.IsometryError):
        isometry.Jacobian(net, x).dense()
    assert (state_of(net), globals_of_torch()) == (before, around)


# ------------------------------------------------------------------ what would be noticed


def everything():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), Counting(), Switching())
    net[0].weight.grad = torch.ones(WIDTH, WIDTH)
    return net


def same_weight_anew(net):
    net[0].weight = nn.Parameter(net[0].weight.detach().clone())


def reordered(net):
    weight = net[0].weight
    del net[0].weight
    net[0].weight = weight


TRACES = {
    "a forward pass in training": lambda net: net(torch.randn(2, WIDTH)),
    "a weight": lambda net: net[0].weight.data[0, 0].mul_(1 + 1e-7),
    "a sign of zero": lambda net: net[1].running_mean.neg_(),
    "a weight of another identity": same_weight_anew,
    "the order of the weights": reordered,
    "a gradient": lambda net: net[0].weight.grad.add_(1),
    "a lost gradient": lambda net: net.zero_grad(),
    "a frozen weight": lambda net: net[0].bias.requires_grad_(False),
    "a flag": lambda net: net[1].eval(),
    "a flag in a plain list": lambda net: net[3].parts[0].eval(),
    "a hook": lambda net: net[0].register_forward_hook(hook),
    "a plain tensor": lambda net: net[2].seen.add_(1),
    "a tensor in a list": lambda net: net[2].history[0].add_(1),
    "a longer list": lambda net: net[2].history.append(1),
    "a tensor in a dict": lambda net: net[2].table["last"].add_(1),
    "an array": lambda net: net[2].array.__iadd__(1),
    "a new attribute": lambda net: setattr(net[0], "grown", 1),
    "a random number": lambda net: torch.rand(()),
    "a random number of NumPy": lambda net: np.random.rand(),
    "a random number of Python": lambda net: random.random(),
}


@pytest.mark.parametrize("trace", TRACES)
def test_any_trace_would_be_noticed(trace):
    net = everything()
    before = state_of(net), globals_of_torch()
    assert (state_of(net), globals_of_torch()) == before
    TRACES[trace](net)
    assert (state_of(net), globals_of_torch()) != before
