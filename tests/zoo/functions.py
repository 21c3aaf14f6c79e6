"""Custom autograd.Function in each style that PyTorch has had."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tests.zoo.case import CUT, Family

CASES = Family("custom autograd.Function")


class OldStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.cos(x)


class OldStyleExp(torch.autograd.Function):
    """Saves its output instead of its input."""

    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


class SetupContext(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return torch.sin(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.cos(x)


class WithJvpAndVmap(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.sin(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.cos(x)

    @staticmethod
    def jvp(ctx, tangent):
        (x,) = ctx.saved_tensors
        return tangent * torch.cos(x)


class GeneratedVmapOnly(SetupContext):
    generate_vmap_rule = True


class OwnVmap(SetupContext):
    @staticmethod
    def vmap(info, in_dims, x):
        return OwnVmap.apply(x), in_dims[0]


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.cos(x)


class ThroughNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(grad.numpy() * 3 * x.detach().numpy() ** 2)


class TwoOutputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x), torch.cos(x)

    @staticmethod
    def backward(ctx, g_sin, g_cos):
        (x,) = ctx.saved_tensors
        return g_sin * torch.cos(x) - g_cos * torch.sin(x)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(4 * x) / 4

    @staticmethod
    def backward(ctx, grad):
        return grad


class StraightThroughModern(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.sign(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return grad

    @staticmethod
    def jvp(ctx, tangent):
        return tangent.clone()


class WrongBackward(torch.autograd.Function):
    """A mistake, half the gradient, that no two derivatives of PyTorch's would disagree about."""

    @staticmethod
    def forward(x):
        return torch.sin(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 0.5 * grad * torch.cos(x)


class ReverseGradient(WrongBackward):
    """The layer of domain-adversarial training: the identity, whose gradient is turned round."""

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Between(nn.Module):
    """Linear, the function, Linear."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 5)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y = self.function.apply(self.first(x))
        return self.last(y[0] * y[1] if isinstance(y, tuple) else y)


for _name, _function in {
    "Function, old style (ctx in forward)": OldStyle,
    "Function, old style, saves its output": OldStyleExp,
    "Function, setup_context without jvp": SetupContext,
    "Function, jvp and generate_vmap_rule": WithJvpAndVmap,
    "Function, generate_vmap_rule without jvp": GeneratedVmapOnly,
    "Function, own vmap": OwnVmap,
    "Function, once_differentiable": OnceDifferentiable,
    "Function, through NumPy": ThroughNumpy,
    "Function, two outputs": TwoOutputs,
}.items():
    CASES.add(_name, lambda function=_function: Between(function), (1, 6))

for _name, _function in {
    "straight-through rounding": StraightThrough,
    "straight-through sign with jvp": StraightThroughModern,
    "Function with a wrong backward": WrongBackward,
    "gradient reversal": ReverseGradient,
}.items():
    CASES.add(
        _name,
        lambda function=_function: Between(function),
        (1, 6),
        refused=CUT,
        why="backward is not the derivative of forward",
    )
