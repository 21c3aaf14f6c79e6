"""Files that the user vouches for: their code is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load.factory import working_directory_first
from isometry.load.source import Source
from isometry.load.weights import Weights, find_weights
from isometry.load.wording import show


def load_trusted(source: Source) -> tuple[str, nn.Module | Weights]:
    """Load a torch.save file by running it, as `torch.load` did before torch 2.6.

    Raises
    ------
    RefusedError
        Every user of this machine may change the file, so nobody can vouch for it.
    LoadError
        Loading failed, or gave neither a module nor weights.
    """
    if source.world_writable():
        raise RefusedError(
            f"refused: {source.name} may be changed by every user of this machine, "
            "so it cannot be trusted; run chmod o-w on it, check it, and try again"
        )
    source.handle.seek(0)
    try:
        with working_directory_first():
            value = torch.load(source.handle, map_location="cpu", weights_only=False)
    except (Exception, SystemExit) as error:  # the file's own code runs, and may raise anything
        raise LoadError(
            f"{source.name} cannot be loaded: {type(error).__name__}: {show(error, 300)}"
        ) from error
    found = find_weights(value, _is_tensor, _is_module)
    if found is None:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise LoadError(f"{source.name} holds {show(kind)}, neither a torch module nor weights")
    kind, inner = found
    return kind, inner if isinstance(inner, nn.Module) else _weights(inner)


def _weights(table: Mapping[str, Any]) -> Weights:
    return Weights({k: v.detach() for k, v in table.items() if isinstance(v, torch.Tensor)})


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _is_module(value: object) -> bool:
    return isinstance(value, nn.Module)
