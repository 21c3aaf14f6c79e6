"""Many tables of one length, looked up together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isometry.domain import Array


def places(keys: Array, at: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The interval of each row that holds each place: the index of its left end, and of its right.

    Parameters
    ----------
    keys : (f, m) array
        Increasing along each row.
    at : (f, n) array
        Places beyond the ends belong to the first and last intervals.
    """
    left = np.zeros(at.shape, dtype=np.intp)
    right = np.full(at.shape, keys.shape[1] - 1, dtype=np.intp)
    for _ in range((keys.shape[1] - 2).bit_length()):
        middle = (left + right) // 2
        beyond = np.take_along_axis(keys, middle, axis=1) <= at
        left, right = np.where(beyond, middle, left), np.where(beyond, right, middle)
    return left, left + 1


def interpolated(keys: Array, values: Array, at: Array) -> Array:
    """Values between keys by straight lines; the end values beyond them."""
    ends = places(keys, at)
    (low, high), (first, last) = (
        [np.take_along_axis(column, place, axis=1) for place in ends] for column in (keys, values)
    )
    part = np.clip((at - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    return np.asarray(first + part * (last - first))
