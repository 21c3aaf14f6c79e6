"""Where, in which precision and in how much memory to measure, as a user asks for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isometry.errors import InputError
from isometry.memory import parse_size

_CHOICE = "choose float64 or float32"


def chosen_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Read a precision; None leaves the choice to the operator."""
    known = {"float64": torch.float64, "float32": torch.float32}
    if dtype is None or dtype == "auto":
        return None
    name = dtype_name(dtype)
    if name not in known:
        raise InputError(f"cannot measure in {name}: {_CHOICE}")
    return known[name]


def precision(dtype: object) -> torch.dtype | None:
    """Read a precision as `chosen_dtype` does, lower ones than float32 too."""
    if dtype is None or isinstance(dtype, str):
        return chosen_dtype(dtype)
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1:
        return dtype
    raise InputError(f"cannot measure in {str(dtype).removeprefix('torch.')}: {_CHOICE}")


def chosen_device(device: torch.device | str | None) -> tuple[torch.device | None, list[str]]:
    """Read a device, with a note where "auto" chose; None means where the model is."""
    if device is None:
        return None, []
    if device == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(chosen), [f"device: {chosen} (auto)"]
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as e:
        raise InputError(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N") from e
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise InputError("CUDA was asked for and there is none here: use --device cpu")
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no {wanted}: {torch.cuda.device_count()} CUDA devices here")
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("MPS was asked for and there is none here: choose auto, cpu or cuda")
    if wanted.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"cannot measure on {device!r}: choose auto, cpu, cuda or cuda:N")
    return wanted, []


def read_size(memory: int | str | None) -> int | None:
    """Read a number of bytes, or text as `parse_size` takes it; None leaves the choice open."""
    if memory is None or isinstance(memory, str):
        return memory if memory is None else parse_size(memory)
    if not (isinstance(memory, int | float) and memory > 0):
        raise InputError(f"cannot read {memory!r} as a memory size: write it as '4GB', or in bytes")
    return memory


def own_device(model: object, x: Tensor) -> torch.device:
    """Return where a model is measured unless told otherwise: where its first parameter is."""
    if isinstance(model, nn.Module):
        for p in model.parameters():
            return p.device if not p.is_meta else x.device
    return x.device


def own_dtype(model: object, x: Tensor) -> torch.dtype:
    """Return the precision of a model: that of its first parameter that has one."""
    if isinstance(model, nn.Module):
        for p in model.parameters():
            if p.is_floating_point():
                return p.dtype
    return x.dtype if x.is_floating_point() else torch.get_default_dtype()


def dtype_name(dtype: torch.dtype | str) -> str:
    """Write a precision without the package's name."""
    return str(dtype).removeprefix("torch.")
