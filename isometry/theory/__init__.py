"""From the parts of a network to the laws that its singular values should follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from isometry.distance import kolmogorov_smirnov
from isometry.errors import TheoryError
from isometry.laws import Law
from isometry.part import Part
from isometry.report import Judgement, Prediction
from isometry.spectrum import Spectrum
from isometry.theory import judgement
from isometry.theory.differences import differences
from isometry.theory.dyson import of_skips
from isometry.theory.ensemble import ORTHOGONAL, Ensemble, recognise
from isometry.theory.free_product import of_parts, what_meets, with_skips
from isometry.theory.mean_field import grouped, of_limit, recognised, unlike
from isometry.theory.odd import odd

__all__ = ["Ensemble", "odd", "predict", "recognise"]

_GRID = 400
_COUNTED = 1e-6  # of one direction
# log of the smallest singular value that float64 can tell beside one of size 1, in one part.
_RESOLUTION = float(np.log(np.finfo(np.float64).eps))


def predict(
    parts: Sequence[Part], spectrum: Spectrum, directions: int
) -> tuple[list[Prediction], list[str]]:
    """Predict a spectrum in up to three ways, and judge how far each one is from it.

    *mean field*: infinite width, from the ensembles of the weights (`mean_field.of_limit`).
    *free product*: the network's own parts, as if free of each other (`free_product.of_parts`).
    *free skips*: the same, what stands beside skips added freely (`free_product.with_skips`).
    *correlated skips*: where these depart, or there is none, skips and Gaussian weights with the
    joint law of the slopes (`dyson.of_skips`).

    Parameters
    ----------
    parts : sequence of Part
    spectrum : Spectrum
        Measured at the same input.
    directions : int
        Over how many it is.

    Returns
    -------
    predictions : list of Prediction
    notes : list of str
        What has no theory, and why.
    """
    found: list[Prediction] = []
    notes: list[str] = []
    if not parts:
        return found, notes  # nothing acts, or what is in the way was said before
    if (why := what_meets(parts)) is not None:
        return found, [f"no theory: {why}"]
    of_width, of_own = _judges(parts, spectrum, directions)

    def add(name: str, make: Callable[[Sequence[Part]], Law], judge: _Judge) -> None:
        try:
            law = make(parts)
            ks = _distance(law, spectrum, _floor(parts, spectrum))
            judged = judge(ks)
            predicted = _prediction(name, law, ks, judged)
            limit = judge is of_width
            beyond = differences(spectrum, predicted, judged.allowed, limit=limit)
            judged = judgement.beside(judged, beyond, math.inf if limit else _narrowness(parts))
            found.append(replace(predicted, differences=beyond, judgement=judged))
        except TheoryError as why:
            notes.append(f"no {name}: {why}")

    def mean_field(parts: Sequence[Part]) -> Law:
        limit = of_limit(parts)
        notes.extend(f"mean field: {which}" for which in grouped(limit.measured))
        notes.extend(f"mean field: {which}" for which in unlike(parts))
        return limit.law

    notes.extend(recognised(parts))
    add("mean field", mean_field, of_width)
    if len(parts) > 1:
        add("free product", of_parts, of_own)
    else:
        notes.append(f"no free product: {parts[0].name} is the only block")
    if not any(p.kind == "sum" for p in parts):
        return found, notes
    add("free skips", with_skips, of_own)
    if not found or any(p.judgement and p.judgement.word == "departs" for p in found):
        # It is dear: where layers are free of each other, the others say as much.
        add("correlated skips", of_skips, of_own)
    else:
        notes.append("no correlated skips: not needed, for no other prediction departs")
    return found, notes


_Judge = Callable[[float], Judgement]


def _judges(parts: Sequence[Part], spectrum: Spectrum, directions: int) -> tuple[_Judge, _Judge]:
    """Return what judges a distance from infinite width, and one from the network's own parts."""
    layers = _layers(parts)
    estimated = _left_open(spectrum, directions)
    of_width = partial(
        judgement.of_limit,
        directions=directions,
        layers=layers,
        positions=directions / min(p.shape[0] / p.positions for p in parts),
        uncertainty=estimated,
    )
    of_own = partial(
        judgement.of_parts,
        directions=directions,
        layers=layers,
        positions=max(1.0, directions * max(map(_looseness, parts))) ** 2,
        uncertainty=estimated,
        apart=_apart(parts),
        interfaces=[p.matrix.interface for p in parts if p.matrix and p.matrix.interface],
    )
    return of_width, of_own


def _layers(parts: Sequence[Part]) -> int:
    return sum(p.kind not in ("activation", "routing") for p in parts)


def _narrowness(parts: Sequence[Part]) -> float:
    """L / n, n being the fewest entries that one position has anywhere, the input's among them.

    0 where there are sums: slopes along skips are correlated at any width. Chains that never meet
    have few slopes each.
    """
    if any(p.kind == "sum" for p in parts):
        return 0.0
    if _apart(parts) > 1:
        return math.inf
    return _layers(parts) / min(min(p.shape) / p.positions for p in parts)


def _looseness(part: Part) -> float:
    """Kolmogorov–Smirnov distance that a part makes likely, in units of that of a square chain.

    P positions and g groups are as many matrices of its r directions: √(P g) / r.
    """
    return math.sqrt(part.positions * part.groups) / min(part.shape)


def _apart(parts: Sequence[Part]) -> int:
    """Of how many chains that never meet a network consists."""
    if any(p.kind not in ("weight", "activation") for p in parts):
        return 1
    return min((p.apart for p in parts if p.kind == "weight"), default=1)


def _left_open(spectrum: Spectrum, directions: int) -> float:
    """How far its CDF may be off: where it is an estimate, its masses are not all 1/n."""
    largest = float(spectrum.weights.max(initial=0.0))
    exact = bool(np.all(np.abs(spectrum.weights * directions - 1) < _COUNTED))
    return 0.0 if exact else largest + spectrum.unresolved


def _floor(parts: Sequence[Part], spectrum: Spectrum) -> float:
    """Where to stop comparing: what a part does not resolve is zero in the law of its product."""
    if any(p.spectrum.unresolved for p in parts):
        return max(spectrum.log_floor, float(spectrum.log_sigma.max()) + _RESOLUTION)
    return spectrum.log_floor


def _distance(law: Law, spectrum: Spectrum, floor: float) -> float:
    return kolmogorov_smirnov(
        spectrum.log_sigma,
        spectrum.weights,
        law,
        spectrum.dead + spectrum.unresolved,
        floor=floor,
        atom_width=ORTHOGONAL,
    )


def _prediction(name: str, law: Law, ks: float, judged: Judgement) -> Prediction:
    grid = law.grid(_GRID)
    return Prediction(
        name=name,
        law=law.name,
        score=law.score,
        std_log_sigma=law.std_log_sigma,
        mean_log_sigma=law.mean_log_sigma,
        atoms=tuple((a.sigma, a.mass) for a in law.atoms),
        grid=tuple(map(float, grid)),
        cdf=tuple(map(float, law.cdf(grid))),
        density=tuple(map(float, law.density(grid))),
        ks=ks,
        judgement=judged,
    )
