"""From the parts of a network to the laws that its singular values should follow."""

from __future__ import annotations

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
from isometry.theory.free_product import of_parts, with_skips
from isometry.theory.mean_field import grouped, of_limit
from isometry.theory.odd import odd

__all__ = ["Ensemble", "odd", "predict", "recognise"]

_GRID = 400
# log of the smallest singular value that float64 can tell beside one of size 1, in one part.
_RESOLUTION = float(np.log(np.finfo(np.float64).eps))


def predict(
    parts: Sequence[Part], spectrum: Spectrum, directions: int
) -> tuple[list[Prediction], list[str]]:
    """Predict a spectrum in up to three ways, and judge how far each one is from it.

    *mean field*: infinite width, from the ensembles of the weights (`mean_field.of_limit`).
    *free product*: the network's own parts, as if free of each other (`free_product.of_parts`).
    *free skips*: the same, what stands beside skips added freely (`free_product.with_skips`).
    *correlated skips*: where these depart, skips and Gaussian weights with the joint law of the
    slopes (`dyson.of_skips`).

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
    layers = sum(p.kind not in ("activation", "routing") for p in parts)
    positions = max((p.positions for p in parts), default=1)
    interfaces = [p.matrix.interface for p in parts if p.matrix and p.matrix.interface]
    pointwise = all(p.kind == "activation" or (p.matrix and p.matrix.offsets == 1) for p in parts)
    of_own = partial(judgement.of_parts, interfaces=interfaces, pointwise=pointwise)

    def add(name: str, law: Law, judge: Callable[[float, int, int, int], Judgement]) -> None:
        ks = _distance(law, spectrum, _floor(parts, spectrum))
        judged = judge(ks, directions, layers, positions)
        predicted = _prediction(name, law, ks, judged)
        limit = name == "mean field"
        beyond = differences(spectrum, predicted, judged.allowed, limit=limit)
        found.append(replace(predicted, differences=beyond))

    try:
        limit = of_limit(parts)
        add("mean field", limit.law, judgement.of_limit)
        notes += [f"measured as a block, not predicted: {w}" for w in grouped(limit.measured)]
    except TheoryError as why:
        notes.append(f"no mean-field prediction: {why}")
    if len(parts) == 1 and parts[0].branch is None:
        return found, notes  # nothing to multiply
    for name, make in (("free product", of_parts), ("free skips", with_skips)):
        try:
            add(name, make(parts), of_own)
        except TheoryError as why:
            if str(why) != "it has no skip":
                notes.append(f"no prediction by the {name}: {why}")
    if any(p.judgement and p.judgement.word == "departs" for p in found):
        try:  # it is dear: where layers are free of each other, the others say as much
            add("correlated skips", of_skips(parts), of_own)
        except TheoryError as why:
            if str(why) != "it has no skip":
                notes.append(f"no prediction by the Dyson equation: {why}")
    return found, notes


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
