"""The blocks of a network: what its calls do to a small change of what they are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from isometry.anatomy.path import Segment, branches, segments
from isometry.anatomy.tape import Call, Ref, Tape
from isometry.errors import MeasurementError

Kind = Literal["weight", "activation", "routing", "normalisation", "sum", "opaque"]

_MATRIX: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.linear: lambda x, w, b=None: w,
    torch.matmul: lambda x, w: w.T,
    torch.mm: lambda x, w: w.T,
    torch.Tensor.matmul: lambda x, w: w.T,
    torch.Tensor.mm: lambda x, w: w.T,
    torch.Tensor.__matmul__: lambda x, w: w.T,
    torch.addmm: lambda b, x, w: w.T,
}
_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
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
        Of an activation, the derivative of every entry; of routing, those of what arrives: ones.
    matrix : Tensor or None
        (n_out, n_in) of a weight that acts on the last dimension.
    kernel : Tensor or None
        Of a convolution, (n_out, n_in / groups, *offsets).
    call : Call
        The last of its calls.
    ways : tuple of tuple of Block
        Of a sum: the two ways, () for the skip.
    """

    kind: Kind
    name: str
    function: Callable[[Tensor], Tensor]
    point: Tensor
    shape: tuple[int, int]
    call: Call
    slopes: Tensor | None = None
    matrix: Tensor | None = None
    kernel: Tensor | None = None
    ways: tuple[tuple[Block, ...], ...] = ()


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
    cotangents u, the first has Jᵀu = u · Jᵀ1, and the second returns entries of u. So any function
    counts, not those of a list.

    Raises
    ------
    MeasurementError
        If the way from the input to the output could not be followed.
    """
    if tape.output is None:
        raise MeasurementError(
            "the way from the input to the output could not be followed, call by call"
        )
    way = segments(tape, Ref(0), tape.output)
    return Path(tuple(_named([_block(tape, part) for part in way])), tape)


def _block(tape: Tape, segment: Segment) -> Block:
    call = tape.calls[segment.calls[-1] - 1]
    point = tape.value(segment.start)
    function = tape.between(segment.start, segment.stop, segment.calls)
    shape = tape.value(segment.stop).numel(), point.numel()
    block = Block("opaque", _title(call), function, point, shape, call)
    if len(segment.calls) > 1:
        ways = branches(tape, segment)
        parts = tuple(tuple(_block(tape, part) for part in way) for way in ways)
        return _changed(block, kind="sum", ways=parts) if parts else _by_trying(block)
    if (matrix := _matrix(call)) is not None:
        return _changed(block, kind="weight", matrix=matrix)
    if (kernel := _kernel(call)) is not None:
        return _changed(block, kind="weight", kernel=kernel)
    if call.name in _NORMALISATIONS:
        return _changed(block, kind="normalisation")
    return _by_trying(block)


def _changed(block: Block, **changes: Any) -> Block:
    return Block(**{**vars(block), **changes})


def _matrix(call: Call) -> Tensor | None:
    """The matrix by which a call multiplies, if that is what it does."""
    find = _MATRIX.get(call.function)
    if find is None or call.kwargs.keys() - {"bias", "input", "weight"} or len(call.inputs) > 1:
        return None
    try:
        found = find(*call.args)
    except TypeError:
        return None
    return found if isinstance(found, Tensor) and found.ndim == 2 else None


def _kernel(call: Call) -> Tensor | None:
    weight = call.args[1] if len(call.args) > 1 else call.kwargs.get("weight")
    if call.function not in (*_CONVOLUTIONS, *_TRANSPOSED) or not isinstance(weight, Tensor):
        return None
    return weight if isinstance(call.args[0] if call.args else None, Ref) else None


def _by_trying(block: Block) -> Block:
    """Tell an activation and routing from the rest, by their products with random cotangents."""
    x = block.point.detach().requires_grad_()
    with torch.enable_grad():
        y = block.function(x)
    if y.requires_grad is False:
        return _changed(block, kind="activation", slopes=torch.zeros_like(y))

    def pull(u: Tensor) -> Tensor:
        return torch.autograd.grad(y, x, u, retain_graph=True, materialize_grads=True)[0]

    g = torch.Generator(device="cpu").manual_seed(0)
    u = torch.randn(y.shape, generator=g, dtype=y.dtype, device="cpu").to(y.device)
    pulled = pull(u)
    if x.shape == y.shape:
        slopes = pull(torch.ones_like(y))
        if _close(pulled, slopes * u):
            plain = bool((slopes == 1).all())
            return _changed(block, kind="routing" if plain else "activation", slopes=slopes)
    moved = pulled[pulled != 0].sort().values
    sent = u.flatten().sort().values
    arrives = torch.isin(moved, sent)
    if bool(arrives.all()) and len(moved) == min(block.shape) == len(moved.unique()):
        return _changed(block, kind="routing", slopes=torch.ones_like(moved))
    return block


def _close(a: Tensor, b: Tensor) -> bool:
    scale = float(b.abs().max())
    return bool(((a - b).abs() <= 64 * torch.finfo(a.dtype).eps * scale).all())


def _title(call: Call) -> str:
    return call.module or call.name


def _named(found: Sequence[Block]) -> list[Block]:
    """Name the calls of one module apart."""
    count: dict[str, int] = {}
    for block in found:
        count[block.name] = count.get(block.name, 0) + 1
    seen: dict[str, int] = {}
    named = []
    for block in found:
        name = block.name
        if count[name] > 1:
            own = f"{name}.{block.call.name}" if block.call.module else name
            seen[own] = seen.get(own, 0) + 1
            name = own if seen[own] == 1 else f"{own} ({seen[own]})"
        named.append(_changed(block, name=name))
    return named


def largest_side(block: Block) -> int:
    """The larger dimension of its Jacobian."""
    return max(block.shape)


def positions(block: Block) -> int:
    """How many vectors a matrix acts on."""
    if block.matrix is None:
        return 1
    return math.prod(block.shape[:1]) // block.matrix.shape[0]
