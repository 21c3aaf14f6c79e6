"""One row of the coverage table: a network, what to feed it, and what an honest tool must say."""

from __future__ import annotations

import functools
import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Network = Callable[..., Any]
Make = Callable[[], tuple[Network, Any]]

# What a refusal has to say, whatever else it says.
RANDOM = "random"
STATEFUL = "changes|state|random|repeat"
CUT = "no_grad|detach|cut|differen"  # the derivative was cut off, and only differences tell
SHAPELESS = "lazy"
INTEGER = "int|bool|no derivative|floating"
CONSTANT = "constant|depend|zero"
COMPLEX = "complex"


@dataclass(frozen=True)
class Case:
    """A network with its inputs.

    Attributes
    ----------
    name, family : str
        Row and heading of the table.
    make : callable
        Returns (network, inputs), the same numbers every time. Inputs are a tensor (the only
        argument), a tuple (positional arguments) or a dict (keyword arguments). Everything is
        made in the default dtype: under ``torch.set_default_dtype(torch.float64)`` the same
        case is a float64 network.
    options : mapping
        Keyword arguments for the operator: `wrt`, `output`, `train_mode`.
    requires : str
        Import name of an optional package.
    refused : str
        Where the only honest answer is a refusal: a regular expression, in lower case, that
        its message must contain.
    quick : bool
        Whether the case belongs to the subset that runs on every change.
    own_mask : bool
        The operator freezes other random numbers than PyTorch draws from the same seed: only
        the function that it differentiates can be the truth.
    tolerance : float
        Relative to the largest entry of J; wider than 1e-6 only with the reason in `why`.
    why : str
        Reason of a wider tolerance or of a refusal.
    """

    name: str
    family: str
    make: Make
    options: Mapping[str, Any] = field(default_factory=dict)
    requires: str = ""
    refused: str = ""
    quick: bool = True
    own_mask: bool = False
    tolerance: float = 1e-6
    why: str = ""

    @property
    def available(self) -> bool:
        """Whether the optional package is installed; asks without importing it."""
        return not self.requires or importlib.util.find_spec(self.requires) is not None

    def build(self, dtype: torch.dtype = torch.float32) -> tuple[Network, Any]:
        """Make the network and its inputs in a precision."""
        own = torch.get_default_dtype()
        try:
            torch.set_default_dtype(dtype)
            network, inputs = self.make()
        finally:
            torch.set_default_dtype(own)
        if dtype == torch.float64 and isinstance(network, nn.Module):
            network = network.double()
        return network, inputs


class Use(nn.Module):
    """A layer that needs more than one argument: `call(layer, x, *constants)`."""

    def __init__(
        self, layer: nn.Module, call: Callable[..., Any], *constants: torch.Tensor
    ) -> None:
        super().__init__()
        self.layer, self.call = layer, call
        for i, constant in enumerate(constants):
            self.register_buffer(f"constant{i}", constant)

    def forward(self, x: torch.Tensor) -> Any:
        """Call the layer on x and the constants."""
        return self.call(self.layer, x, *self.buffers(recurse=False))


class Family(list[Case]):
    """The cases under one heading; `add` appends one."""

    def __init__(self, name: str, **shared: Any) -> None:
        super().__init__()
        self.name = name
        self.shared = shared

    def add(self, name: str, build: Callable[[], Network], inputs: Any, **rest: Any) -> None:
        """Add a network in evaluation mode (training mode with ``train_mode=True``).

        `inputs` is the shape of a Gaussian tensor, or a function that returns the inputs.
        """
        options = {k: rest.pop(k) for k in ("wrt", "output", "train_mode") if k in rest}

        @seeded
        def make() -> tuple[Network, Any]:
            network = settled(build(), train=options.get("train_mode", False))
            return network, inputs() if callable(inputs) else torch.randn(inputs)

        self.append(Case(name, self.name, make, options, **{**self.shared, **rest}))


def seeded(make: Make) -> Make:
    """Give `make` a random state of its own, so that its numbers never depend on the caller."""

    @functools.wraps(make)
    def same_every_time() -> tuple[Network, Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make()

    return same_every_time


def settled(network: Network, *, train: bool = False) -> Network:
    """Set the mode; where initialisation left constants, as trained networks do not have, stir.

    A layer scale of 1e-6 or a zero-initialised last norm would hide the branch under test.
    """
    if not isinstance(network, nn.Module) or isinstance(network, torch.fx.GraphModule):
        return network
    if any(nn.parameter.is_lazy(p) for p in network.parameters()):
        return network
    with torch.no_grad():
        for p in network.parameters():
            if p.is_floating_point() and p.numel() > 1 and p.min() == p.max():
                p.add_(0.2 * torch.randn_like(p))
        for name, b in network.named_buffers():
            if name.endswith("running_mean") and not b.any():
                b.normal_(std=0.3)
            elif name.endswith("running_var") and bool((b == 1).all()):
                b.uniform_(0.5, 1.5)
    return network.train(train)


@contextmanager
def quiet(message: str, category: type[Warning] = Warning) -> Iterator[None]:
    """Silence one warning, named by the words it begins with."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", re.escape(message), category)
        yield
