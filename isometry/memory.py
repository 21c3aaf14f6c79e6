"""How much memory a measurement may use, and how sizes are written."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import torch

from isometry.errors import InputError

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def default_budget(device: torch.device) -> int:
    """Half of the memory of the device, in bytes; a container's limit counts as its memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return _total(device) // 2


def way_out(needed: float, device: torch.device) -> str:
    """Return the advice to allow so much memory, where the device has it."""
    if 1.1 * needed > _total(device):
        return f"the {device.type} has {format_size(_total(device))} in all"
    wanted = 1.1 * needed
    return f"or allow it with --memory {format_size(wanted, '')}, or memory={wanted:.0f}"


def _total(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        total = 8 * 2**30
    return min(total, _container_limit())


def parse_size(text: str) -> int:
    """Read a size such as ``4GB``, ``512 MiB`` or ``1000000`` (bytes); units are powers of 1024."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)i?b?\s*", text.lower())
    if not match or float(match[1]) <= 0:
        raise InputError(f"cannot read {text!r} as a memory size: write it as 4GB or 512MB")
    return int(float(match[1]) * _UNITS[match[2]])


def format_size(size: float, space: str = " ") -> str:
    """Write a number of bytes with three digits, in powers of 1024."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            # Three digits of 1000 to 1023 would read 1e+03.
            return f"{size:.3g}{space}{unit}" if size < 1000 else f"{size:.0f}{space}{unit}"
        size /= 1024
    return ""


@functools.cache
def _container_limit() -> int:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no such file, or no limit ("max")
        return 2**62
