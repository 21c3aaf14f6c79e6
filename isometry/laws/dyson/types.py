"""Neurons with the same slopes along the depth of a network, as types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import Array, whole
from isometry.errors import TheoryError

_MAX_ROUNDS = 50


@dataclass(frozen=True)
class NeuronTypes:
    """The joint law of the slopes φ'(h) of a neuron in all layers, as few types.

    Attributes
    ----------
    slopes : (types, layers) array
        The slopes that the neurons of a type have in each layer.
    fractions : (types,) array
        Fraction of the neurons that is of each type; they add up to 1.
    merged : float
        Fraction of the neurons whose slopes are not exactly those of their type.
    """

    slopes: Array
    fractions: Array
    merged: float

    @classmethod
    def of(cls, slopes: ArrayLike, max_types: int = 64) -> NeuronTypes:
        """Sort measured neurons into types.

        Equal patterns are one type. Where there are more than `max_types`, the patterns
        that are frequent and far from the others become centres, every pattern joins
        the nearest, and centres move to the root mean square of their members: what a
        signal gains in each layer stays as measured.

        Parameters
        ----------
        slopes : (layers, neurons) array
            φ'(h_l) of each neuron, measured at one input.
        max_types
            What the time of a solution is proportional to.

        Raises
        ------
        TheoryError
            When the slopes are not a matrix of finite numbers, or max_types is below 1.
        """
        d = np.asarray(slopes, dtype=float)
        if d.ndim != 2 or d.size == 0 or not np.all(np.isfinite(d)):
            raise TheoryError(
                f"slopes have shape {d.shape}; expected finite numbers of shape (layers, neurons)"
            )
        limit = whole("max_types", max_types, 1)
        patterns, counts = np.unique(d.T, axis=0, return_counts=True)
        mass = counts / d.shape[1]
        if len(mass) <= limit:
            return cls(patterns, mass, 0.0)
        centres, nearest = _cluster(patterns, mass, limit)
        apart = np.any(np.abs(patterns - centres[nearest]) > 1e-12, axis=1)
        fractions = np.asarray(np.bincount(nearest, mass, minlength=limit), dtype=float)
        used = fractions > 0
        return cls(centres[used], fractions[used], float(counts[apart].sum() / d.shape[1]))


def _cluster(patterns: Array, mass: Array, limit: int) -> tuple[Array, np.ndarray]:
    """Centres, and the nearest one of every pattern."""
    chosen = [int(np.argmax(mass))]
    distance = _squared_distance(patterns, patterns[chosen])[:, 0]
    for _ in range(limit - 1):
        chosen.append(int(np.argmax(mass * distance)))
        distance = np.minimum(distance, _squared_distance(patterns, patterns[chosen[-1:]])[:, 0])
    centres = patterns[chosen]
    nearest = np.argmin(_squared_distance(patterns, centres), axis=1)
    for _ in range(_MAX_ROUNDS):
        centres = _root_mean_square(patterns, mass, nearest, centres)
        before, nearest = nearest, np.argmin(_squared_distance(patterns, centres), axis=1)
        if np.array_equal(before, nearest):
            break
    return centres, nearest


def _root_mean_square(patterns: Array, mass: Array, nearest: np.ndarray, centres: Array) -> Array:
    """Of the members of each centre, with the sign of their mean."""
    moved = centres.copy()
    for k in range(len(centres)):
        members = nearest == k
        if members.any():
            weights = mass[members]
            mean = np.average(patterns[members], axis=0, weights=weights)
            square = np.average(patterns[members] ** 2, axis=0, weights=weights)
            moved[k] = np.copysign(np.sqrt(square), mean)
    return moved


def _squared_distance(patterns: Array, centres: Array) -> Array:
    """Shape (patterns, centres)."""
    return np.asarray(np.sum((patterns[:, None] - centres[None]) ** 2, axis=2))
