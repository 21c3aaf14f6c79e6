"""How the singular values of a network come about, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isometry.anatomy import Block, blocks, record
from isometry.errors import MeasurementError
from isometry.jacobian import Jacobian
from isometry.measure.graded import GradedProduct
from isometry.measure.method import BUDGET
from isometry.measure.options import Progress
from isometry.measure.parts import in_pieces
from isometry.measure.parts import parts as measured
from isometry.part import Part
from isometry.spectrum import Spectrum

Array = NDArray[np.float64]
T = TypeVar("T")

# With more inputs, or more entries in a product, random probes stand for all directions.
_EXACT, _ENTRIES = 2048, 2**24
_PROBES = 32
_LOOKS = 100  # at most so many cumulative spectra
# Seconds over m n r, measured: of the singular values of a product; of one stage of a graded
# product; and of the singular values of that.
_VALUES, _STAGE, _GRADED = 1e-9, 2e-9, 5e-9
_CHAIN = {"weight", "activation", "routing"}
# Networks may turn to float32 within; what is forgotten, or counted twice, is far more.
_APART = 1e-4
_RANGE = 930  # binary digits; parts of a product outside it under- or overflow
_NOT_COMPARED = (
    "the blocks were not compared with the whole network, whose Jacobian leaves float64: wrong "
    "derivatives would go unnoticed"
)


class Gain(NamedTuple):
    """log √E[σ²] over the directions that the widths allow, and its standard error."""

    log: float
    error: float = 0.0


@dataclass(frozen=True, eq=False)
class Depth:
    """A network, block by block.

    Attributes
    ----------
    parts : tuple of Part
        Every block alone.
    gains : tuple of Gain
        Of J from the input to behind each block.
    onward : tuple of Gain
        Of J from before each block to the output.
    spectra : dict of int to Spectrum
        Singular values of J from the input to behind a block, by its number, where looked at.
    notes : tuple of str
    """

    parts: tuple[Part, ...]
    gains: tuple[Gain, ...]
    onward: tuple[Gain, ...]
    spectra: dict[int, Spectrum]
    notes: tuple[str, ...]


def depth(
    jacobian: Jacobian,
    *,
    seed: int = 0,
    budget: float = BUDGET,
    progress: Progress | None = None,
) -> Depth:
    """Measure every block alone, and the products of all blocks before and behind it.

    The basis of the input is pushed through one block after the other, V_l = J_l V_{l-1}, and that
    of the output pulled back. After each step V is divided by a power of two that is kept aside,
    so that nothing under- or overflows. Singular values of V_l below √max(m, n)·eps·σ_max are
    noise, and unresolved; of a plain chain the graded product resolves them. A block with k dead
    directions leaves no more alive behind it: these are dead, not unresolved.

    Past 2048 inputs (or outputs) an orthonormal set of random probes q is pushed (or pulled): the
    mean of ‖J q‖² is ‖J‖_F²/n in expectation, and gives the gain alone.

    Parameters
    ----------
    jacobian : Jacobian
        Of the whole network; its session is entered here.
    seed : int
        Of the probes.
    budget : float
        Seconds that the singular values may take; fewer cumulative spectra fit into less.
    progress : callable, optional

    Raises
    ------
    MeasurementError
        If the network does not run in pieces, or its blocks do not multiply to J.
    """
    with in_pieces(jacobian):
        found = blocks(record(jacobian)).blocks
        if not found:
            raise MeasurementError("there is no block between the input and the output to measure")
        tell = _Steps(progress, 2 * len(found))
        parts = measured(jacobian, max(budget, BUDGET))
        notes: list[str] = []
        front = _Front(jacobian, found, seed)
        looks = _looks(parts, front, budget, notes)
        widths, alive = _directions(parts)
        gains, spectra = [], dict[int, Spectrum]()
        for i, (v, exponent) in enumerate(front.pushed()):
            gains.append(tell(front.gain(v, exponent, widths[i])))
            if i in looks:
                spectra[i] = _spectrum(v, exponent, widths[i], alive[i])
        front.compare(v, exponent, notes)
        back = _Front(jacobian, found, seed, backwards=True)
        ahead = _directions(parts[::-1])[0]
        onward = [
            tell(back.gain(u, exponent, width))
            for (u, exponent), width in zip(back.pushed(), ahead, strict=True)
        ]
        for end, way in (("input", front), ("output", back)):
            if way.probed:
                notes.append(
                    f"gains from the {end} are from {_PROBES} random probes of its "
                    f"{len(way.start)} directions, with standard errors"
                )
        if any(s.unresolved for s in spectra.values()):
            spectra = _graded(found, parts, spectra, budget, notes)
    return Depth(tuple(parts), tuple(gains), tuple(onward[::-1]), spectra, tuple(notes))


class _Front:
    """Vectors at one end of a network, on their way to the other.

    Attributes
    ----------
    start : Tensor, shape (n, k)
        The basis, or random orthonormal probes.
    probed : bool
    """

    def __init__(
        self, jacobian: Jacobian, found: Sequence[Block], seed: int, *, backwards: bool = False
    ) -> None:
        self._jacobian, self._found, self._backwards = jacobian, found, backwards
        n = jacobian.shape[0 if backwards else 1]
        largest = max(max(block.shape) for block in found)
        self.probed = n > _EXACT or n * largest > _ENTRIES
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        if self.probed and n > _PROBES:
            basis = torch.linalg.qr(self._draw(n, _PROBES))[0]
        else:
            basis, self.probed = torch.eye(n, dtype=torch.float64, device="cpu"), False
        self.start = basis.to(jacobian.device, jacobian.dtype)

    def pushed(self) -> Iterator[tuple[Tensor, int]]:
        """Yield the vectors behind each block as v · 2^exponent."""
        v, exponent = self.start, 0
        for block in self._found[::-1] if self._backwards else self._found:
            own = Jacobian(block.function, block.point, self_check=False)
            v = own.T @ v if self._backwards else own @ v
            up = min(-math.frexp(float(v.abs().max()))[1], 1000)
            v, exponent = v * 2.0**up, exponent - up
            yield v, exponent

    def gain(self, v: Tensor, exponent: int, width: int) -> Gain:
        """Return log ‖J‖_F / √width, from all basis vectors or from probes."""
        n, k = self.start.shape
        squares = v.double().square().sum(0)
        mean = float(squares.mean())
        if not mean > 0:
            return Gain(-math.inf)
        log = 0.5 * math.log(mean * n / width) + exponent * math.log(2)
        if not self.probed:
            return Gain(log)
        error = float(squares.std()) * ((1 - k / n) / k) ** 0.5  # probes are never the same twice
        return Gain(log, 0.5 * error / mean)

    def compare(self, v: Tensor, exponent: int, notes: list[str]) -> None:
        """Refuse blocks whose product with a random vector is not that of the whole network."""
        c = self._draw(self.start.shape[1], 1).to(v.device, v.dtype)
        product = v @ c
        if abs(math.frexp(float(product.abs().max()))[1] + exponent) > _RANGE:
            notes.append(_NOT_COMPARED)
            return
        expected = self._jacobian @ (self.start @ c)
        size = float(expected.abs().max())
        gap = float((product * 2.0**exponent - expected).abs().max()) / (size or 1.0)
        if not gap <= _APART:
            raise MeasurementError(
                f"the blocks do not multiply to the Jacobian of the network: J v is off by "
                f"{gap:.1e}; measure it as a whole (isometry analyze)"
            )

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64, device="cpu")


def _looks(parts: Sequence[Part], front: _Front, budget: float, notes: list[str]) -> set[int]:
    """Choose the blocks behind which all singular values are taken: those that mix, and the last.

    None where there are but probes, and every k-th where all would take too long.
    """
    if front.probed:
        notes.append("singular values are those of each block alone, for the input has too many")
        return set()
    last = len(parts) - 1
    mixing = [i for i, p in enumerate(parts) if p.kind not in ("activation", "routing")]
    n = len(front.start)
    seconds = max(_VALUES * max(p.shape) * min(p.shape[0], n) * n for p in parts)
    allowed = max(2, min(_LOOKS, int(budget / seconds)))
    step = max(1, -(-len(mixing) // allowed))
    if step > 1:
        notes.append(f"singular values from the input on were taken behind one in {step} layers")
    return {*mixing[::-1][::step], last}


def _directions(parts: Sequence[Part]) -> tuple[list[int], list[int]]:
    """Return how many directions the widths allow behind each part, and how many may be alive."""
    widths = [min(part.shape) for part in parts]
    alive = [round((1 - p.spectrum.dead) * n) for p, n in zip(parts, widths, strict=True)]
    return list(accumulate(widths, min)), list(accumulate(alive, min))


def _spectrum(v: Tensor, exponent: int, width: int, alive: int) -> Spectrum:
    if v.dtype in (torch.bfloat16, torch.float16):  # no LAPACK routine takes them
        v = v.float()
    sigma = torch.linalg.svdvals(v).double().cpu().numpy()
    floor = max(v.shape) ** 0.5 * float(torch.finfo(v.dtype).eps) * sigma[0]
    known = np.log(sigma[:alive][sigma[:alive] > floor])
    return _of_logs(known, width, alive, exponent, math.log(floor) if floor else -math.inf)


def _of_logs(
    logs: Array, width: int, alive: int, exponent: int = 0, log_floor: float = -math.inf
) -> Spectrum:
    shift = exponent * math.log(2)
    return Spectrum(
        logs + shift,
        np.full(len(logs), 1 / width),
        log_floor + shift,
        unresolved=(alive - len(logs)) / width,
        dead=(width - alive) / width,
    )


def _graded(
    found: Sequence[Block],
    parts: Sequence[Part],
    spectra: dict[int, Spectrum],
    budget: float,
    notes: list[str],
) -> dict[int, Spectrum]:
    """Resolve what is below the floor, where the network is a plain chain and not too large."""
    n = found[0].shape[1]
    seconds = sum(_STAGE * block.shape[0] * block.shape[1] * n for block in found)
    seconds += len(spectra) * _GRADED * n**3
    plain = all(block.kind in _CHAIN for block in found) and found[0].point.dtype == torch.float64
    if not plain or seconds > budget:
        dear = f"the graded product would take about {seconds:.0f} s, beyond the budget"
        why = dear if plain else "the network is no plain chain in float64"
        notes.append(f"directions below the floor stay unresolved: {why}")
        return spectra
    widths, most = _directions(parts)
    product, resolved = GradedProduct(), dict[int, Spectrum]()
    for i, stage in enumerate(_dense(found)):
        product.push(stage)
        if i in spectra:
            logs = product.log_singular_values()
            alive = max(min(most[i], product.width - product.dead), len(logs))
            resolved[i] = _of_logs(logs, widths[i], alive)
    notes.append("singular values from the input on are from the product of the blocks, graded")
    return resolved


def _dense(found: Iterable[Block]) -> Iterator[Array]:
    for block in found:
        dense = Jacobian(block.function, block.point, self_check=False).dense()
        yield np.asarray(dense.cpu().double().numpy())


class _Steps:
    """Counts what is done; hands on what was made."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, made: T) -> T:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done / self._total)
        return made
