"""Skips and Gaussian weights by the matrix Dyson equation, with the slopes that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isometry.errors import TheoryError
from isometry.laws import DysonLaw, Law, Neurons, NeuronTypes, Node
from isometry.part import Part
from isometry.theory.ensemble import recognise

Array = NDArray[np.float64]

_TYPES = 64  # of neurons, in each set: the time of a solution is proportional to it
_WEIGHTS = 16  # beyond, a solution takes minutes


def of_skips(parts: Sequence[Part]) -> Law:
    """Law of a network of skips, Gaussian weights and elementwise maps, at infinite width.

    The slopes of the neurons of a skip are correlated along the depth, so that layers are not free
    of each other; the matrix Dyson equation takes their joint law as it was measured. Every weight
    is replaced by an independent Gaussian one of its σ_w.

    Raises
    ------
    TheoryError
        If a part is something else.
    """
    if (weights := _weights(parts)) > _WEIGHTS:
        raise TheoryError(f"{weights} weights are more than {_WEIGHTS}, and would take minutes")
    start, behind = _Set(parts[0].shape[1]), dict[Part, _Set]()
    _follow(parts, start, behind)
    for part, neurons in behind.items():
        if part.kind == "activation":
            neurons.root.maps.append(part)
    output = _built(parts, Node(start.root.neurons), behind)
    skips = sum(p.kind == "sum" for p in parts)
    return DysonLaw(output, name=f"{skips} skips, Gaussian weights, slopes as measured")


def _weights(parts: Sequence[Part]) -> int:
    return sum(
        sum(map(_weights, part.ways)) if part.kind == "sum" else part.kind == "weight"
        for part in parts
    )


@dataclass(eq=False)
class _Set:
    """Neurons that share an index: what sums join is one set."""

    width: int
    joined: _Set | None = None
    maps: list[Part] = field(default_factory=list)
    _sorted: tuple[Neurons, Array] | None = None

    @property
    def root(self) -> _Set:
        return self if self.joined is None else self.joined.root

    @property
    def neurons(self) -> Neurons:
        """The set as the equation has it."""
        return self._types()[0]

    def slopes(self, part: Part) -> Array:
        """Slopes of an activation, one for each type."""
        return self._types()[1][:, self.maps.index(part)]

    def _types(self) -> tuple[Neurons, Array]:
        if self._sorted is None:
            slopes = np.array([p.slopes for p in self.maps]).reshape(-1, self.width)
            if self.maps:
                found = NeuronTypes.of(slopes, _TYPES)
                fractions, types = found.fractions.tolist(), found.slopes
            else:
                fractions, types = [1.0], slopes.T[:1]
            self._sorted = Neurons(self.width, fractions), types
        return self._sorted


def _follow(parts: Sequence[Part], at: _Set, behind: dict[Part, _Set]) -> _Set:
    """Find the neurons behind every part, and unite those that sums join."""
    for part in parts:
        if part.kind == "weight":
            at = _Set(part.shape[0])
        elif part.kind == "sum" and part.ways:
            one, other = (_follow(way, at, behind).root for way in part.ways)
            if one is not other:
                other.joined = one
            at = one
        elif part.kind == "sum" or part.slopes is None:
            raise TheoryError(f"{part.name} holds more than matrices and elementwise maps")
        behind[part] = at
    return at


def _built(parts: Sequence[Part], x: Node, behind: dict[Part, _Set]) -> Node:
    """Write the network down as the equation wants it."""
    for part in parts:
        neurons = behind[part].root
        if part.kind == "weight":
            x = Node(neurons.neurons, weights=[(x, _variance(part))])
        elif part.kind == "sum":
            ends = [_built(way, x, behind) for way in part.ways]
            x = Node(neurons.neurons, [(end, 1.0) for end in ends])
        else:
            x = Node(neurons.neurons, [(x, neurons.slopes(part))])
    return x


def _variance(part: Part) -> float:
    """σ_w² of a weight that looks Gaussian."""
    if part.matrix is None or part.positions > 1:
        raise TheoryError(f"the weight of {part.name} is no single matrix")
    ensemble = recognise(part.matrix.sigma, *part.matrix.shape)
    if ensemble.name != "gaussian":
        raise TheoryError(f"the weight of {part.name} is not Gaussian ({ensemble.evidence})")
    return ensemble.sigma_w**2
