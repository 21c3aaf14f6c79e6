"""The measurement context: what must hold while a network is differentiated.

Everything changed here is put back on leaving, also after an error.
"""

from __future__ import annotations

import functools
import inspect
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from isometry.errors import InputError

_one_at_a_time = threading.RLock()
_held: ContextVar[Sequence[nn.Module]] = ContextVar("held", default=())


def unwrap(model: Callable[..., object]) -> Callable[..., object]:
    """Return the module inside compiled and data-parallel wrappers.

    A compiled module does not support double backward and a data-parallel one scatters
    its input; neither changes the function that is measured.
    """
    if isinstance(model, type):
        raise InputError(f"expected a network, got the class {model.__name__}: call it first")
    if not callable(model):
        raise InputError(f"expected a module or a function, got {type(model).__name__}")
    while isinstance(model, nn.Module):
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    return model


def modules_of(model: Callable[..., object]) -> tuple[nn.Module, ...]:
    """Return all modules inside a network; for a function, inside what it refers to."""
    roots = [model] if isinstance(model, nn.Module) else _referred_to(model)
    return tuple(dict.fromkeys(m for root in roots for m in root.modules()))


def _referred_to(function: Callable[..., object]) -> list[nn.Module]:
    """Modules that a function closes over, is bound to, has as arguments or names globally."""
    if isinstance(function, functools.partial):
        parts = (function.func, *function.args, *function.keywords.values())
        inner = [m for part in parts if callable(part) for m in _referred_to(part)]
        return [*inner, *(part for part in parts if isinstance(part, nn.Module))]
    held: list[object] = [
        getattr(function, "__self__", None),
        *getattr(function, "__dict__", {}).values(),
    ]
    try:
        names = inspect.getclosurevars(inspect.unwrap(function))
        held += [*names.nonlocals.values(), *names.globals.values()]
    except TypeError:  # not a Python function
        pass
    return [part for part in held if isinstance(part, nn.Module)]


@contextmanager
def measuring(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Hold a network still while it is measured on `device`, and leave it without a trace.

    Entered again for the same modules, it has nothing left to do.
    """
    if modules and _held.get() == modules:
        yield
        return
    # One measurement at a time: weights are lent to the model and some flags are global.
    with _one_at_a_time:
        token = _held.set(modules)
        try:
            with _held_still(modules, device):
                yield
        finally:
            _held.reset(token)


@contextmanager
def _held_still(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(_random_state_kept(device))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        # The fused attention kernels have no forward-mode and no second derivative.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_attention_fast_path_off())
        stack.enter_context(_full_precision())
        if device.type == "cpu" and any(isinstance(m, nn.LSTM) for m in modules):
            # The oneDNN LSTM has no forward-mode derivative; elsewhere oneDNN is faster.
            stack.enter_context(_onednn_off())
        stack.enter_context(_attributes_kept(modules))
        for m in modules:
            if m.training:  # the flag itself: eval() may be overridden and do more
                m.training = False
        yield


@contextmanager
def _attributes_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back every attribute of the modules: flags, caches written in forward, weight lists."""
    tables = [vars(m) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    inner = ("_parameters", "_buffers", "_modules")
    tables += [t[name] for t in tables for name in inner if name in t]
    before = [dict(t) for t in tables]
    script = [(m, m.training) for m in modules if isinstance(m, torch.jit.ScriptModule)]
    try:
        yield
    finally:
        for table, kept in zip(tables, before, strict=True):
            for name in table.keys() - kept.keys():
                del table[name]
            table.update(kept)
        for m, training in script:
            m.training = training


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    # Not by fork_rng, whose bookkeeping costs more than a small network's forward pass.
    python, legacy_numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy_numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)


@contextmanager
def _attention_fast_path_off() -> Iterator[None]:
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _onednn_off() -> Iterator[None]:
    # Not its own context manager: that one sets every flag, and warns about another of them.
    mkldnn: Any = torch.backends.mkldnn
    enabled = mkldnn.enabled
    mkldnn.enabled = False
    try:
        yield
    finally:
        mkldnn.enabled = enabled


@contextmanager
def _full_precision() -> Iterator[None]:
    # TF32 keeps ten bits of mantissa and is on by default for convolutions on GPUs. Not by
    # allow_tf32: reading that raises once the user has set the newer flags.
    backends: Any = torch.backends
    places = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
