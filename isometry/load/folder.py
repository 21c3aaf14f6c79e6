"""Models that take more than one file: folders, and the files that lead to others."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from isometry.errors import LoadError
from isometry.load.dcp import ShardedCheckpoint
from isometry.load.huggingface import read_huggingface
from isometry.load.manifest import Manifest
from isometry.load.refusals import refusal
from isometry.load.sharded import count_tensors, read_shards, safetensors_in
from isometry.load.sniff import Format
from isometry.load.weights import Weights, put_weights, weights_only
from isometry.load.wording import show

SEVERAL = (Format.HF_CONFIG, Format.SHARD_INDEX)
"""Files that are read together with others of their folder."""

_Parts = tuple[str, nn.Module, tuple[str, ...], tuple[str, ...]]  # kind, module, classes, notes


def read_folder(
    path: str | os.PathLike[str],
    found: Format,
    model: nn.Module | None,
    manifest: Manifest,
    *,
    seed: int = 0,
) -> _Parts:
    """Read a model from a folder, or from a file of `SEVERAL`.

    Parameters
    ----------
    path : path
        The folder or the file.
    found : Format
        What it is.
    model : torch.nn.Module, optional
        A model whose weights are replaced.
    manifest : Manifest
        Takes note of every file read.
    seed : int
        For weights that no file holds.

    Raises
    ------
    RefusedError
        Reading it could do harm.
    LoadError
        It is damaged, of another format, or does not fit `model`.
    """
    where = Path(os.fspath(path))
    name = show(where.name or where)
    if found is Format.DCP_FOLDER:
        return _sharded(ShardedCheckpoint(where, manifest), model)
    if found in (Format.HF_FOLDER, Format.HF_CONFIG) and model is None:
        return _huggingface(where, found, manifest, seed)
    files = [where] if found is Format.SHARD_INDEX else []
    if found in (Format.HF_FOLDER, Format.FOLDER):
        files = safetensors_in(where)
    if found is Format.HF_CONFIG:
        raise LoadError(f"{name} is a config without weights; give the folder that has both")
    if not files:
        raise refusal(name, found)
    one = len(files) == 1 and files[0].suffix != ".json"
    kind = "safetensors" if one else "sharded safetensors"
    if model is None:
        raise weights_only(name, kind, count_tensors(files))
    return kind, model, (), put_weights(model, Weights(read_shards(files, manifest)), name)


def _huggingface(where: Path, found: Format, manifest: Manifest, seed: int) -> _Parts:
    folder = where if found is Format.HF_FOLDER else None
    config = where / "config.json" if folder is not None else where
    module, notes = read_huggingface(config, folder, manifest, seed=seed)
    classes = {type(m): None for m in module.modules()}
    names = tuple(f"{cls.__module__}.{cls.__qualname__}" for cls in classes)
    return found.value, module, names, notes


def _sharded(checkpoint: ShardedCheckpoint, model: nn.Module | None) -> _Parts:
    if model is None:
        kind, names = checkpoint.found()
        raise weights_only(checkpoint.name, kind, len(names))
    kind, weights = checkpoint.weights()
    return kind, model, (), put_weights(model, weights, checkpoint.name)
