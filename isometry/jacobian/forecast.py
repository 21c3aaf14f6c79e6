"""How large a network's tensors become, before any of them is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from isometry.errors import MemoryBudgetError
from isometry.memory import format_size

PureFunction = Callable[[Tensor], Tensor]

# Layers whose output can be larger than their input and weights by any factor.
_EXPANDING = (
    *(nn.Upsample, nn.Fold, nn.Unfold, nn.PixelShuffle, nn.MaxUnpool1d, nn.MaxUnpool2d),
    *(nn.MaxUnpool3d, nn.modules.conv._ConvTransposeNd, nn.modules.padding._ConstantPadNd),
    *(nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd),
    nn.modules.padding._CircularPadNd,
)
_ADAPTIVE = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)
_USUAL_PADDING, _USUAL_OUTPUT = 64, 2**16
_SMALL = 2**24  # bytes that need no look


def can_expand(modules: Sequence[nn.Module]) -> bool:
    """Whether a network of stock layers has some that could make much of a small input.

    Code of the user's own is not run without values: it may keep what it made of them.
    """
    kinds = set(map(type, modules))
    if not all(kind.__module__.startswith("torch.nn.") for kind in kinds):
        return False
    able = {k for k in kinds if issubclass(k, (*_EXPANDING, *_ADAPTIVE, nn.modules.conv._ConvNd))}
    return any(_expands(m) for m in modules if type(m) in able)


def _expands(m: nn.Module) -> bool:
    if isinstance(m, _ADAPTIVE):
        asked: Any = m.output_size
        sizes: tuple[int | None, ...] = asked if isinstance(asked, tuple) else (asked,)
        return math.prod(size or 1 for size in sizes) > _USUAL_OUTPUT
    if isinstance(m, nn.modules.conv._ConvNd) and not isinstance(m, _EXPANDING):
        return not isinstance(m.padding, str) and max(m.padding) > _USUAL_PADDING
    return isinstance(m, _EXPANDING)


def refuse_beyond(
    budget: int, shapes_only: PureFunction, like: Tensor, modules: Sequence[nn.Module]
) -> None:
    """Run a network on tensors without values, and refuse one whose tensors would not fit.

    Parameters
    ----------
    budget : int
        Bytes.
    shapes_only : callable
        The network with weights on the meta device.
    like : Tensor
        The input, of which only shape and type are used.
    modules : sequence of Module
        Whose outputs are counted.

    Raises
    ------
    MemoryBudgetError
        If one forward pass keeps more than the budget.
    """
    needed = 0

    def count(_m: nn.Module, _a: object, out: object) -> None:
        nonlocal needed
        if isinstance(out, Tensor):
            needed += out.numel() * like.element_size()

    with ExitStack() as hooks, torch.no_grad():
        for m in modules:
            if _expands(m):
                hooks.callback(m.register_forward_hook(count).remove)
        try:
            shapes_only(torch.empty(like.shape, dtype=like.dtype, device="meta"))
        except Exception:  # an operator without shapes, or an error that the real run will name
            return
    if needed > max(budget, _SMALL):
        raise MemoryBudgetError(
            f"one forward pass makes tensors of {format_size(needed)}, more than the "
            f"{format_size(budget)} allowed: give a smaller input, or allow it with --memory "
            f"{format_size(1.1 * needed, '')} (memory=...)"
        )
