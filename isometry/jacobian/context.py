"""The measurement context: what must hold while a network is differentiated.

Everything changed here is put back on leaving, also after an error.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import random
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from isometry.errors import InputError

_FARTHEST = 4  # containers and closures between a function and its modules
_TABLES = frozenset(vars(nn.Module()))  # PyTorch's own attributes of every module
_MOST = 1000  # items looked at in one container, which may be a data set
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
    """Return all modules that a network can reach, also through lists, closures and arguments.

    For a module these are its submodules and those it keeps in plain containers; for a function,
    what it closes over, is bound to, has as defaults or names globally.
    """
    found: dict[nn.Module, None] = {}
    seen: set[int] = set()
    pending: list[tuple[object, int]] = [(model, 0)]
    while pending:
        part, depth = pending.pop()
        if id(part) in seen or depth > _FARTHEST:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            found[part] = None
            depth = -1
        pending += [(inner, depth + 1) for inner in _parts(part)]
    return tuple(found)


def _parts(whole: object) -> Iterable[object]:
    if isinstance(whole, nn.Module):
        if isinstance(whole, torch.jit.ScriptModule):
            return whole.children()
        own = (v for k, v in vars(whole).items() if k not in _TABLES)
        return [*whole._modules.values(), *(v for v in own if isinstance(v, (list, tuple, dict)))]
    if isinstance(whole, dict):
        return list(itertools.islice(whole.values(), _MOST))
    if isinstance(whole, (list, tuple, set)):
        return list(itertools.islice(whole, _MOST))
    if isinstance(whole, functools.partial):
        return [whole.func, *whole.args, *whole.keywords.values()]
    if isinstance(whole, (type, types.ModuleType, torch.Tensor)):
        return []
    if inspect.ismethod(whole):
        return [whole.__self__, whole.__func__]
    attributes = getattr(whole, "__dict__", {}).values()
    if not inspect.isfunction(whole):
        return list(attributes)
    names = inspect.getclosurevars(whole)
    defaults = (*(whole.__defaults__ or ()), *(whole.__kwdefaults__ or {}).values())
    return [*attributes, *names.nonlocals.values(), *names.globals.values(), *defaults]


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
    scripted = [(m, m.training) for m in modules if isinstance(m, torch.jit.ScriptModule)]
    tables = [vars(m) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    tables += [v for t in tables for v in t.values() if type(v) is dict]
    lists = [(v, list(v)) for t in tables for v in t.values() if type(v) is list]
    before = [(t, dict(t)) for t in tables]
    try:
        yield
    finally:
        for items, kept_items in lists:
            items[:] = kept_items
        for table, kept in before:
            if list(table) != list(kept):  # order counts: it is that of the state dict
                table.clear()
            table.update(kept)
        for m, training in scripted:
            m.training = training


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    # Not by fork_rng, whose bookkeeping costs more than a small network's forward pass.
    python, legacy_numpy, cpu = (
        random.getstate(),
        np.random.get_state(legacy=False),
        torch.get_rng_state(),
    )
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
