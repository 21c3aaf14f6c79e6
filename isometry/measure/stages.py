"""Every singular value of a chain of modules, however deep: its stages, multiplied one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isometry.errors import InputError, MeasurementError, MemoryBudgetError
from isometry.jacobian.operator import Jacobian
from isometry.jacobian.selfcheck import refuse_not_finite
from isometry.measure.graded import GradedProduct
from isometry.measure.options import Progress
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
class Stage:
    """A piece of a chain of modules, differentiated as one.

    Attributes
    ----------
    start, stop : str
        Names of its first and its last module.
    module : Module
        That one module, or the modules in order.
    shape : tuple of int
        (m, n) of its Jacobian.
    """

    start: str
    stop: str
    module: nn.Module
    shape: tuple[int, int]


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


def stages(model: Callable[..., Any], x: object) -> list[Stage]:
    """Find the stages of a network that runs its modules one after the other.

    One forward pass is watched: a module is a chain if each child is given exactly the tensor
    that the one before returned, the first the input, and the output is the last one's. Chains
    within chains are unfolded; a child that is none, a residual block say, is kept whole. Layers
    without weight matrices go with the one before them.

    Parameters
    ----------
    model : torch.nn.Module
    x : Tensor, tuple or mapping
        As `Jacobian` takes it.

    Raises
    ------
    InputError
        If it is no chain of modules.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> [(s.start, s.stop, s.shape) for s in stages(net, torch.zeros(1, 3))]
    [('0', '1', (4, 3)), ('2', '2', (2, 4))]
    """
    return stages_of(Jacobian(model, x, self_check=False))


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
        Whether to test the derivative of each kind of stage, and the product against Jᵀu of the
        whole network where that is in the range of floating point.
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
        notes[_COARSE.format(str(whole.dtype).removeprefix("torch."))] = None
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
    """Give the Jacobian of each stage where the one before has led, the first of a kind tested."""
    trusted: set[tuple[type, ...]] = set()
    for stage in found:
        kind = tuple(map(type, stage.module.modules()))
        check = self_check and kind not in trusted
        jacobian = Jacobian(
            stage.module, at, dtype=at.dtype, device=at.device, memory=memory, self_check=check
        )
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


def stages_of(jacobian: Jacobian) -> list[Stage]:
    """Find the stages of the network of a Jacobian; as `stages`."""
    model = jacobian.network.model
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise InputError(f"{kind} is no chain of modules: give a network made of modules")
    watch = _Watch()
    with ExitStack() as stack:
        stack.enter_context(jacobian.session())
        for module in model.modules():
            entering = module.register_forward_pre_hook(watch.enter, with_kwargs=True)
            stack.callback(entering.remove)
            stack.callback(module.register_forward_hook(watch.leave).remove)
        with torch.no_grad():
            jacobian.f(jacobian.x)
    if watch.entered is None or not torch.equal(watch.entered, jacobian.x):
        raise InputError(
            f"{kind} is no chain of modules: what it is differentiated by is not its only input; "
            "measure it by its dense Jacobian, or give the part of it that is a chain"
        )
    if watch.parts.get(model) is None:
        raise InputError(
            f"{kind} is no chain of modules: forward of {kind} does more than call its children; "
            "measure it by its dense Jacobian, or give the part of it that is a chain"
        )
    return _grouped(model, jacobian.shape[1], watch.unfold(model, jacobian.shape[0]))


@dataclass
class _Frame:
    """A module that runs: the tensor that it hands on, and the children that took it."""

    handed: Tensor | None
    version: int
    children: list[tuple[nn.Module, int]] = field(default_factory=list)
    straight: bool = True

    def hand(self, t: object) -> None:
        self.handed = t if isinstance(t, Tensor) else None
        self.version = -1 if self.handed is None else self.handed._version

    def is_handed(self, t: object) -> bool:
        """Whether this is the tensor handed on, and nobody has written to it since."""
        return isinstance(t, Tensor) and t is self.handed and t._version == self.version


class _Watch:
    """Hooks that see who calls whom, and whether the tensor is handed on unchanged.

    Attributes
    ----------
    parts : dict
        The children of every module that is a chain, in order, each with the size of its output;
        none for a leaf, None for a module that does more than call its children.
    entered : Tensor or None
        What the network itself was given.
    """

    def __init__(self) -> None:
        self.parts: dict[nn.Module, list[tuple[nn.Module, int]] | None] = {}
        self.entered: Tensor | None = None
        self._running: list[_Frame] = []

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [*args, *kwargs.values()]
        one = given[0] if len(given) == 1 else None
        frame = _Frame(None, -1)
        frame.hand(one)
        if self._running:
            parent = self._running[-1]
            parent.straight &= parent.is_handed(one)
        else:
            self.entered = frame.handed
        self._running.append(frame)

    def leave(self, module: nn.Module, _: tuple[Any, ...], out: object) -> None:
        frame = self._running.pop()
        straight = frame.straight and (frame.is_handed(out) or not frame.children)
        parts = frame.children if straight else None
        if self.parts.setdefault(module, parts) != parts:
            self.parts[module] = None  # called again, it did something else
        if self._running:
            self._running[-1].hand(out)
            size = out.numel() if isinstance(out, Tensor) else 0
            self._running[-1].children.append((module, size))

    def unfold(self, module: nn.Module, size: int) -> list[tuple[nn.Module, int]]:
        """Return the modules of a chain in order, with their outputs, chains within it unfolded."""
        parts = self.parts.get(module)
        return (
            [leaf for part in parts for leaf in self.unfold(*part)] if parts else [(module, size)]
        )


def _grouped(model: nn.Module, n: int, leaves: Sequence[tuple[nn.Module, int]]) -> list[Stage]:
    """Put layers without weight matrices with the one before them; n is the size of the input."""
    groups: list[list[nn.Module]] = []
    sizes = [n]
    weighted = False  # whether the last group has a weight matrix
    for leaf, m in leaves:
        weighs = any(p.ndim > 1 for p in leaf.parameters())
        if groups and not (weighs and weighted):
            groups[-1].append(leaf)
            sizes[-1] = m
        else:
            groups.append([leaf])
            sizes.append(m)
            weighted = False
        weighted |= weighs
    names = {module: name for name, module in model.named_modules()}
    return [
        Stage(names[g[0]], names[g[-1]], g[0] if len(g) == 1 else nn.Sequential(*g), shape)
        for g, shape in zip(groups, zip(sizes[1:], sizes[:-1], strict=True), strict=True)
    ]
