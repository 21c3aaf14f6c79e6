"""Which ensemble a weight was drawn from, by its entries and its singular values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isometry.distance import kolmogorov_smirnov
from isometry.laws import Gaussian, Law, free_product

Array = NDArray[np.float64]
Name = Literal["gaussian", "orthogonal", "other"]

# Singular values of a matrix that was made orthogonal in float32 agree to about 1e-6.
ORTHOGONAL = 1e-4
# The smaller side times the Kolmogorov–Smirnov distance of one i.i.d. matrix from its limit is of
# order one (eigenvalue rigidity); trained or structured matrices exceed this by far.
_IID = 4.0
SMALLEST = 24  # a narrower matrix cannot tell its ensemble


@dataclass(frozen=True)
class Ensemble:
    """What a weight looks like.

    Attributes
    ----------
    name : {"gaussian", "orthogonal", "other"}
        *gaussian*: singular values follow the Marchenko–Pastur law, as those of every matrix of
        independent centred entries do, whatever their distribution. *orthogonal*: they are equal.
    sigma_w : float
        √n_in times the root mean square of the entries.
    evidence : str
        The number behind the name.
    """

    name: Name
    sigma_w: float
    evidence: str


def recognise(sigma: Array, rows: int, columns: int) -> Ensemble:
    """Tell the ensemble of a matrix from its singular values.

    Parameters
    ----------
    sigma : (min(rows, columns),) array
    rows, columns : int
        n_out and n_in.
    """
    sigma_w = float(np.sqrt(np.sum(sigma**2) / rows))
    n = len(sigma)
    if not sigma_w > 0:
        return Ensemble("other", 0.0, "it is zero")
    middle = float(np.sqrt(np.mean(sigma**2)))
    off = float(np.abs(sigma / middle - 1).max())
    if off < ORTHOGONAL:
        kind = "orthogonal" if rows == columns else "semi-orthogonal"
        return Ensemble("orthogonal", sigma_w, f"{kind}: singular values equal to {off:.0e}")
    if n < SMALLEST:
        return Ensemble("other", sigma_w, f"{n} singular values are too few to tell")
    law = _marchenko_pastur(rows / columns)
    logs = np.log(np.maximum(sigma / sigma_w, np.finfo(np.float64).tiny))
    ks = kolmogorov_smirnov(logs, np.full(n, 1 / n), law)
    evidence = f"n·KS = {n * ks:.1f} from Marchenko–Pastur"
    return Ensemble("gaussian" if n * ks < _IID else "other", sigma_w, evidence)


def _marchenko_pastur(ratio: float) -> Law:
    return free_product([Gaussian(ratio, 1.0)])
