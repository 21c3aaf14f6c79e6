"""The inverse moment transform of a product to first order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isometry.domain import Array
from isometry.laws.share import Numbers


class Linear(NamedTuple):
    """log(-z) and its hidden unknowns to first order in the step of a."""

    value: Numbers  # (n,) log(-z) once the hidden unknowns are corrected
    slope: Numbers  # (n,) total derivative in a
    correction: Numbers  # (h, n) of the hidden unknowns, at fixed a
    response: Numbers  # (h, n) their derivative in a
    settled: NDArray[np.bool_]  # (n,) whether the correction is as small as it needs to be
    rounding: Array  # (n,) bound on the rounding error of the value
