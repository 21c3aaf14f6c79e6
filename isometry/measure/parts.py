"""The parts of a network, each measured alone at the point where it works."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isometry.anatomy import Block, blocks, record
from isometry.errors import IsometryError, MeasurementError
from isometry.jacobian import Jacobian
from isometry.jacobian.bottleneck import Bottleneck
from isometry.jacobian.products import first_line
from isometry.measure.exact import exact
from isometry.measure.interfaces import channels, groups
from isometry.measure.matrices import acts_alike, inside, matrices
from isometry.measure.method import BUDGET
from isometry.measure.quadrature import quadrature
from isometry.measure.symbol import symbol
from isometry.part import Matrix, Part
from isometry.spectrum import Spectrum

Array = NDArray[np.float64]

# A Jacobian with a smaller side is taken whole; of larger ones probes give the distribution.
_EXACT = 2048
_PROBES, _STEPS = 16, 32
_VALUES = 2e-9  # seconds over m n min(m, n), measured, of the singular values of a matrix
# Of PyTorch's names for activations, those that mean field knows by another.
_NAMES = {"hardtanh": "hard_tanh", "relu_": "relu", "tanh_": "tanh", "sigmoid_": "sigmoid"}
_KNOWN = {"relu", "tanh", "sigmoid", "selu", "silu", "mish", "sin", "erf", "softsign", "relu6"}
_KNOWN |= {"hardswish"}


def parts(jacobian: Jacobian, budget: float = BUDGET) -> list[Part]:
    """Cut a network into parts and measure each alone.

    Slopes are singular values as they stand, up to sign; a matrix that acts on every position alike
    has those of one position; a kernel with a single offset in its middle those of its matrix,
    whatever the padding; a circular convolution those of its Fourier modes. Everything else is
    measured by its own Jacobian.

    Parameters
    ----------
    jacobian : Jacobian
        Of the whole network; its session is entered here.
    budget : float
        Seconds for measuring them.

    Raises
    ------
    MeasurementError
        If the way from the input to the output could not be followed, if the network does not
        run in pieces, or if the parts take longer than the budget.
    """
    with in_pieces(jacobian):
        way = blocks(record(jacobian)).blocks
        _refuse_longer(2 * sum(map(_decomposition, way)), budget)
        known, found = matrices(way), list[Part]()
        began = time.monotonic()
        for block in way:
            passed = time.monotonic() - began
            if found and passed > budget:
                _refuse_longer(passed * len(way) / len(found), budget)
            found.append(part(block, known))
        return found


@contextmanager
def in_pieces(jacobian: Jacobian) -> Iterator[None]:
    """Hold the session of a network whose calls are made one by one.

    Whatever code of the user's own raises meanwhile becomes a `MeasurementError`.
    """
    try:
        with jacobian.session(), jacobian.network.lending(jacobian.f):
            yield
    except MeasurementError:
        raise
    except (Exception, SystemExit) as e:
        if not isinstance(e, IsometryError) and _is_ours(e):
            raise
        said = first_line(e)
        what = said if isinstance(e, IsometryError) else f"{type(e).__name__}: {said}"
        raise MeasurementError(f"the network does not run in pieces: {what}") from e


def _is_ours(error: BaseException) -> bool:
    """Whether an error was raised by this package, and so is none of the user's code.

    Not by the tape, which makes the network's own calls.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    place = str(frame.f_globals.get("__name__"))
    return place.startswith("isometry.") and place != "isometry.anatomy.tape"


def _decomposition(block: Block) -> float:
    """Seconds that the singular values of its matrix take."""
    if block.matrix is None:
        return 0.0
    return _VALUES * block.matrix.numel() * min(block.matrix.shape)


def _refuse_longer(seconds: float, budget: float) -> None:
    if seconds > budget:
        raise MeasurementError(
            f"to measure its parts one by one takes about {seconds:.0f} s, more than the budget of "
            f"{budget:g} s (--budget {2 * seconds:.0f} buys it)"
        )


def part(block: Block, known: Mapping[Block, Matrix] | None = None) -> Part:
    """Measure one block alone, inside the session of its network's Jacobian.

    Parameters
    ----------
    block : Block
    known : mapping of Block to Matrix, optional
        Weights, as `matrices` tells them with their neighbours; without it, they have none.
    """
    if known is None:
        known = matrices([block])
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
        return replace(
            found, matrix=known.get(block), channels=channels(block), groups=groups(block)
        )
    if block.kind == "activation":
        found = replace(found, activation=_activation(block))
        if block.elementwise and block.slopes is not None:
            found = replace(found, slopes=_numpy(block.slopes))
        return found
    if block.kind == "sum":
        found = replace(found, inside=inside(block))
        if all(map(_is_simple, block.ways)):
            found = replace(found, ways=tuple(tuple(map(part, way)) for way in block.ways))
    if (scale := block.skip) is not None:
        branch = _branch(lambda x: block.function(x) - scale * x, block.point)
        return replace(found, branch=branch, slopes=np.full(block.shape[0], scale))
    return found


def _branch(function: Callable[[Tensor], Tensor], point: Tensor) -> Spectrum:
    """Measure what stands beside a skip: at initialisation it may be nothing at all."""
    x = point.detach().requires_grad_()
    with torch.enable_grad():
        y = function(x)
    slope = torch.autograd.grad(y, x, y.detach() + 1, materialize_grads=True)[0]
    return _of(function, point) if bool(slope.any()) else Spectrum.of([], [], dead=1.0)


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
    if block.kind == "weight" and (matrix := acts_alike(block)) is not None:
        return _of_matrix(matrix.detach().double())
    if (values := symbol(block)) is not None:
        return _listed(values)
    return _of(block.function, block.point)


def _of(function: Callable[[Tensor], Tensor], point: Tensor) -> Spectrum:
    jacobian = Jacobian(function, point, self_check=False)
    if min(jacobian.shape) <= _EXACT:
        return exact(jacobian).spectrum
    caps = Bottleneck(min(jacobian.shape), min(jacobian.shape))
    return quadrature(jacobian, probes=_PROBES, steps=_STEPS, caps=caps).spectrum


def _of_matrix(matrix: Tensor) -> Spectrum:
    """Singular values; rows and columns of zeros are dead, what else rounds to zero is not."""
    sigma = torch.linalg.svdvals(matrix)
    filled = matrix != 0
    alive = int(min(filled.any(0).sum(), filled.any(1).sum()))
    sigma[alive:] = 0
    floor = max(matrix.shape) ** 0.5 * torch.finfo(matrix.dtype).eps * sigma[0]
    known = sigma[sigma > floor].cpu().numpy()
    share = 1 / len(sigma)
    return Spectrum.of(
        known,
        np.full(len(known), share),
        floor=float(floor),
        unresolved=(alive - len(known)) * share,
        dead=(len(sigma) - alive) * share,
    )


def _listed(sigma: Tensor) -> Spectrum:
    """Singular values that are known one by one; what float64 loses beside others is unresolved."""
    values = sigma.detach().double().cpu().numpy()
    floor = float(np.finfo(np.float64).eps * values.max())
    resolved = values[values > floor]
    share = 1 / len(values)
    dead = int(np.count_nonzero(values == 0))
    return Spectrum.of(
        resolved,
        np.full(len(resolved), share),
        floor=floor,
        unresolved=(len(values) - len(resolved) - dead) * share,
        dead=dead * share,
    )


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


def _numpy(t: Tensor) -> Array:
    return np.asarray(t.detach().flatten().double().cpu().numpy())


def _mean_square(t: Tensor) -> float:
    return float(t.detach().double().square().mean())
