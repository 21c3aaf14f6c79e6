"""The measurement context: what must hold while a network is differentiated.

Everything changed here is put back on leaving, also after an error.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint as checkpointing
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.utils._device import DeviceContext

from isometry.jacobian.kept import attributes_kept, modes_kept
from isometry.jacobian.randomness import one_mask
from isometry.jacobian.shards import are_sharded, in_step, reshard
from isometry.jacobian.undo import Undo

_one_at_a_time = threading.RLock()
_EXACT = ("ieee", "none")  # none: nobody asked, and the default of these places is exact
EXPERTS = "_experts_implementation_internal"
_spare_generator = np.random.MT19937(0)


@dataclass(frozen=True)
class _Held:
    modules: Sequence[nn.Module]
    plain: bool
    changes: list[str]


_held: ContextVar[_Held | None] = ContextVar("held", default=None)


@contextmanager
def measuring(
    modules: Sequence[nn.Module],
    device: torch.device,
    *,
    train_mode: bool = False,
    plain: Callable[[], bool] | None = None,
    put_back: Callable[[], None] = lambda: None,
) -> Iterator[list[str]]:
    """Hold a network still while it is measured on `device`, and leave it without a trace.

    Gives a list that fills with what turns out to be changed only when the network runs, in
    words for the report. Entered again for the same modules, it has nothing left to do. A
    network that is `plain` is made of PyTorch's plain layers alone, which hide nothing.
    `put_back` runs when the outermost is left, for what an interrupt may have left changed.
    """
    held = _held.get()
    if held is not None and (held.modules is modules or held.modules == modules != ()):
        yield held.changes
        return
    # One measurement at a time: weights are lent to the model and some flags are global.
    with _one_at_a_time, Undo() as undo, undo:
        undo.later(_held.set, held)
        undo.later(torch._C._set_grad_enabled, torch.is_grad_enabled())  # forward may set it
        if held is None:
            undo.later(put_back)
        undo.later(in_step.set, in_step.get())
        in_step.set(are_sharded(modules))
        reshard(modules)
        changes: list[str] = []
        hides_nothing = plain is not None and plain()
        _held.set(_Held(modules, hides_nothing, changes))
        quiet = hides_nothing and not train_mode
        with (
            differentiating(device),
            nullcontext() if quiet else _all_held(modules, device, train_mode, changes),
            modes_kept(modules, train_mode),
        ):
            yield changes


def found_plain(modules: Sequence[nn.Module]) -> bool:
    """Whether these modules are held still now, and were found to be plain layers alone."""
    held = _held.get()
    return held is not None and held.plain and held.modules == modules


def differentiating(device: torch.device) -> AbstractContextManager[None]:
    """Let autograd run through a graph that is there, in full precision.

    All that the products of a made reverse route need: the network itself does not run.
    """
    lowered, inference = lowered_by(device), torch.is_inference_mode_enabled()
    unlike = (
        lowered or inference or torch.is_autocast_enabled(device.type) or _made_elsewhere(device)
    )
    if torch.is_grad_enabled() and not unlike:
        return nullcontext()  # as it mostly is: a small network's products feel every context
    return _differentiating(device, lowered, inference)


@contextmanager
def _differentiating(
    device: torch.device, lowered: list[tuple[Any, str]], inference: bool
) -> Iterator[None]:
    with (
        torch.inference_mode(False) if inference else nullcontext(),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        _full_precision(lowered),
        device if _made_elsewhere(device) else nullcontext(),
    ):
        yield


@contextmanager
def _all_held(
    modules: Sequence[nn.Module], device: torch.device, train_mode: bool, changes: list[str]
) -> Iterator[None]:
    """Hold still what the code of a network may do beyond plain layers."""
    with (
        # The fused attention kernels have no forward-mode and no second derivative.
        sdpa_kernel(SDPBackend.MATH),
        _compilation_off() if "torch._dynamo" in sys.modules else nullcontext(),
        attributes_kept(modules),
        Undo() as undo,
        undo,
    ):
        _keep_random_state(undo, device)
        _switch_off(undo, changes)
        undo.later(reshard, modules)
        if any(isinstance(m, nn.RNNBase) for m in modules):
            # The oneDNN LSTM and the cuDNN recurrences have no forward-mode derivative. Not by
            # their own context managers: those set every flag, and warn about another of them.
            backends: Any = torch.backends
            undo.set(backends.cudnn if device.type == "cuda" else backends.mkldnn, "enabled", False)
        if train_mode:
            one_mask(undo)
        for m in modules:
            _adapt(m)
        yield


def _adapt(m: nn.Module) -> None:
    """Change attributes of a module, which are put back with all the others."""
    if getattr(m, "_compiled_call_impl", None) is not None:
        m._compiled_call_impl = None
    if isinstance(m, nn.RMSNorm) and m.eps is None:
        # Left open, it is that of the precision, and so of the measurement's.
        own = m.weight.dtype if m.weight is not None else torch.get_default_dtype()
        m.eps = torch.finfo(own).eps
    # Hugging Face's mixtures of experts: the grouped kernel has no forward-mode derivative.
    if (config := config_of(m)).get(EXPERTS) == "grouped_mm":
        config[EXPERTS] = "batched_mm"


def config_of(m: nn.Module) -> dict[str, Any]:
    """Return the configuration of a module of Hugging Face's, empty for others."""
    config: dict[str, Any] = getattr(vars(m).get("config"), "__dict__", {})
    return config


def _keep_random_state(undo: Undo, device: torch.device) -> None:
    # Not by fork_rng, whose bookkeeping costs more than a small network's forward pass; NumPy's
    # generator is set aside whole, which is sixty times faster than reading its state.
    numpy: Any = np.random
    undo.later(torch.set_default_dtype, torch.get_default_dtype())  # forward may set it
    undo.later(random.setstate, random.getstate())
    undo.later(torch.set_rng_state, torch.get_rng_state())
    if device.type == "cuda":
        undo.later(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)
    undo.later(numpy.set_bit_generator, numpy.get_bit_generator())
    numpy.set_bit_generator(_spare_generator)


def _switch_off(undo: Undo, changes: list[str]) -> None:
    """Switch off the fast path of attention, checkpointing, and cached parametrisations."""
    mha = torch.backends.mha
    undo.later(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
    mha.set_fastpath_enabled(False)
    # Both kinds are reached through names that `checkpoint` looks up in its own module.
    for name, plain in _without_checkpoints(changes).items():
        if hasattr(checkpointing, name):
            undo.set(checkpointing, name, plain)
    # Parametrised weights that the user has cached are not the lent ones.
    undo.set(parametrize, "_cache", {})
    undo.set(parametrize, "_cache_enabled", 0)


def _made_elsewhere(device: torch.device) -> bool:
    """Whether the user's default device, for tensors made without one, is neither CPU nor this."""
    if not torch._C._len_torch_function_stack():
        return False
    overrides: Any = torch.overrides
    modes = overrides._get_current_function_mode_stack()
    homes = [mode.device.type for mode in modes if isinstance(mode, DeviceContext)]
    return bool(homes) and homes[-1] not in ("cpu", device.type)


def lowered_by(device: torch.device) -> list[tuple[Any, str]]:
    """Return the kinds of operation that may round more than IEEE does, and how they do."""
    places = _places(device.type == "cuda")
    return [(place, was) for place in places if (was := place.fp32_precision) not in _EXACT]


@cache
def _places(cuda: bool) -> tuple[Any, ...]:
    # TF32 keeps ten bits of mantissa and is on by default for convolutions on GPUs; oneDNN has
    # the like on CPUs. Not by allow_tf32: reading that raises once the user has set newer flags.
    backends: Any = torch.backends
    if cuda:
        return backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
    return backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn


@contextmanager
def _full_precision(lowered: list[tuple[Any, str]]) -> Iterator[None]:
    try:
        for place, _ in lowered:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, was in lowered:
            place.fp32_precision = "none"  # what is only inherited must go on being so
            if place.fp32_precision != was:
                place.fp32_precision = was


class _Unchecked:
    """Stands in for reentrant checkpointing: runs the function, keeps its activations."""

    def __init__(self, changes: list[str]) -> None:
        self._changes = changes

    def apply(self, function: Callable[..., Any], _preserve: bool, *args: Any) -> Any:
        note = "checkpointing is switched off: `torch.func` does not support its hooks"
        if note not in self._changes:
            self._changes.append(note)
        return function(*args)


def _without_checkpoints(changes: list[str]) -> dict[str, Any]:
    """Return what lets `checkpoint` call its function plainly, however it was imported."""
    plain = _Unchecked(changes)

    def generator(function: Callable[..., Any], preserve: bool, *_: Any, **__: Any) -> Any:
        plain.apply(lambda: None, preserve)  # for the note
        yield

    return {
        "CheckpointFunction": plain,
        "_checkpoint_without_reentrant_generator": generator,
    }


@contextmanager
def _compilation_off() -> Iterator[None]:
    """Run compiled functions as written; only where the compiler was ever loaded."""
    with torch.compiler.set_stance("force_eager"):
        yield
