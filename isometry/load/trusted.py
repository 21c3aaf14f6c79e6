"""Files that the user vouches for: their code is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load.exported import open_exported
from isometry.load.factory import working_directory_first
from isometry.load.scripted import NOTE, open_script, script_classes
from isometry.load.sniff import Format
from isometry.load.source import Source
from isometry.load.weights import Weights, find_weights
from isometry.load.wording import show


@dataclass(frozen=True)
class Vouched:
    """What running a file gave.

    Attributes
    ----------
    kind : str
        "whole module", "state dict", "TorchScript", "torch.export program", …
    held : torch.nn.Module or Weights
        The model, or weights without one.
    classes : tuple of str
        The classes of its modules.
    notes : tuple of str
        What the user should know.
    """

    kind: str
    held: nn.Module | Weights
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_trusted(source: Source, found: Format) -> Vouched:
    """Load a file by running it; `found` says what it is, one of `RUNNABLE`.

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
            return _OPENERS[found](source)
    except LoadError:
        raise
    except (Exception, SystemExit) as error:  # the file's own code runs, and may raise anything
        raise LoadError(
            f"{source.name} cannot be loaded: {type(error).__name__}: {show(error, 300)}; "
            "save it again with the torch that you have, or pass --model pkg.module:factory"
        ) from error


def _open_pickle(source: Source) -> Vouched:
    value = torch.load(source.handle, map_location="cpu", weights_only=False)
    found = find_weights(value, _is_tensor, _is_module)
    if found is None:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise LoadError(
            f"{source.name} holds {show(kind)}, neither a torch module nor weights; "
            "pass --model pkg.module:factory"
        )
    kind, inner = found
    if isinstance(inner, nn.Module):
        return Vouched(kind, inner, tuple({_class_name(m): None for m in inner.modules()}))
    return Vouched(kind, _weights(inner))


def _open_script(source: Source) -> Vouched:
    module = open_script(source)
    return Vouched("TorchScript", module, script_classes(module), (NOTE,))


def _open_exported(source: Source) -> Vouched:
    module, note = open_exported(source)
    return Vouched("torch.export program", module, (), (note,))


_OPENERS: dict[Format, Callable[[Source], Vouched]] = {
    Format.TORCH: _open_pickle,
    Format.TORCH_LEGACY: _open_pickle,
    Format.TORCHSCRIPT: _open_script,
    Format.EXPORT: _open_exported,
}
RUNNABLE = frozenset(_OPENERS)
"""Formats that are run when the user says so."""


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _weights(table: Mapping[str, Any]) -> Weights:
    return Weights({k: v.detach() for k, v in table.items() if isinstance(v, torch.Tensor)})


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _is_module(value: object) -> bool:
    return isinstance(value, nn.Module)
