"""Every singular value, from the dense Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from isometry.errors import MeasurementError
from isometry.jacobian.bottleneck import Bottleneck, bottleneck
from isometry.jacobian.operator import Jacobian
from isometry.jacobian.selfcheck import refuse_not_finite
from isometry.measure.ranks import Ranks
from isometry.spectrum import Spectrum

# Entries between these need no scaling before their singular values are taken, in float32 too.
_SMALL, _LARGE = 1e-12, 1e12


@dataclass(frozen=True)
class Measurement:
    """A spectrum with what else was learnt on the way.

    Attributes
    ----------
    spectrum : Spectrum
    dense : torch.Tensor
        The Jacobian, (m, n).
    bottleneck : Bottleneck
        What caps its rank.
    """

    spectrum: Spectrum
    dense: torch.Tensor
    bottleneck: Bottleneck


def exact(
    jacobian: Jacobian,
    *,
    memory: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Measurement:
    """Measure all r = min(m, n) singular values of J by its dense form and LAPACK's SVD.

    Rounding leaves noise of about eps·σ_max in place of a zero singular value (measured: 0.2
    to 2 eps·σ_max for n = 64 … 500). The floor, ``√max(m, n)·eps·σ_max``, stays clear of it;
    what lies below is reported as a mass, not as values. Zeros that
    follow from the shape (n ≠ m, or a narrower layer that every path crosses) are not counted.

    Parameters
    ----------
    jacobian : Jacobian
    memory : int, optional
        Bytes that may be used; by default half of the device's memory.
    progress : callable, optional
        Called with the fraction of J that is done.

    Returns
    -------
    Measurement

    Raises
    ------
    MemoryBudgetError
        If J does not fit.
    MeasurementError
        If J is not finite, or identically zero.
    """
    # One context for all that follows: small networks feel it.
    with jacobian.network.held_still(jacobian.device):
        dense = _dense(jacobian, memory, progress)
        values = _singular_values(jacobian, dense)
        floor = max(jacobian.shape) ** 0.5 * float(torch.finfo(dense.dtype).eps) * values[0]
        # Full rank in the numbers needs no proof from the structure.
        full = Bottleneck(len(values), len(values))
        caps = full if values[-1] > floor else bottleneck(jacobian)
        if caps.alive < np.count_nonzero(values > floor):
            jacobian.note("the structure's bound on the rank was contradicted and ignored")
            caps = full
    resolved = values[: caps.alive]
    resolved = resolved[resolved > floor]
    spectrum = Spectrum.of(
        resolved,
        weights=np.full(len(resolved), 1 / caps.width),
        floor=float(floor),
        unresolved=(caps.alive - len(resolved)) / caps.width,
        dead=(caps.width - caps.alive) / caps.width,
        method="exact",
    )
    return Measurement(spectrum, dense, caps)


def _dense(
    jacobian: Jacobian, memory: int | None, progress: Callable[[float], None] | None
) -> torch.Tensor:
    """J, of which every rank computes its share of the rows, or of the columns."""
    ranks = Ranks()
    if ranks.size == 1:
        return jacobian.dense(memory=memory, progress=progress)
    jacobian.reserve_dense(memory)
    m, n = jacobian.shape
    product = jacobian.T if m <= n else jacobian

    def part(rows: slice) -> torch.Tensor:
        shape = min(m, n), rows.stop - rows.start
        basis = torch.zeros(shape, dtype=jacobian.dtype, device=jacobian.device)
        basis.diagonal(-rows.start).fill_(1)
        return (product @ basis).T.cpu()

    parts = ranks.deal([partial(part, rows) for rows in ranks.slices(min(m, n))])
    whole = torch.cat(parts).to(jacobian.device)
    return whole if m <= n else whole.T


def _singular_values(jacobian: Jacobian, dense: torch.Tensor) -> NDArray[np.float64]:
    lowest, highest = torch.aminmax(dense)  # one pass finds NaN, infinities and zero alike
    scale = max(-float(lowest), float(highest))
    if not math.isfinite(scale):
        refuse_not_finite(jacobian, dense)
    if scale == 0:
        raise MeasurementError(
            "the output does not depend on the input differentiably (J = 0): every unit may be "
            "dead, forward may detach, round or quantise, or a very deep network underflows; try "
            "another input"
        )
    if dense.dtype in (torch.bfloat16, torch.float16):  # no LAPACK routine takes them
        dense = dense.float()
    if not _SMALL < scale < _LARGE:
        # Denormal numbers are slow, and flushed on some platforms; squares must not overflow.
        return np.asarray(torch.linalg.svdvals(dense / scale).double().cpu() * scale)
    values = torch.linalg.svdvals(dense).double().cpu()
    return np.asarray(values.numpy())
