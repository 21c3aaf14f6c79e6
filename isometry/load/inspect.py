"""What a file or a folder is and holds, found out without loading it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isometry.errors import LoadError, RefusedError
from isometry.load.archive import ZIP_ERRORS
from isometry.load.checkpoint import Checkpoint
from isometry.load.look.arrays import look_npy, look_npz, look_safetensors
from isometry.load.look.findings import FileInfo, Findings, Name, Tensors, capped
from isometry.load.look.folders import files_in, look_folder
from isometry.load.look.gguf import look_gguf
from isometry.load.look.members import look_members
from isometry.load.look.onnx import look_onnx
from isometry.load.look.pickled import look_legacy, look_plain, look_torch
from isometry.load.look.programs import look_exported, look_torchscript
from isometry.load.outline import Outlines
from isometry.load.refusals import refusal, refusal_of
from isometry.load.sniff import Format, recognise, sniff_folder
from isometry.load.source import Source, opened
from isometry.load.weights import weights_only
from isometry.load.wording import show

SCHEMA_VERSION = 1
# Half a minute or so; a sparse file of any size costs its maker nothing.
_MAX_HASHED = 64 << 30

_PATIENCE = 60  # seconds, for all files of a folder

_LOOKS: dict[Format, Callable[[Source, Findings], None]] = {
    Format.TORCH: look_torch,
    Format.TORCH_LEGACY: look_legacy,
    Format.PICKLE: look_plain,
    Format.TORCHSCRIPT: look_torchscript,
    Format.EXPORT: look_exported,
    Format.SAFETENSORS: look_safetensors,
    Format.NPY: look_npy,
    Format.NPZ: look_npz,
    Format.GGUF: look_gguf,
    Format.ONNX: look_onnx,
    Format.ZIP: lambda source, found: look_members(source, found, deflate=True),
    Format.KERAS: lambda source, found: look_members(source, found, deflate=True),
}
_DANGERS = {
    Format.TORCH_TAR: "it holds pickles, which run whatever they ask for when they are opened",
    Format.COMPRESSED: "what is packed in it was not looked at",
    Format.KERAS: "its Lambda layers are code that Keras runs with safe_mode=False",
    Format.HDF5: "Lambda layers in it are code that Keras runs with safe_mode=False",
}


@dataclass(frozen=True)
class Inspection:
    """What was found; text from the file is safe to print.

    Attributes
    ----------
    name : str
        The file or folder.
    format : Format
        What it is, from its bytes.
    size : int
        In bytes; of all files of a folder.
    sha256 : str or None
        Of the file, in hexadecimal; None for a folder, and beyond 64 GB.
    kind : str
        What it holds, "whole module" or "state dict"; "" where that is not known.
    facts : tuple
        Pairs of words: what else it says of itself.
    names : tuple of Name
        What its pickles ask for.
    tensors : Tensors or None
        Their number, types and sizes, and the largest.
    members : tuple of str
        Members of an archive that no honest program writes.
    files : tuple of FileInfo
        Of a folder.
    dangers : tuple of str
        What could do harm, and by which way of opening it.
    by_default : str
        What `load_model` does with it, unless it is told to trust.
    """

    name: str
    format: Format
    size: int
    sha256: str | None
    kind: str
    facts: tuple[tuple[str, str], ...]
    names: tuple[Name, ...]
    tensors: Tensors | None
    members: tuple[str, ...]
    files: tuple[FileInfo, ...]
    dangers: tuple[str, ...]
    by_default: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "format": self.format.value}


def inspect(path: str | os.PathLike[str]) -> Inspection:
    """Look at a file or a folder; nothing in it is run, and no weight is read.

    Parameters
    ----------
    path : path
        Of whatever format.

    Returns
    -------
    Inspection
        Also of a file that is damaged or could do harm: that is said in it.

    Raises
    ------
    LoadError
        The path is missing or unreadable.
    """
    folder = sniff_folder(path)
    if folder is not None:
        return _inspect_folder(Path(os.fspath(path)), folder)
    with opened(path) as source:
        kind, found = _look(source)
        sha256 = source.sha256() if source.size <= _MAX_HASHED else None
        by_default = _by_default(source, kind, found)
        report = _report(source.name, kind, found, by_default)
        return Inspection(size=source.size, sha256=sha256, files=(), **report)


def _look(source: Source) -> tuple[Format, Findings]:
    found = Findings()
    try:
        kind = recognise(source)
    except LoadError as error:  # a directory of an archive that is too long to be read
        found.danger(str(error).removeprefix("refused: "))
        return Format.ZIP, found
    if kind in _DANGERS:
        found.danger(_DANGERS[kind])
    try:
        _LOOKS.get(kind, _look_no_further)(source, found)
    except (LoadError, *ZIP_ERRORS) as error:
        found.danger(f"it cannot be read to its end: {show(error, 200).removeprefix('refused: ')}")
    return kind, found


def _look_no_further(source: Source, found: Findings) -> None:
    pass


def _inspect_folder(folder: Path, kind: Format) -> Inspection:
    found, files = Findings(), []
    end = time.monotonic() + _PATIENCE
    for path in files_in(folder):
        name = show(path.relative_to(folder))
        if time.monotonic() > end:
            found.danger(f"{name} and what follows were not looked at: the others took too long")
            break
        try:
            with opened(path) as source:
                sort, inner = _look(source)
        except LoadError as error:
            found.danger(f"{name}: {error}")
            continue
        files.append(FileInfo(name, sort.value, source.size))
        for danger in inner.dangers:
            found.danger(f"{name}: {danger}")
        if sort is Format.SAFETENSORS:
            found.add_tensors(inner)
    look_folder(folder, files, found)
    name = show(folder.name or folder)
    report = _report(name, kind, found, _FOLDERS.get(kind) or str(refusal(name, kind)))
    size = sum(file.size for file in files)
    return Inspection(size=size, sha256=None, files=tuple(files), **report)


_FOLDERS = {
    Format.HF_FOLDER: "built from its config, filled from its safetensors; none of its code runs",
    Format.DCP_FOLDER: "weights only; pass --model pkg.module:factory to build their model",
}


def _report(name: str, kind: Format, found: Findings, by_default: str) -> dict[str, Any]:
    return {
        "name": name,
        "format": kind,
        "kind": show(found.kind),
        "facts": tuple((key, show(value)) for key, value in found.facts),
        "names": tuple(Name(show(n.name), n.sort, n.called) for n in found.names.values()),
        "tensors": found.tensors(),
        "members": tuple(found.members),
        "dangers": capped(found.dangers),
        "by_default": by_default,
    }


def _by_default(source: Source, kind: Format, found: Findings) -> str:
    """Return what `load_model` would say, found out on weights without values."""
    try:
        if kind is Format.TORCH:
            Checkpoint(source, tensors=Outlines).module()
            return "rebuilt from stock layers; nothing in it is run"
        if kind is Format.SAFETENSORS:
            raise weights_only(source.name, "safetensors", found.count)
        if kind is Format.HF_CONFIG:
            return "built from this config, at its initialisation"
        raise refusal_of(source, kind)
    except LoadError as error:
        # What only rebuilding finds: a method replaced, a hook, a class called with arguments.
        if kind is Format.TORCH and isinstance(error, RefusedError) and not found.dangers:
            found.danger(str(error).removeprefix("refused: "))
        return str(error)
