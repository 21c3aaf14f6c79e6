"""Every singular value of a chain of modules, however deep: its stages, multiplied one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isometry.errors import MeasurementError, MemoryBudgetError
from isometry.jacobian.lent import sharing
from isometry.jacobian.operator import Jacobian
from isometry.jacobian.placement import dtype_name
from isometry.jacobian.selfcheck import refuse_not_finite
from isometry.measure.graded import GradedProduct
from isometry.measure.options import Progress
from isometry.measure.stages import Stage, stages_of
from isometry.trust import SelfCheck

Array = NDArray[np.float64]

# Products outside this range say nothing: parts of them under- or overflow.
_SMALLEST, _LARGEST = 1e-280, 1e280
_NOT_COMPARED = "the stages were not compared with the whole network, whose Jᵀu leaves float64"
_COARSE = (
    "the stages were differentiated in {}: noise in a stage that is singular to that precision "
    "would pass for singular values"
)


@dataclass(frozen=True, eq=False)
class ChainSpectrum:
    """Singular values of J as logarithms, since they may leave the range of floating point.

    Attributes
    ----------
    log_sigma : ndarray, shape (k,), descending
        Natural logarithm of the resolved σ > 0, each of mass 1/rank.
    rank : int
        Directions r that the widths of the stages allow.
    unresolved : float
        Mass of the directions lost in a stage that is singular to machine precision.
    dead : float
        Mass of the directions that exact zeros cut: flat activations, or slopes that round to 0.
    notes : tuple of str
        What was chosen or changed for the measurement.
    self_check : SelfCheck or None
        The largest errors of all stages that were tested; `dense_error` is that of Jᵀu by the
        product against the whole network. None when it was switched off.
    """

    log_sigma: Array
    rank: int
    unresolved: float
    dead: float
    notes: tuple[str, ...]
    self_check: SelfCheck | None


def chain(
    model: Callable[..., Any],
    x: object,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    memory: int | str | None = None,
    self_check: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> ChainSpectrum:
    """Measure every singular value of a chain of modules by the graded product of its stages.

    The dense Jacobian of each stage is taken at the activation that the network brings there,
    and multiplied into U · diag(exp d) · T. No stage is kept.

    Parameters
    ----------
    model : torch.nn.Module
    x : Tensor, tuple or mapping
    dtype, device, memory
        As for `Jacobian`; the memory is that of one stage.
    self_check : bool
        Whether to test the derivative of each stage, of PyTorch's own layers once a kind, and the
        product against Jᵀu of the whole network where that is in the range of floating point.
    seed : int
        Seed of u.
    progress : callable, optional
        Called with the fraction of stages that is done.

    Returns
    -------
    ChainSpectrum

    Raises
    ------
    InputError
        If it is no chain of modules.
    MeasurementError
        If a stage is not finite, or a self-check fails.
    """
    with sharing():
        whole = Jacobian(model, x, dtype=dtype, device=device, memory=memory, self_check=False)
        return multiplied(
            whole,
            stages_of(whole),
            memory=memory,
            self_check=self_check,
            seed=seed,
            progress=progress,
        )


def multiplied(
    whole: Jacobian,
    found: Sequence[Stage],
    *,
    memory: int | str | None = None,
    self_check: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> ChainSpectrum:
    """Multiply the stages of a network whose Jacobian is at hand; as for `chain`."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    u = torch.randn(whole.shape[0], generator=generator, dtype=whole.dtype, device="cpu")
    pulled = whole.T @ u if self_check else None
    notes = dict.fromkeys(whole.notes)
    if whole.dtype != torch.float64:
        notes[_COARSE.format(dtype_name(whole.dtype))] = None
    product, checks = GradedProduct(), list[SelfCheck]()
    for i, (jacobian, check) in enumerate(_jacobians(found, whole.x, memory, self_check, seed)):
        product.push(_dense(jacobian, found[i]))
        notes.update(dict.fromkeys(jacobian.notes))
        checks += [check] if check is not None else []
        if progress is not None:
            progress((i + 1) / len(found))
    worst = None
    if pulled is not None:
        gap = _compared(product, u, pulled, float(torch.finfo(whole.dtype).eps) ** 0.5)
        worst = replace(_worst(checks), dense_error=gap)
        if gap is None:
            notes[_NOT_COMPARED] = None
    return ChainSpectrum(
        log_sigma=product.log_singular_values(),
        rank=product.width,
        unresolved=product.unresolved / product.width,
        dead=product.dead / product.width,
        notes=tuple(notes),
        self_check=worst,
    )


def _jacobians(
    found: Sequence[Stage], at: Tensor, memory: int | str | None, self_check: bool, seed: int
) -> Iterator[tuple[Jacobian, SelfCheck | None]]:
    """Give the Jacobian of each stage where the one before has led.

    Tested are all that run code of the user's own, which may be right in one place and wrong in
    the next, and the first of a kind of those that are PyTorch's alone.
    """
    trusted: set[tuple[type, ...]] = set()
    for stage in found:
        jacobian = Jacobian(
            stage.module, at, dtype=at.dtype, device=at.device, memory=memory, self_check=False
        )
        kind = tuple(map(type, stage.module.modules()))
        check = self_check and not (jacobian.stock and kind in trusted)
        yield jacobian, jacobian.verify(seed=seed) if check else None
        if not (jacobian.forward.reasons or jacobian.reverse.reasons):
            trusted.add(kind)
        with jacobian.session(), torch.no_grad():
            at = jacobian.f(jacobian.x)


def _worst(checks: Sequence[SelfCheck]) -> SelfCheck:
    """Join checks that all passed: the largest error of each kind, None if one could not run."""

    def largest(name: str) -> float | None:
        errors = [getattr(check, name) for check in checks]
        return None if None in errors else max(errors)

    return SelfCheck(
        repeatable=True,
        adjoint_error=largest("adjoint_error"),
        dense_error=None,
        difference_error=largest("difference_error"),
        kink=any(check.kink for check in checks),
        failures=(),
        loop_error=largest("loop_error"),
    )


def _dense(jacobian: Jacobian, stage: Stage) -> Array:
    try:
        dense = jacobian.dense()
        refuse_not_finite(jacobian, dense)
    except (MeasurementError, MemoryBudgetError) as e:
        raise type(e)(f"from {stage.start!r} to {stage.stop!r}: {e}") from e
    return np.asarray(dense.cpu().double().numpy())


def _compared(product: GradedProduct, u: Tensor, pulled: Tensor, tolerance: float) -> float | None:
    """Compare Jᵀu by the product of the stages and by the whole network, if float64 holds it."""
    expected = pulled.cpu().double().numpy()
    size = np.abs(expected).max()
    if not _SMALLEST < size < _LARGEST:
        return None
    v, k = product.pull(u.cpu().numpy())
    gap = float(np.abs(np.ldexp(v, k) - expected).max() / size)
    if not gap <= tolerance:
        raise MeasurementError(
            f"the stages do not multiply to the Jacobian of the network: Jᵀu is off by {gap:.1e}; "
            "self_check=False gives the numbers nevertheless"
        )
    return gap
