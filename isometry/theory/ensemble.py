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
SMALLEST = 24  # of a narrower matrix that distance tells nothing, but the spread of σ² does
# Such a matrix needs so many entries, and rows; and how many deviations are still chance.
_ENTRIES, _ROWS, _MOMENT = 256, 4, 4.0


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

    A narrow one, by m n Σ σ⁴ / (Σ σ²)²: for independent entries its mean is m + n + 1 and its
    standard deviation 2, that of the scalar products of m n / 2 pairs of rows.

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
        return _narrow(sigma, rows, columns, sigma_w)
    law = _marchenko_pastur(rows / columns)
    logs = np.log(np.maximum(sigma / sigma_w, np.finfo(np.float64).tiny))
    ks = kolmogorov_smirnov(logs, np.full(n, 1 / n), law)
    evidence = f"n·KS = {n * ks:.1f} from Marchenko–Pastur"
    return Ensemble("gaussian" if n * ks < _IID else "other", sigma_w, evidence)


def _narrow(sigma: Array, rows: int, columns: int, sigma_w: float) -> Ensemble:
    if len(sigma) < _ROWS or rows * columns < _ENTRIES:
        return Ensemble("other", sigma_w, f"{rows} × {columns} entries are too few to tell")
    moment = rows * columns * float(np.sum(sigma**4) / np.sum(sigma**2) ** 2)
    z = (moment - (rows + columns + 1)) / 2
    evidence = f"the spread of σ² is {z:.1f} deviations from that of independent entries"
    return Ensemble("gaussian" if abs(z) < _MOMENT else "other", sigma_w, evidence)


def _marchenko_pastur(ratio: float) -> Law:
    return free_product([Gaussian(ratio, 1.0)])
