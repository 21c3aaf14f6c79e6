"""What a measurement is of: the same for a run that was killed and the one that resumes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor, nn

from isometry.jacobian.function import call
from isometry.jacobian.operator import Jacobian
from isometry.measure.options import Options


def fingerprint(jacobian: Jacobian, options: Options) -> tuple[str, str]:
    """Hash the network with all that steers its probes, and the input.

    Returns
    -------
    study : str
        Of weights and buffers (or, where it has none, the output), selection, precision, device,
        seed, probes, steps and tolerance.
    point : str
        Of the input.
    """
    model = jacobian.network.model
    state = model.state_dict() if isinstance(model, nn.Module) else {}
    held = [(k, v) for k, v in state.items() if isinstance(v, Tensor)]
    if not held:
        with jacobian.session(), torch.no_grad():
            held = [("output", call(jacobian.f, jacobian.x))]
    steering = (
        version("isometry"),
        asdict(options.selection),
        (str(jacobian.dtype), jacobian.device.type, jacobian.shape),
        (options.seed, options.probes, options.steps, options.tolerance),
    )
    study = hashlib.sha256(repr(steering).encode())
    for name, tensor in held:
        study.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        study.update(_bytes(tensor))
    return study.hexdigest(), hashlib.sha256(_bytes(jacobian.x)).hexdigest()


def digest(value: object) -> bytes:
    """Hash an input: tensors and arrays by what they hold, in whatever containers."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        told = repr((tuple(value.shape), value.dtype)).encode() + _bytes(value)
    elif isinstance(value, Mapping):
        told = b"{" + b"".join(repr(k).encode() + digest(value[k]) for k in value)
    elif isinstance(value, (list, tuple)):
        told = b"[" + b"".join(map(digest, value))
    else:
        told = repr(value).encode()
    return hashlib.sha256(told).digest()


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().flatten()
    return bytes(flat.view(torch.uint8).numpy().data) if flat.numel() else b""
