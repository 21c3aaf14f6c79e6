"""What caps the rank of a Jacobian: narrow layers, and activations that are flat.

Read off the autograd graph of one forward pass, so functional calls count as much as
modules. A tensor caps the rank only if *every* path from input to output runs through it;
paths are counted exactly, with Python's unbounded integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isometry.jacobian.operator import Jacobian

# Elementwise operations whose derivative is exactly zero on a whole interval.
_FLAT = (
    "ReluBackward",
    "ClampBackward",
    "ThresholdBackward",
    "HardtanhBackward",
    "HardsigmoidBackward",
    "HardswishBackward",
    "HardshrinkBackward",
    "SoftshrinkBackward",
)


_MOST_NODES = 25_000


@dataclass(frozen=True)
class Bottleneck:
    """Upper bounds on the rank of J that the network's structure proves.

    Attributes
    ----------
    width : int
        Elements of the narrowest tensor that every path crosses, at most min(m, n).
    alive : int
        The same, counting only units whose activation has a non-zero derivative; at most
        `width`. The `width - alive` zeros between the two are made by the activations.
    """

    width: int
    alive: int


def bottleneck(jacobian: Jacobian) -> Bottleneck:
    """Bound the rank of J from the autograd graph of one forward pass.

    Where the graph cannot be read, the bounds are min(m, n), which claims nothing.
    """
    width = alive = min(jacobian.shape)
    try:
        x, y = jacobian.graph()
        for node in _cuts(y, x):
            if shape := _output_shape(node):
                width = min(width, math.prod(shape))
                if node.name().startswith(_FLAT):
                    alive = min(alive, _alive_units(node, shape, x))
    except Exception:  # a graph of a kind that nobody thought of claims nothing
        return Bottleneck(min(jacobian.shape), min(jacobian.shape))
    return Bottleneck(width, min(width, alive))


def _cuts(y: Tensor, x: Tensor) -> Iterable[Any]:
    """Nodes that every path from x to y crosses: paths through them equal all paths."""
    children = _children(y.grad_fn)
    leaves = (node for node, inner in children.items() if not inner)
    source = next((n for n in leaves if getattr(n, "variable", None) is x), None)
    if source is None:
        return []
    root = next(iter(children))
    ahead = dict.fromkeys(children, 0) | {root: 1}
    for node, inner in children.items():
        for child in inner:
            ahead[child] += ahead[node]
    behind = {source: 1}
    for node, inner in reversed(children.items()):
        if node is not source:
            behind[node] = sum(behind[child] for child in inner)
    total = behind[root]
    return [n for n in children if total and ahead[n] * behind[n] == total]


def _children(root: Any) -> dict[Any, list[Any]]:
    """Every node, before its children, with them; none of a graph too deep to be walked.

    Iterative, since networks may be thousands deep; but PyTorch frees the nodes that Python has
    seen one inside the other, and some 30,000 of them overflow its stack.
    """
    children: dict[Any, list[Any]] = {}
    finished: dict[Any, list[Any]] = {}
    stack = [root] if root is not None else []
    while stack:
        node = stack[-1]
        if node not in children:
            if len(children) == _MOST_NODES:
                return {}
            children[node] = [child for child, _ in node.next_functions if child is not None]
            stack += [child for child in children[node] if child not in children]
        else:
            stack.pop()
            finished.setdefault(node, children[node])
    return dict(reversed(finished.items()))


def _output_shape(node: Any) -> tuple[int, ...] | None:
    # Private, absent in some releases: without it nothing is claimed.
    metadata = getattr(node, "_input_metadata", None)
    if metadata is None or len(metadata) != 1:
        return None
    shape = tuple(metadata[0].shape)
    return (*shape, 2) if metadata[0].dtype.is_complex else shape  # a complex entry is two reals


def _alive_units(node: Any, shape: tuple[int, ...], like: Tensor) -> int:
    slope = node(torch.ones(shape, dtype=like.dtype, device=like.device))
    slope = slope[0] if isinstance(slope, tuple) else slope
    return int(torch.count_nonzero(slope))
