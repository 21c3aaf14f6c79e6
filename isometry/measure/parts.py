"""The parts of a network, each measured alone at the point where it works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isometry.anatomy import Block, blocks, record
from isometry.jacobian import Jacobian
from isometry.jacobian.bottleneck import Bottleneck
from isometry.measure.exact import exact
from isometry.measure.quadrature import quadrature
from isometry.part import Matrix, Part
from isometry.spectrum import Spectrum

Array = NDArray[np.float64]

# A Jacobian with a smaller side is taken whole; of larger ones probes give the distribution.
_EXACT = 2048
_PROBES, _STEPS = 16, 32
# Of PyTorch's names for activations, those that mean field knows by another.
_NAMES = {"hardtanh": "hard_tanh", "relu_": "relu", "tanh_": "tanh", "sigmoid_": "sigmoid"}
_KNOWN = {"relu", "tanh", "sigmoid", "selu", "silu", "mish", "sin", "erf", "softsign", "relu6"}
_KNOWN |= {"hardswish"}


def parts(jacobian: Jacobian) -> list[Part]:
    """Cut a network into parts and measure each alone.

    Slopes are singular values as they stand, up to sign; a matrix that acts on every position alike
    has those of one position; a kernel with a single offset in its middle those of its matrix,
    whatever the padding. Everything else is measured by its own Jacobian.

    Parameters
    ----------
    jacobian : Jacobian
        Of the whole network; its session is entered here.

    Raises
    ------
    MeasurementError
        If the way from the input to the output could not be followed.
    """
    with jacobian.session():
        return [_part(block) for block in blocks(record(jacobian)).blocks]


def _part(block: Block) -> Part:
    with torch.no_grad():
        out = block.function(block.point)
    found = Part(
        block.name,
        block.kind,
        block.shape,
        _spectrum(block),
        before=_mean_square(block.point),
        after=_mean_square(out),
    )
    if block.kind == "weight":
        return replace(found, matrix=_matrix(block))
    if block.kind == "activation":
        slopes = block.slopes.flatten().double().cpu().numpy() if block.elementwise else None
        return replace(found, activation=_activation(block), slopes=slopes)
    if block.kind == "sum" and all(map(_is_simple, block.ways)):
        found = replace(found, ways=tuple(tuple(map(_part, way)) for way in block.ways))
    if () in block.ways:
        return replace(found, branch=_of(lambda x: block.function(x) - x, block.point))
    return found


def _is_simple(way: Sequence[Block]) -> bool:
    """Whether a way is made of matrices, elementwise maps, and sums of such."""
    return all(
        block.matrix is not None
        or block.elementwise
        or (block.kind == "sum" and all(map(_is_simple, block.ways)))
        for block in way
    )


def _spectrum(block: Block) -> Spectrum:
    if block.slopes is not None:
        return _listed(block.slopes.abs().flatten())
    if block.kind == "weight" and (matrix := _acts_alike(block)) is not None:
        return _listed(torch.linalg.svdvals(matrix.detach().double()))
    return _of(block.function, block.point)


def _of(function: Callable[[Tensor], Tensor], point: Tensor) -> Spectrum:
    jacobian = Jacobian(function, point, self_check=False)
    if min(jacobian.shape) <= _EXACT:
        return exact(jacobian).spectrum
    caps = Bottleneck(min(jacobian.shape), min(jacobian.shape))
    return quadrature(jacobian, probes=_PROBES, steps=_STEPS, caps=caps).spectrum


def _listed(sigma: Tensor) -> Spectrum:
    values = sigma.detach().double().cpu().numpy()
    resolved = values[values > 0]
    weights = np.full(len(resolved), 1 / len(values))
    return Spectrum.of(resolved, weights, dead=1 - len(resolved) / len(values))


def _acts_alike(block: Block) -> Tensor | None:
    """Return the matrix that acts on every position, if that is what the block does."""
    if block.matrix is not None:
        return block.matrix
    kernel = block.kernel
    if kernel is None:
        return None
    same_places = block.shape[0] * kernel.shape[1] == block.shape[1] * kernel.shape[0]
    odd = all(side % 2 for side in kernel.shape[2:])
    used, middle = _offsets(kernel), kernel[0, 0].numel() // 2
    if same_places and odd and used.tolist() == [middle] and _groups(block) == 1:
        return kernel.flatten(2)[:, :, middle]
    return None


def _offsets(kernel: Tensor) -> Tensor:
    """Return which offsets of a kernel are not zero."""
    return kernel.flatten(2).abs().amax((0, 1)).nonzero().flatten()


def _groups(block: Block) -> int:
    call = block.call
    return int(call.kwargs.get("groups", call.args[6] if len(call.args) > 6 else 1))


def _matrix(block: Block) -> Matrix | None:
    if block.matrix is not None:
        weight, offsets = block.matrix, 1
    elif block.kernel is not None and _groups(block) == 1:
        used = _offsets(block.kernel)
        weight, offsets = block.kernel.flatten(2)[:, :, used].flatten(1), len(used)
    else:
        return None
    sigma = torch.linalg.svdvals(weight.detach().double()).cpu().numpy()
    shape = weight.shape[0], weight.shape[1]
    if (bias := _bias(block)) is None:
        return Matrix(shape, sigma, offsets)
    return Matrix(shape, sigma, offsets, _mean_square(bias), _centred(bias))


def _centred(bias: Tensor) -> bool:
    b = bias.detach().double()
    return bool(b.mean().abs() <= 4 * b.std(correction=0) / len(b) ** 0.5)


def _bias(block: Block) -> Tensor | None:
    """Return what a call adds: the argument that is a vector, wherever it stands."""
    given = (*block.call.args, *block.call.kwargs.values())
    vectors = [t for t in given if isinstance(t, Tensor) and t.ndim == 1]
    return vectors[0] if vectors else None


def _activation(block: Block) -> str | Callable[[Array], Array] | None:
    """Return the function of an activation, if it is one function for all entries."""
    call = block.call
    others = [t for t in (*call.args, *call.kwargs.values()) if isinstance(t, Tensor)]
    if len(call.inputs) != 1 or any(t.numel() > 1 for t in others) or " + " in block.name:
        return None
    name = _NAMES.get(call.name, call.name)
    if name in _KNOWN:
        return name
    if name == "gelu":
        return "gelu_tanh" if call.kwargs.get("approximate", "none") == "tanh" else "gelu"

    def function(h: Array) -> Array:
        with torch.no_grad():
            given = torch.as_tensor(h, dtype=block.point.dtype, device=block.point.device)
            values = {call.inputs[0]: given}
            return np.asarray(call(values)[0].double().cpu().numpy())

    return function


def _mean_square(t: Tensor) -> float:
    return float(t.detach().double().square().mean())
