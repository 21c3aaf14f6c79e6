"""The blocks of a network: what its calls do to a small change of what they are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from isometry.anatomy.path import Segment, branches, segments
from isometry.anatomy.tape import Call, Ref, Tape
from isometry.errors import MeasurementError

Kind = Literal["weight", "activation", "routing", "normalisation", "sum", "opaque"]

# Where these take what they multiply, and the matrix.
_MATRIX: dict[Callable[..., Any], tuple[int, int]] = {
    functional.linear: (0, 1),
    torch.matmul: (0, 1),
    torch.mm: (0, 1),
    torch.Tensor.matmul: (0, 1),
    torch.Tensor.mm: (0, 1),
    torch.Tensor.__matmul__: (0, 1),
    torch.addmm: (1, 2),
}
_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)
# To find a norm: the size of an input beside which nothing counts, what is the same although
# float32 rounds within, a step of an input relative to it, and what is flat beside other ways.
_LARGE, _SAME, _STEP, _FLAT = 1e3, 1e-4, 0.25, 0.1
_SEED = 5077  # one of which no network is made: its weights could be the same numbers
_NORMALISATIONS = {"layer_norm", "rms_norm", "group_norm", "instance_norm", "softmax"}


@dataclass(frozen=True, eq=False)
class Block:
    """One piece of the way from the input to the output.

    Attributes
    ----------
    kind : str
        *weight*: a matrix or a convolution. *activation*: acts on every entry by itself, as slopes,
        scales and masks do. *routing*: moves entries, or drops some, and changes none.
        *normalisation*: a layer, group, instance or RMS norm, or a softmax. *sum*: two ways
        that meet in an addition. *opaque*: anything else, known by its own Jacobian.
    name : str
        Of the module, and of the call where that does not say it.
    function : callable
        From what comes in to what goes out, for any tensor of its shape.
    point : Tensor
        What came in.
    shape : tuple of int
        (m, n) of its Jacobian.
    slopes : Tensor or None
        Of an activation, the derivative of every entry of what goes out or comes in, whichever
        are fewer, in no particular order; of routing, ones.
    elementwise : bool
        Of an activation, whether every entry stays in its place: slopes are then in order.
    matrix : Tensor or None
        (n_out, n_in) of a weight that acts on the last dimension, or on all entries as a vector.
    kernel : Tensor or None
        Of a convolution, (n_out, n_in / groups, *offsets).
    transposed : Tensor or None
        Of a transposed convolution, (n_in, n_out / groups, *offsets).
    circular : bool
        Of a convolution, whether its padding is.
    call : Call
        The last of its calls.
    ways : tuple of tuple of Block
        Of a sum: the two ways, () for a skip that is not scaled.
    """

    kind: Kind
    name: str
    function: Callable[[Tensor], Tensor]
    point: Tensor
    shape: tuple[int, int]
    call: Call
    slopes: Tensor | None = None
    elementwise: bool = False
    matrix: Tensor | None = None
    kernel: Tensor | None = None
    transposed: Tensor | None = None
    circular: bool = False
    ways: tuple[tuple[Block, ...], ...] = ()

    @property
    def skip(self) -> float | None:
        """Of a sum a x + F(x), the scale a; None where neither way does no more than scale."""
        for way in self.ways:
            if not way:
                return 1.0
            slopes = way[0].slopes if len(way) == 1 and way[0].elementwise else None
            if slopes is not None and bool((slopes == slopes.flatten()[0]).all()):
                return float(slopes.flatten()[0])
        return None


@dataclass(frozen=True, eq=False)
class Path:
    """All blocks from the input to the output, in order.

    Attributes
    ----------
    blocks : tuple of Block
    tape : Tape
    """

    blocks: tuple[Block, ...]
    tape: Tape


def blocks(tape: Tape) -> Path:
    """Cut a forward pass into blocks, and tell what each one does.

    What acts entry by entry, and what only moves entries, is found by trying: with random
    cotangents u, the first has Jᵀu = u · Jᵀ1, and the second returns entries of u. A weight turns
    random x into x Wᵀ plus what it makes of 0, W being one of its arguments; a norm over the last
    dimension does not see the scale of any position. So any function counts, not those of a list.

    Neighbours that do not mix entries are one block: the slopes of two activations in a row
    multiply, and are not free of each other. What does nothing is left out.

    Raises
    ------
    MeasurementError
        If the way from the input to the output could not be followed.
    """
    if tape.output is None:
        raise MeasurementError(
            "the way from the input to the output could not be followed, call by call, through "
            "scripted code or a function with a derivative of its own: it is measured as a whole"
        )
    way = segments(tape, Ref(0), tape.output)
    return Path(tuple(_named(_merged([_block(tape, part) for part in way]))), tape)


def _block(tape: Tape, segment: Segment) -> Block:
    call = tape.calls[segment.calls[-1] - 1]
    point = tape.value(segment.start)
    function = tape.between(segment.start, segment.stop, segment.calls)
    shape = tape.value(segment.stop).numel(), point.numel()
    block = Block("opaque", _printable(call.module or call.name), function, point, shape, call)
    if len(segment.calls) > 1:
        parts = tuple(
            tuple(_merged([_block(tape, part) for part in way])) for way in branches(tape, segment)
        )
        return replace(block, kind="sum", ways=parts) if parts else _by_trying(block)
    if (matrix := _matrix(call)) is None and len(call.inputs) == 1:
        matrix = _tried_matrix(block)
    if matrix is not None:
        return replace(block, kind="weight", matrix=matrix)
    if (kernel := _kernel(call, _CONVOLUTIONS)) is not None:
        return replace(block, kind="weight", kernel=kernel)
    if (kernel := _kernel(call, _TRANSPOSED)) is not None:
        return replace(block, kind="weight", transposed=kernel)
    if call.name in _NORMALISATIONS:
        return replace(block, kind="normalisation")
    return _by_trying(block)


def _matrix(call: Call) -> Tensor | None:
    """Return the matrix by which a call multiplies, if that is what it does."""
    places = _MATRIX.get(call.function)
    if places is None or call.kwargs or len(call.inputs) > 1:
        return None
    x, matrix = (call.args[place] for place in places)
    if not isinstance(x, Ref) or not isinstance(matrix, Tensor) or matrix.ndim != 2:
        return None
    return matrix if call.function is functional.linear else matrix.T


def _kernel(call: Call, convolutions: Sequence[Callable[..., Any]]) -> Tensor | None:
    """Return the kernel, if a call is one of these and convolves the input by something fixed."""
    if call.function not in convolutions or len(call.inputs) > 1:
        return None
    weight = call.args[1] if len(call.args) > 1 else call.kwargs.get("weight")
    return weight if isinstance(weight, Tensor) else None


def _tried_matrix(block: Block) -> Tensor | None:
    """Return that argument of a call by which it multiplies, whichever way round, if one is."""
    given, x = pytree.tree_leaves((block.call.args, dict(block.call.kwargs))), block.point
    for matrix in (t for t in given if isinstance(t, Tensor) and t.ndim == 2):
        for way_round in (matrix, matrix.T):
            if _fits(way_round, block) and _multiplies(way_round, block, _random_like(x)):
                return way_round
    return None


def _fits(matrix: Tensor, block: Block) -> bool:
    """Whether the Jacobian could be this matrix at each of some positions."""
    (rows, columns), (m, n) = matrix.shape, block.shape
    return matrix.dtype == block.point.dtype and m * columns == n * rows and n % columns == 0


def _multiplies(matrix: Tensor, block: Block, x: Tensor) -> bool:
    """Whether x becomes x Wᵀ, beside what 0 becomes: as a whole, or along its last dimension."""
    if x.numel() != matrix.shape[1] and x.shape[-1] != matrix.shape[1]:
        return False
    with torch.no_grad():
        made = block.function(x) - block.function(torch.zeros_like(x))
    if x.numel() != matrix.shape[1] and made.shape[-1] != len(matrix):
        return False
    return _close(made.flatten(), (x.reshape(-1, matrix.shape[1]) @ matrix.detach().T).flatten())


def _by_trying(block: Block) -> Block:
    """Tell activations, routing and norms from the rest, by their products with random vectors."""
    x, y = _linearised(block)
    u = _random_like(y)
    pulled, slopes = _pull(x, y, u), _pull(x, y, torch.ones_like(y))
    if x.shape == y.shape and _close(pulled, slopes * u):
        plain = bool((slopes == 1).all())
        kind: Kind = "routing" if plain else "activation"
        return replace(block, kind=kind, slopes=slopes, elementwise=True)
    moved = pulled[pulled != 0]
    whole = len(moved) == min(block.shape) == len(torch.unique(moved))
    if whole and bool(torch.isin(moved, u).all()):
        return replace(block, kind="routing", slopes=torch.ones_like(moved))
    return replace(block, kind="normalisation") if _normalises(block, y) else block


def _normalises(block: Block, y: Tensor) -> bool:
    """Whether a function does not see how large the last dimension is, at any position.

    Where what is added to the variance does not count beside them, positions may be scaled apart;
    and here along x is flat beside any other way, which it is not where a function saturates.
    """
    x = block.point
    if x.shape != y.shape or not x.ndim or x.shape[-1] == 1:
        return False
    with torch.no_grad():
        large = _LARGE * x / (float(x.abs().max()) or 1.0)
        apart = large * (1 + _random_like(x[..., :1]).abs())
        one, other = block.function(large), block.function(apart)
        v = _random_like(x)
        v = v * x.norm() / v.norm()
        along, across = ((block.function(x + _STEP * d) - y).norm() for d in (x, v))
        same = max(_SAME, 4 * torch.finfo(x.dtype).eps) * one.abs().max()
        return bool((one - other).abs().max() <= same and along < _FLAT * across)


def _merged(found: Sequence[Block]) -> list[Block]:
    """Join neighbours that mix no entries, and drop what does nothing."""
    joined: list[Block] = []
    found = _padded(found)
    for mixes, group in groupby(found, key=lambda b: b.kind not in ("activation", "routing")):
        run = list(group)
        joined += run if mixes else _joined(run)
    return joined


def _padded(found: Sequence[Block]) -> list[Block]:
    """Make padding part of the convolution that it is for."""
    joined: list[Block] = []
    for block in found:
        before = joined[-1] if joined else None
        if block.kernel is not None and before is not None and before.call.name == "pad":
            mode = (*before.call.args, before.call.kwargs.get("mode"))
            joined[-1] = replace(
                block,
                function=_after(before.function, block.function),
                point=before.point,
                shape=(block.shape[0], before.shape[1]),
                circular="circular" in [m for m in mode if isinstance(m, str)],
            )
        else:
            joined.append(block)
    return joined


def _after(
    first: Callable[[Tensor], Tensor], then: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    return lambda x: then(first(x))


def _joined(run: Sequence[Block]) -> list[Block]:
    """Return what a run of activations and routing comes to: one block, or none."""
    acting = [b for b in run if b.kind == "activation"]
    shape = run[-1].shape[0], run[0].shape[1]
    if not acting and shape[0] == shape[1]:
        return []
    if len(run) == 1:
        return list(run)

    def function(x: Tensor) -> Tensor:
        for block in run:
            x = block.function(x)
        return x

    names = " + ".join(dict.fromkeys(b.name for b in acting[:3] or run[:1]))
    last = acting[-1] if acting else run[-1]
    whole = replace(last, name=names, function=function, point=run[0].point, shape=shape)
    x, y = _linearised(whole)
    # Each column, and each row, has one entry at most: Jᵀ1 holds those of the columns.
    slopes = _pull(x, y, torch.ones_like(y)).flatten()
    u = _random_like(y)
    stays = len(slopes) == u.numel() and _close(_pull(x, y, u).flatten(), slopes * u.flatten())
    if len(slopes) > min(shape):
        slopes = slopes[slopes.abs().argsort(descending=True)[: min(shape)]]
    kind: Kind = "activation" if acting else "routing"
    return [replace(whole, kind=kind, slopes=slopes, elementwise=stays)]


def _linearised(block: Block) -> tuple[Tensor, Tensor]:
    x = block.point.detach().requires_grad_()
    with torch.enable_grad():
        return x, block.function(x)


def _pull(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    if not y.requires_grad:
        return torch.zeros_like(x)
    pulled: Tensor = torch.autograd.grad(y, x, u, retain_graph=True, materialize_grads=True)[0]
    return pulled


def _random_like(y: Tensor) -> Tensor:
    g = torch.Generator(device="cpu").manual_seed(_SEED)
    return torch.randn(y.shape, generator=g, dtype=y.dtype, device="cpu").to(y.device)


def _close(a: Tensor, b: Tensor) -> bool:
    tolerance = 64 * torch.finfo(a.dtype).eps * float(b.abs().max())
    return bool(((a - b).abs() <= tolerance).all())


def _named(found: Sequence[Block]) -> list[Block]:
    """Name the blocks of one module apart: by their branch or call, and if need be by a number."""
    times = Counter(b.name for b in found)
    named = [
        replace(b, name=_branch(b) or f"{b.name}.{b.call.name}") if times[b.name] > 1 else b
        for b in found
    ]
    seen: dict[str, int] = {}
    for i, block in enumerate(named):
        seen[block.name] = seen.get(block.name, 0) + 1
        if seen[block.name] > 1:
            named[i] = replace(block, name=f"{block.name} ({seen[block.name]})")
    return named


def _branch(block: Block) -> str | None:
    """Name a sum after the module, within its own, that makes what is added to the skip."""
    if block.skip is None:
        return None
    ways = (b for way in block.ways for b in way)
    makers = [b.call.module for b in ways if b.kind not in ("activation", "routing")]
    around = block.call.module
    within = f"{around}." if around else ""
    if not makers or not makers[-1].startswith(within) or makers[-1] == around:
        return None
    maker = within + makers[-1].removeprefix(within).split(".")[0]
    return f"{_printable(maker)} + skip"


def _printable(name: str) -> str:
    """Return a name that can be shown: modules may be called anything."""
    return name if name.isprintable() else repr(name)
