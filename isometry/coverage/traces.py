"""What a measurement could leave behind in a network or in global state, as comparable values."""

from __future__ import annotations

import functools
import hashlib
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isometry.jacobian.modules import modules_of, unwrap

_DEEPEST = 4  # containers and objects inside an attribute


def traces(model: Callable[..., Any]) -> dict[str, object]:
    """Return every attribute of every module bit by bit, and the global state of PyTorch.

    Weights, buffers, plain tensors and arrays, gradients, flags, hooks, configurations,
    generators of random numbers: two results are equal where nothing was changed, and where
    they differ the keys say what was.
    """
    found = _globals()
    for part in {id(model): model, id(unwrap(model)): unwrap(model)}.values():
        if not isinstance(part, nn.Module):
            found[f"{type(part).__name__}"] = _content(part, 0)
    for i, m in enumerate(modules_of(model)):
        name = f"{i} {type(m).__name__}"
        if isinstance(m, torch.jit.ScriptModule):
            tensors = [*m.named_parameters(recurse=False), *m.named_buffers(recurse=False)]
            found |= {f"{name}.{key}": _content(t, 0) for key, t in tensors}
            found[f"{name}.training"] = m.training
        else:
            # Also their order, which is that of the state dict.
            found[f"{name}: attributes"] = tuple(vars(m))
            found |= {f"{name}.{key}": _content(v, 0) for key, v in vars(m).items()}
    return found


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Name what differs between two results of `traces`."""
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def _globals() -> dict[str, object]:
    backends: Any = torch.backends
    return {
        "random state of PyTorch": _digest(torch.get_rng_state().numpy().tobytes()),
        "random state of NumPy": repr(np.random.get_state()),
        "random state of Python": random.getstate(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "default dtype": torch.get_default_dtype(),
        "kernels": (
            backends.mha.get_fastpath_enabled(),
            backends.mkldnn.enabled,
            backends.cudnn.enabled,
            backends.cuda.matmul.fp32_precision,
            backends.cuda.flash_sdp_enabled(),
            backends.cuda.math_sdp_enabled(),
        ),
    }


def _content(value: object, depth: int) -> object:
    """Return what a value is and what it holds; the identity alone of what is opaque."""
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        return repr(value)
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray):
        return id(value), str(value.dtype), value.shape, _digest(value.tobytes())
    if isinstance(value, torch.Generator):
        return id(value), _digest(value.get_state().numpy().tobytes())
    if isinstance(value, np.random.Generator):
        return id(value), repr(value.bit_generator.state)
    if isinstance(value, random.Random):
        return id(value), value.getstate()
    if isinstance(value, functools._lru_cache_wrapper):
        return id(value), value.cache_info()
    if depth == _DEEPEST or isinstance(value, (nn.Module, type)):
        return id(value)
    if isinstance(value, (list, tuple, set, deque)):
        return id(value), tuple(_content(v, depth + 1) for v in value)
    held = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return id(value), tuple((repr(k), _content(v, depth + 1)) for k, v in held.items())


def _tensor(t: Tensor) -> object:
    grad = t.grad if t.is_leaf else None
    kind = (id(t), type(t), t.dtype, t.device, t.requires_grad, t.is_leaf)
    return *kind, _bits(t), None if grad is None else _tensor(grad)


def _bits(t: Tensor) -> object:
    if nn.parameter.is_lazy(t):
        return None
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(t)  # kept from inside a transform
    if wrapped or t.is_meta or t.layout is not torch.strided:
        return t.shape
    place = t.data_ptr()  # two that view one memory must go on doing so
    t = t.detach().int_repr() if t.is_quantized else t.detach()
    flat = t.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return t.shape, t.stride(), place, _digest(flat.view(torch.uint8).numpy().tobytes())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
