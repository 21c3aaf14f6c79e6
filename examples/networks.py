"""Networks that stock layers cannot spell: the factories that ``--model`` points to."""

import math

import torch
from torch import nn
from torch.nn.utils import skip_init

# The layers a file of data/models may hold: what a restricted loader has to be told about.
LAYERS = [nn.Sequential, nn.Linear, nn.Conv2d, nn.Tanh, nn.ReLU, nn.Flatten, nn.Unflatten]


class ResidualMLP(nn.Module):
    """Pre-activation residual network, ``h <- h + W tanh(h) / sqrt(depth)``, with a linear head.

    With ``W`` of unit gain each branch adds 1/depth of the variance, so the Jacobian's singular
    values stay of order one however deep the network is.

    Parameters
    ----------
    width : int
        Units of every layer, of the input too.
    depth : int
        Number of residual branches.
    outputs : int, optional
        Units of the head; the width unless given.
    """

    def __init__(self, width: int = 64, depth: int = 20, *, outputs: int | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(skip_init(nn.Linear, width, width) for _ in range(depth))
        self.activation = nn.Tanh()
        self.head = skip_init(nn.Linear, width, outputs or width)
        self.scale = 1 / math.sqrt(depth)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Gaussian branches of unit gain, an orthogonal head, and no biases."""
        generator = generator or torch.Generator().manual_seed(0)
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=branch.in_features**-0.5, generator=generator)
            nn.init.zeros_(branch.bias)
        nn.init.orthogonal_(self.head.weight, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs ``(..., width)`` to outputs ``(..., outputs)``."""
        for branch in self.branches:
            x = x + self.scale * branch(self.activation(x))
        return self.head(x)


def residual_mlp(depth: int = 20) -> ResidualMLP:
    """The network whose state is in ``data/models/resnet.pt``."""
    return ResidualMLP(width=64, depth=depth)
