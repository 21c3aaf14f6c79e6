"""The measurement context: what must hold while a network is differentiated.

Everything changed here is put back on leaving, also after an error.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_held: ContextVar[Sequence[nn.Module]] = ContextVar("held", default=())


def unwrap(model: Callable[..., object]) -> Callable[..., object]:
    """Return the module inside compiled and data-parallel wrappers.

    A compiled module does not support double backward and a data-parallel one scatters
    its input; neither changes the function that is measured.
    """
    while isinstance(model, nn.Module):
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    return model


def modules_of(model: Callable[..., object]) -> tuple[nn.Module, ...]:
    """Return all modules inside a network; a plain function has none."""
    return tuple(model.modules()) if isinstance(model, nn.Module) else ()


@contextmanager
def measuring(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Hold a network still while it is measured on `device`, and leave it without a trace.

    Entered again for the same modules, it has nothing left to do.
    """
    if _held.get() is modules and modules:
        yield
        return
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
        # The fused attention kernels have no forward-mode and no second derivative.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_attention_fast_path_off())
        stack.enter_context(_full_precision())
        if device.type == "cpu" and any(isinstance(m, nn.LSTM) for m in modules):
            # The oneDNN LSTM has no forward-mode derivative; elsewhere oneDNN is faster.
            stack.enter_context(_onednn_off())
        stack.enter_context(_evaluating(modules))
        yield


@contextmanager
def _evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    # The flag itself is set: eval() may be overridden and do more.
    training = [m for m in modules if m.training]
    try:
        for m in training:
            m.training = False
        yield
    finally:
        for m in training:
            m.training = True


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    python, legacy_numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy_numpy)


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
    # TF32 keeps ten bits of mantissa and is on by default for convolutions on GPUs.
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = False, False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
