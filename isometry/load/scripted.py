"""TorchScript archives: their code is run, so they are for files that the user vouches for."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from isometry.load.source import Source

NOTE = "TorchScript is deprecated in PyTorch; save models anew with torch.export.save"


def open_script(source: Source) -> nn.Module:
    """Load a scripted or traced module; its own code runs now and in every forward pass."""
    with warnings.catch_warnings():
        # The note says it once; torch 2.13 and 2.15 say it in two categories.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)")
        module: nn.Module = torch.jit.load(source.handle, map_location="cpu")  # type: ignore[no-untyped-call]
    return module


def script_classes(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the classes that were compiled, each once."""
    names = {getattr(part, "original_name", ""): None for part in module.modules()}
    return tuple(name for name in names if name)
