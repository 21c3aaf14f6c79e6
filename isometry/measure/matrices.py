"""The weights of a network: how each was drawn, and how it lies to the one before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from isometry.anatomy import Block
from isometry.measure.interfaces import groups, interfaces
from isometry.measure.symbol import is_circular, steps
from isometry.part import Interface, Matrix

# In standard deviations over random directions of the input: what a unit may be given.
_REACH = 4
# Of the steepest slope of a layer: what counts as nothing.
_FLAT = 1e-2
# Of a weight inside of a sum, the smaller side: larger ones would take minutes.
_LARGEST = 2048


def matrices(way: Sequence[Block], *, largest: float = math.inf) -> dict[Block, Matrix]:
    """Return the weights on a way that are a single matrix or kernel, up to a smaller side."""
    known = interfaces(way)
    found: dict[Block, Matrix] = {}
    for block, after in zip(way, [*way[1:], None], strict=False):
        if (weight := _weight(block)) is not None and min(weight.shape) <= largest:
            found[block] = _matrix(block, weight, after, known.get(block))
    return found


def inside(block: Block) -> tuple[Matrix, ...]:
    """Return the weights on the ways of a sum, but for very large ones."""
    found: list[Matrix] = []
    for way in block.ways:
        found += matrices(way, largest=_LARGEST).values()
        for each in way:
            found += inside(each)
    return tuple(found)


def acts_alike(block: Block) -> Tensor | None:
    """Return the matrix that acts on every position, if that is what a weight does."""
    if block.matrix is not None:
        return block.matrix
    kernel = block.kernel
    if kernel is None:
        return None
    if block.shape[0] * kernel[0].numel() == block.shape[1] * len(kernel) and _is_tiling(block):
        return kernel.flatten(1)
    same_places = block.shape[0] * kernel.shape[1] == block.shape[1] * kernel.shape[0]
    odd = all(side % 2 for side in kernel.shape[2:])
    used, middle = _offsets(kernel), kernel[0, 0].numel() // 2
    if same_places and odd and used.tolist() == [middle] and groups(block) == 1:
        return kernel.flatten(2)[:, :, middle]
    return None


def _is_tiling(block: Block) -> bool:
    """Whether a kernel is laid side by side, as over the patches of an image."""
    sides = () if block.kernel is None else tuple(block.kernel.shape[2:])
    dilated = set(steps(block, "dilation", 5, 1)) != {1} and set(sides) != {1}
    padded = set(steps(block, "padding", 4, 0)) != {0} or block.circular
    return steps(block, "stride", 3, 1) == sides and not (dilated or padded or groups(block) > 1)


def _offsets(kernel: Tensor) -> Tensor:
    """Return which offsets of a kernel are not zero."""
    return kernel.flatten(2).abs().amax((0, 1)).nonzero().flatten()


def _weight(block: Block) -> Tensor | None:
    """Return the weight as a matrix; of a kernel, without the offsets that are zero."""
    if block.matrix is not None:
        return block.matrix.detach().double()
    if block.kernel is None or groups(block) > 1:
        return None
    used = _offsets(block.kernel)
    return block.kernel.detach().double().flatten(2)[:, :, used].flatten(1)


def _matrix(
    block: Block, weight: Tensor, after: Block | None, interface: Interface | None
) -> Matrix:
    rows, bias = weight.norm(dim=1), _bias(block)
    return Matrix(
        block.name,
        (weight.shape[0], weight.shape[1]),
        torch.linalg.svdvals(weight).cpu().numpy(),
        1 if block.kernel is None else len(_offsets(block.kernel)),
        kernel=0 if block.kernel is None else block.kernel[0, 0].numel(),
        kurtosis=_kurtosis(weight[rows > 0]),
        storage=_storage(block),
        alike=acts_alike(block) is not None or is_circular(block),
        bias_variance=0.0 if bias is None else float(bias.square().mean()),
        bias_centred=bias is None or _centred(bias),
        empty=int((rows == 0).sum()),
        off=int(((rows == 0) | _off(block, after, rows, bias)).sum()),
        interface=interface,
    )


def _kurtosis(weight: Tensor) -> float:
    square = weight.square()
    return float(square.square().mean() / square.mean().square()) if len(weight) else math.nan


def _storage(block: Block) -> tuple[int, int] | None:
    """Where the entries begin and how many there are, whichever way they are read."""
    weight = block.kernel if block.matrix is None else block.matrix
    return None if weight is None else (weight.data_ptr(), weight.numel())


def _off(block: Block, after: Block | None, rows: Tensor, bias: Tensor | None) -> Tensor:
    """Tell which units are flat over all that they can be given.

    Over inputs x of one size in random directions, w·x has the standard deviation ‖w‖ times the
    root mean square of x. The slopes behind are tried at so many of them around the bias.
    """
    if after is None or after.kind != "activation" or bias is None:
        return torch.zeros_like(rows, dtype=torch.bool)
    spread = rows * block.point.double().square().mean().sqrt()
    units = 1 if block.kernel is None else block.kernel.ndim - 1  # dimension, from behind
    steepest = torch.zeros_like(rows)
    for step in range(-_REACH, _REACH + 1):
        h = (bias + step * spread).to(after.point.dtype)
        h = h.reshape(-1, *(1,) * (units - 1)).expand(after.point.shape)
        slopes = _slopes(after, h).abs().double().movedim(-units, -1)
        steepest = torch.maximum(steepest, slopes.reshape(-1, len(rows)).amax(0))
    return steepest < _FLAT * steepest.max()


def _slopes(activation: Block, h: Tensor) -> Tensor:
    h = h.detach().clone().requires_grad_()
    with torch.enable_grad():
        y = activation.function(h)
    slopes: Tensor = torch.autograd.grad(y, h, torch.ones_like(y), materialize_grads=True)[0]
    return slopes


def _centred(bias: Tensor) -> bool:
    return bool(bias.mean().abs() <= 4 * bias.std(correction=0) / len(bias) ** 0.5)


def _bias(block: Block) -> Tensor | None:
    """Return what a call adds: the argument that is a vector, wherever it stands."""
    given = (*block.call.args, *block.call.kwargs.values())
    vectors = [t for t in given if isinstance(t, Tensor) and t.ndim == 1]
    return vectors[0].detach().double() if vectors else None
