"""Which ensemble a weight was drawn from, by its entries and its singular values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from isometry.distance import kolmogorov_smirnov
from isometry.laws import Gaussian, Law, free_product
from isometry.part import Matrix

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
# E w⁴ / (E w²)² of entries; of N normal ones it has the standard deviation √(24 / N).
_NORMAL, _UNIFORM = 3.0, 1.8
_SPECTRAL = 1e-3  # how far from 1 power iteration leaves the largest singular value


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
    kind : str
        The name as one says it: *Gaussian*, *uniform* or *independent* entries, *spectrally
        normalised*, *orthogonal*, *semi-orthogonal*, *delta-orthogonal*, *trained or other*.
    """

    name: Name
    sigma_w: float
    evidence: str
    kind: str = "trained or other"


_recognised: WeakKeyDictionary[Matrix, Ensemble] = WeakKeyDictionary()


def by_values(matrix: Matrix) -> Ensemble:
    """Tell the ensemble of a weight from its singular values, once: it takes milliseconds."""
    if matrix not in _recognised:
        _recognised[matrix] = recognise(matrix.sigma, *matrix.shape)
    return _recognised[matrix]


def of_matrix(matrix: Matrix) -> Ensemble:
    """Tell the ensemble of a weight, by its entries too.

    A kernel that is orthogonal at a single one of its offsets is *delta-orthogonal*. Independent
    entries are *spectrally normalised* where σ_max is one to a thousandth, else told by their
    kurtosis, to four standard deviations.
    """
    found = by_values(matrix)
    if found.name == "orthogonal" and matrix.offsets == 1 < matrix.kernel:
        return replace(found, kind="delta-orthogonal", evidence=f"delta-{found.evidence}")
    if found.name != "gaussian":
        return found
    if abs(float(matrix.sigma.max()) - 1) < _SPECTRAL:
        return replace(found, kind="spectrally normalised", evidence=f"σ_max = 1, {found.evidence}")
    if math.isnan(matrix.kurtosis):
        return found
    return replace(
        found,
        kind=_entries(matrix.kurtosis, math.prod(matrix.shape)),
        evidence=f"kurtosis {matrix.kurtosis:.2f}, {found.evidence}",
    )


def _entries(kurtosis: float, count: int) -> str:
    allowed = _MOMENT * math.sqrt(24 / count)
    near = min((_NORMAL, _UNIFORM), key=lambda known: abs(kurtosis - known))
    if abs(kurtosis - near) > allowed:
        return "independent"
    return "Gaussian" if near == _NORMAL else "uniform"


def summary(ensembles: Iterable[Ensemble]) -> str:
    """Count them by kind, with mean and standard deviation of σ_w."""
    scales: dict[str, list[float]] = {}
    for each in ensembles:
        scales.setdefault(each.kind, []).append(each.sigma_w)
    return ", ".join(f"{len(found)} {kind} ({_spread(found)})" for kind, found in scales.items())


def _spread(scales: list[float]) -> str:
    spread = f" ± {np.std(scales):.2g}" if len(scales) > 1 else ""
    return f"σ_w {np.mean(scales):.3g}{spread}"


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
        evidence = f"{kind}: singular values equal to {off:.0e}"
        return Ensemble("orthogonal", sigma_w, evidence, kind)
    if n < SMALLEST:
        return _narrow(sigma, rows, columns, sigma_w)
    law = _marchenko_pastur(rows / columns)
    logs = np.log(np.maximum(sigma / sigma_w, np.finfo(np.float64).tiny))
    ks = kolmogorov_smirnov(logs, np.full(n, 1 / n), law)
    evidence = f"n·KS = {n * ks:.1f} from Marchenko–Pastur"
    return _independent(n * ks < _IID, sigma_w, evidence)


def _narrow(sigma: Array, rows: int, columns: int, sigma_w: float) -> Ensemble:
    if len(sigma) < _ROWS or rows * columns < _ENTRIES:
        return Ensemble("other", sigma_w, f"{rows} × {columns} entries are too few to tell")
    moment = rows * columns * float(np.sum(sigma**4) / np.sum(sigma**2) ** 2)
    z = (moment - (rows + columns + 1)) / 2
    evidence = f"the spread of σ² is {z:.1f} deviations from that of independent entries"
    return _independent(abs(z) < _MOMENT, sigma_w, evidence)


def _independent(yes: bool, sigma_w: float, evidence: str) -> Ensemble:
    if yes:
        return Ensemble("gaussian", sigma_w, evidence, "independent")
    return Ensemble("other", sigma_w, evidence)


def _marchenko_pastur(ratio: float) -> Law:
    return free_product([Gaussian(ratio, 1.0)])
