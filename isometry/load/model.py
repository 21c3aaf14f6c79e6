"""A path, read into a torch module."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from isometry.load.checkpoint import Checkpoint
from isometry.load.refusals import refusal
from isometry.load.safetensors import SafeTensors
from isometry.load.sniff import Format, recognise, sniff_folder
from isometry.load.source import Source, opened
from isometry.load.trusted import load_trusted
from isometry.load.weights import Weights, check_has_values, put_weights, weights_only
from isometry.load.wording import listing, show

_Parts = tuple[str, nn.Module, tuple[str, ...], tuple[str, ...]]  # kind, module, classes, notes


@dataclass(frozen=True)
class Loaded:
    """A model and where it came from.

    Attributes
    ----------
    module : torch.nn.Module
        On the CPU; training flags as they were saved.
    kind : str
        What the file is: "whole module", "state dict",
        "training checkpoint (key 'model_state_dict')", "safetensors".
    sha256 : str
        Of the file, in hexadecimal.
    size : int
        Of the file, in bytes.
    classes : tuple of str
        The classes rebuilt from the file; empty where it gave weights only.
    notes : tuple of str
        What the user should know: prefixes dropped, types converted, code trusted.
    """

    module: nn.Module
    kind: str
    sha256: str
    size: int
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_model(
    path: str | os.PathLike[str], *, model: nn.Module | None = None, trust: bool = False
) -> Loaded:
    """Read a model from a file; nothing in the file is run unless `trust` says so.

    Parameters
    ----------
    path : path
        A torch.save or a safetensors file; what it is follows from its bytes.
    model : torch.nn.Module, optional
        A model built before, whose weights the file replaces. Every name and shape must
        match; on an error the model is as it was.
    trust : bool
        Run the file's own code, for a file that the user vouches for. Never the default,
        and never tried after the safe way failed.

    Returns
    -------
    Loaded
        The module, rebuilt from stock torch.nn layers, or `model` itself.

    Raises
    ------
    RefusedError
        The file was understood, and reading it could do harm.
    LoadError
        It is missing, damaged, of another format, or does not fit `model`.
    """
    folder = sniff_folder(path)
    if folder is not None:
        raise refusal(show(Path(path).name or path), folder)
    with opened(path) as source:
        found = recognise(source)
        reader = _reader(source, found, trust)
        sha256 = source.sha256()
        kind, module, classes, notes = reader(source, model)
        if trust and found in (Format.TORCH, Format.TORCH_LEGACY):
            notes = (f"the code in {source.name} was run on your word (sha256 {sha256})", *notes)
        source.check_unchanged()
        return Loaded(module, kind, sha256, source.size, classes, notes)


def _reader(
    source: Source, found: Format, trust: bool
) -> Callable[[Source, nn.Module | None], _Parts]:
    if trust and found in (Format.TORCH, Format.TORCH_LEGACY):
        return _trusted
    if found is Format.TORCH:
        return _torch
    if found is Format.SAFETENSORS:
        return _safetensors
    raise refusal(source.name, found, source.size)


def _torch(source: Source, model: nn.Module | None) -> _Parts:
    checkpoint = Checkpoint(source)
    if model is None:
        kind, module, classes = checkpoint.module()
        return kind, module, classes, ()
    kind, weights = checkpoint.weights()
    notes = put_weights(model, weights, source.name)
    ignored = checkpoint.ignored()
    if ignored:
        notes = (*notes, f"not read, only named in the file: {listing(ignored)}")
    return kind, model, (), notes


def _safetensors(source: Source, model: nn.Module | None) -> _Parts:
    tensors = SafeTensors(source)
    if model is None:
        raise weights_only(source.name, "safetensors", len(tensors.shapes()))
    notes = put_weights(model, Weights(tensors.read_all()), source.name)
    return "safetensors", model, (), notes


def _trusted(source: Source, model: nn.Module | None) -> _Parts:
    kind, found = load_trusted(source)
    if isinstance(found, nn.Module) and model is None:
        check_has_values(found, source.name)
        classes = {f"{type(m).__module__}.{type(m).__qualname__}": None for m in found.modules()}
        return kind, found, tuple(classes), ()
    if isinstance(found, nn.Module):
        found = Weights(dict(found.state_dict()))
    if model is None:
        raise weights_only(source.name, kind, len(found.tensors))
    return kind, model, (), put_weights(model, found, source.name)
