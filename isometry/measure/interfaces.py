"""Neighbouring weights: whether their singular vectors line up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from isometry.anatomy import Block
from isometry.part import Interface

# ‖X̊‖ / ‖X‖ of a Gram X below which the matrix is orthogonal, to the precision of its entries.
_ISOTROPIC = 1e-4
_LARGEST = 4096  # units of an interface: beyond, the Grams are dear
_STEPS = 64  # to within a few per cent of the largest eigenvalue


def interfaces(way: Sequence[Block]) -> dict[Block, Interface]:
    r"""Measure how far neighbouring weights are from free of each other.

    With A = W Wᵀ of one weight, B = Wᵀ W of the next, both m × m, and X̊ = X − (tr X / m) 1,

        t = tr(Å B̊) / (‖Å‖_F ‖B̊‖_F),    z = t √((m − 1)(m + 2) / 2).

    If either weight is turned by a random rotation, as those of Gaussian weights are, z has mean 0
    and standard deviation 1, exactly and for every A and B: symmetric matrices without trace are
    an irreducible representation of O(m), of dimension (m − 1)(m + 2) / 2, and Schur's
    orthogonality relations give E t² = 1 / dimension.

    Where one position passes, both W and D W are tried, D being the slopes between the two, and
    the larger |z| counts. A convolution is tried by its channels: A and B are then traced over the
    places, Σ K Kᵀ over the offsets of the kernel, and the rotation is one of the channels.
    Orthogonal weights have no directions to line up, grouped ones no common channels, and
    routing that changes the number of entries leaves nothing to compare: no interface.
    Nor where more than 4096 units meet.

    Returns
    -------
    dict of Block to Interface
        By the weight that comes after.
    """
    found: dict[Block, Interface] = {}
    for before, between, after in _neighbours(way):
        left, right = _outputs(before), _inputs(after)
        if left is None or right is None or not len(left) == len(right) <= _LARGEST:
            continue
        tried = [left]
        slopes = between.slopes if between and between.elementwise else None
        if slopes is not None and slopes.numel() == len(left):
            tried.append(slopes.double().reshape(-1, 1) * left)
        b = _centred_gram(right)
        a = max((_centred_gram(each) for each in tried), key=lambda a: abs(_z(a, b)))
        if a.norm() * b.norm() > 0:
            found[after] = Interface(before.name, after.name, _z(a, b), _peak(a, b))
    return found


def groups(block: Block) -> int:
    """Return the groups of a convolution; 1 of a matrix."""
    call = block.call
    if block.kernel is None and block.transposed is None:
        return 1
    return int(call.kwargs.get("groups", call.args[6] if len(call.args) > 6 else 1))


def channels(block: Block) -> int:
    """Return how many entries a weight gives to each position."""
    if block.transposed is not None:
        return block.transposed.shape[1] * groups(block)
    weight = block.kernel if block.matrix is None else block.matrix
    return 0 if weight is None else len(weight)


def _neighbours(way: Sequence[Block]) -> Iterator[tuple[Block, Block | None, Block]]:
    """Pairs of weights with at most slopes and routing, which are one block, between them."""
    for first, second, third in zip(way, way[1:], (*way[2:], None), strict=False):
        if first.kind != "weight":
            continue
        if second.kind == "weight":
            yield first, None, second
        elif second.kind in ("activation", "routing") and third and third.kind == "weight":
            yield first, second, third


def _outputs(block: Block) -> Tensor | None:
    """Return the weight as a matrix with a row for every channel of its output."""
    if block.matrix is not None:
        return block.matrix.detach().double()
    if block.kernel is None or groups(block) > 1:
        return None
    return block.kernel.detach().double().flatten(1)


def _inputs(block: Block) -> Tensor | None:
    """Return the weight as a matrix with a row for every channel of its input."""
    if block.matrix is not None:
        return block.matrix.detach().double().T
    if block.kernel is None or groups(block) > 1:
        return None
    return block.kernel.detach().double().transpose(0, 1).flatten(1)


def _centred_gram(rows: Tensor) -> Tensor:
    gram = rows @ rows.T
    centred = gram - gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    return centred if centred.norm() > _ISOTROPIC * gram.norm() else torch.zeros_like(gram)


def _z(a: Tensor, b: Tensor) -> float:
    """The mixed moment of two centred Grams, in standard deviations; 0 where one of them is 0."""
    m, size = len(a), float(a.norm() * b.norm())
    return float((a * b).sum()) / size * ((m - 1) * (m + 2) / 2) ** 0.5 if size else 0.0


def _peak(a: Tensor, b: Tensor) -> float:
    """What the largest eigenvalues have of the standard deviation."""
    return _largest(a) * _largest(b) / float(a.norm() * b.norm())


def _largest(symmetric: Tensor) -> float:
    """The eigenvalue of largest modulus, by power iteration."""
    g = torch.Generator().manual_seed(0)
    v = torch.randn(len(symmetric), generator=g, dtype=torch.float64).to(symmetric.device)
    for _ in range(_STEPS):
        v = symmetric @ (v / v.norm())
    return float(v.norm())
