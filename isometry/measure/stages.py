"""The stages of a network that runs its modules one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from isometry.errors import InputError
from isometry.jacobian.operator import Jacobian


@dataclass(frozen=True, eq=False)
class Stage:
    """A piece of a chain of modules, differentiated as one.

    Attributes
    ----------
    start, stop : str
        Names of its first and its last module.
    module : Module
        That one module, or the modules in order.
    shape : tuple of int
        (m, n) of its Jacobian.
    """

    start: str
    stop: str
    module: nn.Module
    shape: tuple[int, int]


def stages(model: Callable[..., Any], x: object) -> list[Stage]:
    """Find the stages of a network that runs its modules one after the other.

    One forward pass is watched: a module is a chain if each child is given exactly the tensor
    that the one before returned, the first the input, and the output is the last one's. Chains
    within chains are unfolded; a child that is none, a residual block say, is kept whole. Layers
    without weight matrices go with the one before them.

    Parameters
    ----------
    model : torch.nn.Module
    x : Tensor, tuple or mapping
        As `Jacobian` takes it.

    Raises
    ------
    InputError
        If it is no chain of modules.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> [(s.start, s.stop, s.shape) for s in stages(net, torch.zeros(1, 3))]
    [('0', '1', (4, 3)), ('2', '2', (2, 4))]
    """
    return stages_of(Jacobian(model, x, self_check=False))


def stages_of(jacobian: Jacobian) -> list[Stage]:
    """Find the stages of the network of a Jacobian; as `stages`."""
    model = jacobian.network.model
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise InputError(f"{kind} is no chain of modules: give a network made of modules")
    watch = _Watch()
    with ExitStack() as stack:
        stack.enter_context(jacobian.session())
        for module in model.modules():
            entering = module.register_forward_pre_hook(watch.enter, with_kwargs=True)
            stack.callback(entering.remove)
            stack.callback(module.register_forward_hook(watch.leave).remove)
        with torch.no_grad():
            jacobian.f(jacobian.x)
    if watch.entered is None or not torch.equal(watch.entered, jacobian.x):
        raise InputError(
            f"{kind} is no chain of modules: what it is differentiated by is not its only input; "
            "measure it by its dense Jacobian, or give the part of it that is a chain"
        )
    if watch.parts.get(model) is None:
        raise InputError(
            f"{kind} is no chain of modules: forward of {kind} does more than call its children; "
            "measure it by its dense Jacobian, or give the part of it that is a chain"
        )
    return _grouped(model, jacobian.shape[1], watch.unfold(model, jacobian.shape[0]))


@dataclass
class _Frame:
    """A module that runs: the tensor that it hands on, and the children that took it."""

    handed: Tensor | None
    version: int
    children: list[tuple[nn.Module, int]] = field(default_factory=list)
    straight: bool = True

    def hand(self, t: object) -> None:
        self.handed = t if isinstance(t, Tensor) else None
        self.version = -1 if self.handed is None else self.handed._version

    def is_handed(self, t: object) -> bool:
        """Whether this is the tensor handed on, and nobody has written to it since."""
        return isinstance(t, Tensor) and t is self.handed and t._version == self.version


class _Watch:
    """Hooks that see who calls whom, and whether the tensor is handed on unchanged.

    Attributes
    ----------
    parts : dict
        The children of every module that is a chain, in order, each with the size of its output;
        none for a leaf, None for a module that does more than call its children.
    entered : Tensor or None
        What the network itself was given.
    """

    def __init__(self) -> None:
        self.parts: dict[nn.Module, list[tuple[nn.Module, int]] | None] = {}
        self.entered: Tensor | None = None
        self._running: list[_Frame] = []

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [*args, *kwargs.values()]
        one = given[0] if len(given) == 1 else None
        frame = _Frame(None, -1)
        frame.hand(one)
        if self._running:
            parent = self._running[-1]
            parent.straight &= parent.is_handed(one)
        else:
            self.entered = frame.handed
        self._running.append(frame)

    def leave(self, module: nn.Module, _: tuple[Any, ...], out: object) -> None:
        frame = self._running.pop()
        straight = frame.straight and (frame.is_handed(out) or not frame.children)
        parts = frame.children if straight else None
        if self.parts.setdefault(module, parts) != parts:
            self.parts[module] = None  # called again, it did something else
        if self._running:
            self._running[-1].hand(out)
            size = out.numel() if isinstance(out, Tensor) else 0
            self._running[-1].children.append((module, size))

    def unfold(self, module: nn.Module, size: int) -> list[tuple[nn.Module, int]]:
        """Return the modules of a chain in order, with their outputs, chains within it unfolded."""
        parts = self.parts.get(module)
        return (
            [leaf for part in parts for leaf in self.unfold(*part)] if parts else [(module, size)]
        )


def _grouped(model: nn.Module, n: int, leaves: Sequence[tuple[nn.Module, int]]) -> list[Stage]:
    """Put layers without weight matrices with the one before them; n is the size of the input."""
    groups: list[list[nn.Module]] = []
    sizes = [n]
    weighted = False  # whether the last group has a weight matrix
    for leaf, m in leaves:
        weighs = any(p.ndim > 1 for p in leaf.parameters())
        if groups and not (weighs and weighted):
            groups[-1].append(leaf)
            sizes[-1] = m
        else:
            groups.append([leaf])
            sizes.append(m)
            weighted = False
        weighted |= weighs
    names = {module: name for name, module in model.named_modules()}
    return [
        Stage(names[g[0]], names[g[-1]], g[0] if len(g) == 1 else nn.Sequential(*g), shape)
        for g, shape in zip(groups, zip(sizes[1:], sizes[:-1], strict=True), strict=True)
    ]
