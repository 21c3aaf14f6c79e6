"""Stochastic Lanczos quadrature: a spectrum from products with random probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isometry.errors import InputError, MeasurementError
from isometry.jacobian.bottleneck import Bottleneck
from isometry.measure.bidiagonal import Bidiagonalisation, Ritz
from isometry.measure.linear_map import LambdaOperator, LinearMap
from isometry.measure.probed import Probed, closeness, probed
from isometry.measure.ranks import Ranks
from isometry.score import sech
from isometry.spectrum import Spectrum

Array = NDArray[np.float64]
Progress = Callable[[float], None]

PROBES = 16
STEPS = 64
_BLOCK = 8
TOLERANCE = 0.01
# The run is looked at after so many steps, each time half as many again: what changes then
# tells how far it is from its limit.
_GROWTH = 1.5
# Standard errors that are put down to chance.
_CHANCE = 4.0
# The score of c·J for these log c: a coarse picture of the density in log σ.
_SCALES = np.log([0.1, 1.0, 10.0])


@dataclass(frozen=True)
class Run:
    """One block of probes, followed until it tells no more.

    Attributes
    ----------
    ritz : Ritz
    change : float
        By how much the score, of c·A for any of several c, moved in the last third of the steps.
    steps, products : int
    settled : bool
        Whether all that the probes have a share in has converged.
    exhausted : bool
        Whether nothing was left to go on with: what converged did so to rounding.
    """

    ritz: Ritz
    change: float
    steps: int
    products: int
    settled: bool
    exhausted: bool

    @property
    def probes(self) -> int:
        """How many probes the block has."""
        return len(self.ritz.weights)


@dataclass(frozen=True)
class Quadrature:
    """A spectrum from probes, with what is needed to say how sure it is.

    Attributes
    ----------
    spectrum : Spectrum
    measure : Probed
        Over all min(m, n) directions, with what the probes leave open.
    runs : tuple of Run
        One for each block of probes.
    directions : int
        Over which the spectrum is: those that shape allows.
    stopped : bool
        Whether it was interrupted before all probes were through.
    """

    spectrum: Spectrum
    measure: Probed
    runs: tuple[Run, ...]
    directions: int
    stopped: bool = False


def quadrature(
    a: LinearMap,
    *,
    probes: int | None = None,
    steps: int | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    caps: Bottleneck | None = None,
    kept: Sequence[Run] = (),
    each: Callable[[Run], None] | None = None,
    progress: Progress | None = None,
) -> Quadrature:
    """Estimate the distribution of the singular values of A.

    For a unit vector v, vᵀ f(AᵀA) v is a Gauss quadrature whose nodes are the singular values
    of the bidiagonal matrix of v's Krylov space (Golub and Meurant 1994); the mean over
    random v is the mean of f over all singular values (Ubaru, Chen and Saad 2017). Probes are
    orthonormal and share Krylov spaces in blocks of eight.

    Near the top of the spectrum few steps are enough. At the bottom the quadrature of k
    steps resolves σ down to about σ_max/k and no further, and more probes do not help: the mass at
    and below the smallest node of the k-point Gauss rule, an upper bound on the mass of the
    measure there (Chebyshev, Markov and Stieltjes), is reported as unresolved.

    Parameters
    ----------
    a : LinearMap
        Of shape (m, n); probes live in the smaller of the two spaces.
    probes : int, optional
        As many as there are directions give an exact answer. By default 16 or more, until the 95 %
        interval of the score is no wider than the tolerance on either side.
    steps : int, optional
        Steps of each run. By default until the score moves by less than a quarter of the tolerance,
        at most 64.
    tolerance : float
        Half the width of that interval.
    seed : int
        The same seed gives the same numbers.
    caps : Bottleneck, optional
        What the structure proves of the rank.
    kept : sequence of Run
        What an earlier call with the same arguments found, the first blocks first.
    each : callable, optional
        Called with every run as it ends, so that it can be kept.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    Quadrature

    Raises
    ------
    InputError
        If probes, steps or tolerance are not positive.
    MeasurementError
        If a product is not finite, or A = 0.
    KeyboardInterrupt
        Before the first run is through; later, what was found by then is returned.
    """
    _check(probes, steps, tolerance)
    directions = min(a.shape)
    probes = None if probes is None else min(probes, directions)
    small = a if a.shape[1] == directions else a.T
    starts = blocks(directions, probes or directions, seed, a.device)
    runs: list[Run] = []
    stopped = False
    try:
        for found in _runs(starts, kept, partial(run, small, steps=steps, tolerance=tolerance)):
            runs.append(found)
            if each is not None and len(runs) > len(kept):
                each(found)
            done = _seen(runs) / (probes or _wanted(runs, directions, a, tolerance))
            if progress is not None:
                progress(min(done, 1.0))
            if done >= 1:
                break
    except KeyboardInterrupt:
        if not runs:
            raise
        stopped = True
    return gathered(runs, a.shape, a.dtype, caps, stopped=stopped)


def _runs(
    starts: Iterator[Tensor], kept: Sequence[Run], job: Callable[[Tensor], Run]
) -> Iterator[Run]:
    """Yield the run of every block: those kept, then as many at a time as there are ranks."""
    yield from (found for found, _ in zip(kept, starts, strict=False))
    ranks = Ranks()
    while wave := list(islice(starts, ranks.size)):
        yield from ranks.deal([partial(job, start) for start in wave])


def _seen(runs: list[Run]) -> int:
    return sum(r.probes for r in runs)


def _wanted(runs: list[Run], directions: int, a: LinearMap, tolerance: float) -> int:
    """How many probes the tolerance asks for, as far as one can tell by now."""
    fewest = min(PROBES, directions)
    have = _seen(runs)
    if have < fewest:
        return fewest
    measure = probed([r.ritz for r in runs], directions, closeness(a.dtype))
    width = measure.half_width(measure.score.error)
    # The square of the width falls like 1/p - 1/r.
    inverse = (tolerance / width) ** 2 * (1 / have - 1 / directions) if width > tolerance else 1.0
    return have if width <= tolerance else int(np.ceil(1 / (inverse + 1 / directions)))


def _check(probes: int | None, steps: int | None, tolerance: float) -> None:
    for name, number in (("probes", probes), ("steps", steps), ("tolerance", tolerance)):
        if number is not None and not number > 0:
            raise InputError(f"{name} must be positive, got {number!r}")


def blocks(
    directions: int, probes: int, seed: int, device: torch.device, apart: Tensor | None = None
) -> Iterator[Tensor]:
    """Draw random orthonormal probes, in blocks of shape (directions, <= 8).

    From one generator on the CPU, and each block independent of how many follow: the same on
    every device, and however they are dealt out. They are orthogonal to the orthonormal columns
    `apart`.
    """
    generator = np.random.default_rng(seed % 2**64)
    drawn = torch.from_numpy(np.empty((0, directions))) if apart is None else apart.T
    last = len(drawn) + probes
    while (left := last - len(drawn)) > 0:
        gaussian = generator.standard_normal((directions, min(left, _BLOCK)))
        block = torch.from_numpy(gaussian)
        for _ in range(2):
            block = torch.linalg.qr(block - drawn.T @ (drawn @ block))[0]
        drawn = torch.cat([drawn, block.T])
        yield block.to(device)


def run(a: LinearMap, start: Tensor, steps: int | None, tolerance: float) -> Run:
    """Follow one block of probes until its score settles, or for `steps` steps."""
    most = min(STEPS if steps is None else steps, min(a.shape))
    grown = Bidiagonalisation(a, start, most)
    scores, change, settled = np.full(len(_SCALES), np.inf), np.inf, False
    for stop in _stops(most):
        while grown.steps < stop and not grown.exhausted:
            grown.step()
        ritz = grown.ritz()
        before, scores = scores, _scores(ritz)
        change = float(np.abs(scores - before).max())
        settled = grown.exhausted or _invariant(ritz, closeness(a.dtype))
        if grown.exhausted or (steps is None and settled):
            break
        enough = steps is None and change <= tolerance / 4
        if enough and _open(ritz, grown.steps) <= tolerance / 4:
            break
    change = 0.0 if settled else change
    return Run(ritz, change, grown.steps, grown.products, settled, grown.exhausted)


def _invariant(ritz: Ritz, close: float) -> bool:
    """Whether all that the probes have a share in has converged."""
    share = ritz.weights.mean(axis=0)
    return float(share @ ritz.residuals**2) <= (close * float(ritz.values[0])) ** 2


def _open(ritz: Ritz, steps: int) -> float:
    """What the mass that is not resolved could add to the score, at most."""
    share = ritz.weights.mean(axis=0)
    floor = smallest_node(ritz.values, share, steps)
    with np.errstate(divide="ignore"):
        return float(share[ritz.values <= floor].sum() * sech(np.minimum(np.log(floor), 0.0)))


def _stops(most: int) -> Iterator[int]:
    stop = 2.0
    while stop < most:
        yield int(stop)
        stop = max(stop * _GROWTH, stop + 1)
    yield most


def _scores(ritz: Ritz) -> Array:
    with np.errstate(divide="ignore"):
        log_sigma = np.log(ritz.values)
    return np.asarray(sech(log_sigma + _SCALES[:, None]) @ ritz.weights.mean(axis=0))


def gathered(
    runs: list[Run],
    shape: tuple[int, int],
    dtype: torch.dtype,
    caps: Bottleneck | None = None,
    *,
    stopped: bool = False,
) -> Quadrature:
    """Join the runs of all blocks into one spectrum."""
    directions = min(shape)
    # One run through the whole space is exact, and has no need of the others.
    runs = [r for r in runs if len(r.ritz.values) == directions][:1] or runs
    measure = probed([r.ritz for r in runs], directions, closeness(dtype))
    largest = float(measure.nodes.max())
    if largest == 0:
        raise MeasurementError(
            "the products of all probes are zero: the output does not depend on the input "
            "differentiably (J = 0); try another input"
        )
    floor = max(shape) ** 0.5 * float(torch.finfo(dtype).eps) * largest
    if not all(r.exhausted for r in runs):
        floor = max(floor, closeness(dtype) * largest)
    if not all(r.settled for r in runs):
        steps = min(r.steps for r in runs)
        floor = max(floor, smallest_node(measure.nodes, measure.weights, steps))
    caps = caps or Bottleneck(directions, directions)
    spectrum = _spectrum(measure, floor, caps, closeness(dtype))
    return Quadrature(spectrum, measure, tuple(runs), caps.width, stopped)


def smallest_node(nodes: Array, weights: Array, steps: int) -> float:
    """Smallest node of the Gauss rule that shares the first 2·steps moments of σ²."""
    at = torch.from_numpy(nodes)[:, None]
    start = torch.from_numpy(weights).sqrt()[:, None]
    scaled = LambdaOperator((len(at), len(at)), lambda v: at * v, lambda u: at * u)
    gauss = Bidiagonalisation(scaled, start / start.norm(), steps)
    while gauss.steps < steps and not gauss.exhausted:
        gauss.step()
    return float(gauss.ritz().values[-1])


def _spectrum(measure: Probed, floor: float, caps: Bottleneck, close: float) -> Spectrum:
    """Split the measure at the floor; zeros that the structure proves are known, not estimated."""
    seen = measure.nodes > floor
    zeros = 1.0 - caps.alive / measure.directions  # forced by shape, or dead
    below = measure.mean(np.where(seen, 0.0, 1.0))
    low = below.value
    # As far as the probes can tell, there are no others than those that are proven.
    proven = zeros > 0 and abs(low - zeros) <= _CHANCE * below.error
    unresolved = 0.0 if proven else max(low - zeros, 0.0)
    weights = measure.weights[seen] * (1.0 - zeros - unresolved) / (1.0 - low)
    sigma, weights = _merged(measure.nodes[seen], weights, close)
    share = measure.directions / caps.width
    return Spectrum.of(
        sigma,
        weights=weights * share,
        floor=floor,
        unresolved=unresolved * share,
        dead=1.0 - caps.alive / caps.width,
        method="quadrature",
    )


def _merged(sigma: Array, weights: Array, close: float) -> tuple[Array, Array]:
    """Join what lies closer than rounding could tell apart."""
    order = np.argsort(-sigma)
    sigma, weights = sigma[order], weights[order]
    first = np.concatenate([[True], -np.diff(sigma) > close * sigma[:-1]])
    group = np.cumsum(first) - 1
    mass = np.bincount(group, weights)
    # The plain mean, where a node has no weight at all.
    return np.bincount(group, sigma) / np.bincount(group), np.asarray(mass, dtype=float)
