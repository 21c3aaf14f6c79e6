"""A path, read into a torch module."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from isometry.load.checkpoint import Checkpoint
from isometry.load.folder import SEVERAL, read_folder
from isometry.load.manifest import Manifest
from isometry.load.refusals import check_exists, refusal_of
from isometry.load.safetensors import SafeTensors
from isometry.load.sniff import Format, recognise, sniff_folder
from isometry.load.source import Source, opened
from isometry.load.trusted import RUNNABLE, load_trusted
from isometry.load.weights import Weights, check_has_values, put_weights, weights_only
from isometry.load.wording import listing

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
        "training checkpoint (key 'model_state_dict')", "safetensors", "Hugging Face config".
    sha256 : str
        Of the file, in hexadecimal; of several files, that of the sorted list of theirs.
    size : int
        Of the file, in bytes; of several files, their sum.
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
    path: str | os.PathLike[str],
    *,
    model: nn.Module | None = None,
    trust: bool = False,
    seed: int = 0,
) -> Loaded:
    """Read a model from a file or a folder; nothing in it is run unless `trust` says so.

    Parameters
    ----------
    path : path
        A torch.save or a safetensors file, a Hugging Face folder or its config.json, a folder
        or an index of safetensors, or a sharded torch checkpoint; what it is follows from
        its bytes.
    model : torch.nn.Module, optional
        A model built before, whose weights the file replaces. Every name and shape must
        match; on an error the model is as it was.
    trust : bool
        Run the file's own code, for a file that the user vouches for. Never the default,
        and never tried after the safe way failed.
    seed : int
        For weights that no file holds: a Hugging Face config alone is a model at its
        initialisation.

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
    check_exists(path)
    folder = sniff_folder(path)
    if folder is not None:
        return _several(path, folder, model, seed)
    with opened(path) as source:
        found = recognise(source)
        if found in SEVERAL:
            return _several(path, found, model, seed)
        reader = _reader(source, found, trust)
        sha256 = source.sha256()
        kind, module, classes, notes = reader(source, model)
        if trust and found in RUNNABLE:
            notes = (f"the code in {source.name} was run on your word (sha256 {sha256})", *notes)
        source.check_unchanged()
        return Loaded(module, kind, sha256, source.size, classes, notes)


def _several(
    path: str | os.PathLike[str], found: Format, model: nn.Module | None, seed: int
) -> Loaded:
    manifest = Manifest()
    kind, module, classes, notes = read_folder(path, found, model, manifest, seed=seed)
    return Loaded(module, kind, manifest.sha256, manifest.size, classes, notes)


def _reader(
    source: Source, found: Format, trust: bool
) -> Callable[[Source, nn.Module | None], _Parts]:
    if trust and found in RUNNABLE:
        return functools.partial(_trusted, found)
    if found is Format.TORCH:
        return _torch
    if found is Format.SAFETENSORS:
        return _safetensors
    raise refusal_of(source, found)


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


def _trusted(found: Format, source: Source, model: nn.Module | None) -> _Parts:
    vouched = load_trusted(source, found)
    held = vouched.held
    if isinstance(held, nn.Module) and model is None:
        check_has_values(held, source.name)
        return vouched.kind, held, vouched.classes, vouched.notes
    if isinstance(held, nn.Module):
        held = Weights(dict(held.state_dict()))
    if model is None:
        raise weights_only(source.name, vouched.kind, len(held.tensors))
    return vouched.kind, model, (), put_weights(model, held, source.name)
