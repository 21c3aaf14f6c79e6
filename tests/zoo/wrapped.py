"""Networks inside what people wrap them in: compilers, checkpoints, parametrizations, closures."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from tests.zoo.case import CUT, Family, quiet, settled

CASES = Family("wrapped networks")
_SHAPE = (1, 6)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 5))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.last = mlp(), nn.Linear(5, 4)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        # Reentrant checkpointing complains whenever nothing asks for a gradient.
        with quiet("None of the inputs have requires_grad=True"):
            y = checkpoint(self.inner, x, use_reentrant=self.reentrant)
        return self.last(y)


CASES.add("checkpoint, use_reentrant=False", lambda: Checkpointed(False), _SHAPE)
CASES.add("checkpoint, use_reentrant=True", lambda: Checkpointed(True), _SHAPE)
CASES.add(
    "checkpoint, use_reentrant=False, train mode",
    lambda: Checkpointed(False),
    _SHAPE,
    train_mode=True,
)


class Holding(nn.Sequential):
    """Compiling looks at the gradient of what comes in, and PyTorch warns of its own look."""

    def forward(self, x: Tensor) -> Tensor:
        with quiet("The .grad attribute of a Tensor that is not a leaf", UserWarning):
            return super().forward(x)


def _compiled_submodule() -> nn.Module:
    net = Holding(*mlp())
    net[2] = torch.compile(net[2], backend="eager")
    return net


def _compiled_in_place() -> nn.Module:
    net = mlp()
    net.compile(backend="eager")
    return net


def _compiled_part_in_place() -> nn.Module:
    net = Holding(*mlp())
    net[2].compile(backend="eager")
    return net


def _compiled_function():
    net = settled(mlp())
    return torch.compile(lambda x: net(x).sin(), backend="eager")


class CallsCompiled(nn.Module):
    """Holds a compiled function as a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()
        self.act = torch.compile(lambda y: y * torch.sigmoid(y), backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        with quiet("The .grad attribute of a Tensor that is not a leaf", UserWarning):
            return self.act(self.inner(x))


CASES.add("torch.compile(module)", lambda: torch.compile(mlp(), backend="eager"), _SHAPE)
CASES.add(
    "torch.compile(module), aot_eager",
    lambda: torch.compile(mlp(), backend="aot_eager"),
    _SHAPE,
    quick=False,
)
CASES.add("torch.compile of a submodule", _compiled_submodule, _SHAPE)
CASES.add("module.compile()", _compiled_in_place, _SHAPE)
CASES.add("submodule.compile()", _compiled_part_in_place, _SHAPE)
CASES.add("torch.compile(function)", _compiled_function, _SHAPE)
CASES.add("module that calls a compiled function", CallsCompiled, _SHAPE)


def _scripted() -> nn.Module:
    with quiet("`torch.jit.script`", DeprecationWarning):
        return torch.jit.script(settled(mlp()))


def _traced() -> nn.Module:
    with quiet("`torch.jit.trace", DeprecationWarning):
        return torch.jit.trace(settled(mlp()), torch.randn(_SHAPE))


def _frozen_script() -> nn.Module:
    with quiet("`torch.jit.script`", DeprecationWarning), quiet("`torch.jit.freeze`"):
        return torch.jit.freeze(_scripted())


CASES.add("torch.jit.script", _scripted, _SHAPE)
CASES.add("torch.jit.trace", _traced, _SHAPE)
CASES.add("torch.jit.freeze", _frozen_script, _SHAPE)
CASES.add(
    "torch.export module()",
    lambda: torch.export.export(settled(mlp()), (torch.randn(_SHAPE),)).module(),
    _SHAPE,
)
CASES.add("fx.symbolic_trace", lambda: torch.fx.symbolic_trace(settled(mlp())), _SHAPE)
CASES.add("DataParallel", lambda: nn.DataParallel(mlp()), _SHAPE)


def _with(change) -> nn.Module:
    net = mlp()
    change(net[2])
    return net


def _legacy_weight_norm(layer: nn.Module) -> None:
    with quiet("`torch.nn.utils.weight_norm` is deprecated", FutureWarning):
        nn.utils.weight_norm(layer)


class Symmetric(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return (w + w.T) / 2


for _name, _change in {
    "parametrization weight_norm": parametrizations.weight_norm,
    "parametrization spectral_norm": parametrizations.spectral_norm,
    "parametrization orthogonal": parametrizations.orthogonal,
    "parametrization of one's own": lambda m: nn.utils.parametrize.register_parametrization(
        m, "weight", Symmetric()
    ),
    "legacy weight_norm": _legacy_weight_norm,
    "pruned, l1_unstructured": lambda m: prune.l1_unstructured(m, "weight", amount=0.5),
    "pruned, ln_structured": lambda m: prune.ln_structured(m, "weight", 0.25, n=2, dim=0),
    "forward hook that changes the output": lambda m: m.register_forward_hook(
        lambda module, args, out: 2 * out
    ),
    "forward pre-hook that changes the input": lambda m: m.register_forward_pre_hook(
        lambda module, args: (args[0].sin(),)
    ),
    "full backward hook that changes nothing": lambda m: m.register_full_backward_hook(
        lambda module, grad_in, grad_out: None
    ),
}.items():
    CASES.add(_name, lambda change=_change: _with(change), _SHAPE)

CASES.add(
    "full backward hook that clips the gradient",
    lambda: _with(
        lambda m: m.register_full_backward_hook(lambda module, grad_in, out: (0.5 * grad_in[0],))
    ),
    _SHAPE,
    refused=CUT,
    why="the hook makes backward another function than the derivative",
)
CASES.add(
    "parametrization spectral_norm, train mode",
    lambda: _with(parametrizations.spectral_norm),
    _SHAPE,
    train_mode=True,
)


def _closure():
    net = settled(mlp())
    return lambda x: net(x) + net(2 * x)


def _closure_over_tensors():
    w, b = torch.randn(5, 6), torch.randn(5)
    return lambda x: torch.tanh(x @ w.T + b)


def _partial():
    return functools.partial(lambda net, x, scale: scale * net(x), settled(mlp()), scale=2.0)


class Model:
    """Not a module, but holds one."""

    def __init__(self) -> None:
        self.net = settled(mlp())

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(-1)

    __call__ = predict


def _functional_call():
    net = settled(mlp())
    state = {k: 1.5 * v.detach() for k, v in net.state_dict().items()}
    return lambda x: torch.func.functional_call(net, state, (x,))


def _ensemble():
    nets = [settled(mlp()) for _ in range(3)]
    params, buffers = torch.func.stack_module_state(nets)

    def one(p, b, x):
        return torch.func.functional_call(nets[0], (p, b), (x,))

    return lambda x: torch.vmap(one, (0, 0, None))(params, buffers, x).mean(0)


CASES.add("closure over a module", _closure, _SHAPE)
CASES.add("closure over tensors", _closure_over_tensors, _SHAPE)
CASES.add("functools.partial", _partial, _SHAPE)
CASES.add("bound method", lambda: Model().predict, _SHAPE)
CASES.add("callable object", Model, _SHAPE)
CASES.add("torch.func.functional_call", _functional_call, _SHAPE)
CASES.add("ensemble by vmap and stack_module_state", _ensemble, _SHAPE)
CASES.add("plain function of torch", lambda: torch.tanh, _SHAPE)
CASES.add("frozen parameters", lambda: mlp().requires_grad_(False), _SHAPE)


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(x)


# Autocast leaves float64 alone, so in float64 the function measured is the exact one.
CASES.add("autocast to bfloat16 inside forward", Autocast, _SHAPE)


class Upcasting(nn.Module):
    """RMS norm as language models write it: in float32 whatever comes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.gain = nn.Linear(6, 6), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        z = y.float()
        z = z * torch.rsqrt(z.square().mean(-1, keepdim=True) + 1e-6)
        return self.gain * z.to(y.dtype)


CASES.add(
    "float32 inside a float64 network",
    Upcasting,
    _SHAPE,
    tolerance=1e-4,
    why="computes in float32 inside",
)


class InferenceMode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


CASES.add("forward decorated with inference_mode", InferenceMode, _SHAPE, refused=CUT)


class InPlace(nn.Module):
    """Writes into the caller's tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2).sin_()
        return self.inner(x)


class View(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(2, 3).t()[1:]


class SliceAssignment(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        out[:, :3] = self.inner(x)[:, 3:].sin()
        out[:, 3:] += x[:, :3]
        return out


CASES.add("in-place operations on the input", InPlace, _SHAPE)
CASES.add("in-place ReLU on the input", lambda: nn.Sequential(nn.ReLU(inplace=True), mlp()), _SHAPE)
CASES.add(
    "in-place activations",
    lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(True), nn.Linear(8, 8), nn.SiLU(True)),
    _SHAPE,
)
CASES.add("a view of the input", View, _SHAPE)
CASES.add("the input itself", lambda: lambda x: x, _SHAPE)
CASES.add("slice assignment", SliceAssignment, _SHAPE)

for _dtype in (torch.float64, torch.bfloat16, torch.float16):
    CASES.add(
        f"model in {str(_dtype).removeprefix('torch.')}",
        lambda dtype=_dtype: mlp().to(dtype),
        lambda dtype=_dtype: torch.randn(_SHAPE).to(dtype),
    )


class LendsItsWeight(nn.Module):
    """Tied weights: the same tensor in two slots, once transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh()) @ self.first.weight


CASES.add("tied weights", LendsItsWeight, _SHAPE)


class PlainTensor(nn.Module):
    """A weight that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()
        self.scale = torch.rand(5) + 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale.to(x.dtype)


CASES.add("a plain tensor as attribute", PlainTensor, _SHAPE)
