"""A path, read into an input array."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from isometry.errors import LoadError
from isometry.load.checkpoint import Checkpoint
from isometry.load.images import read_image
from isometry.load.npy import MAX_BYTES, Npz, read_npy
from isometry.load.refusals import refusal_of
from isometry.load.safetensors import SafeTensors
from isometry.load.sniff import Format, recognise, sniff_folder
from isometry.load.source import Source, opened
from isometry.load.table import read_table
from isometry.load.tensors import is_tensor
from isometry.load.wording import amount, listing, show

_USUAL = ("x", "X", "images", "data", "input", "inputs", "features")
_TABLES = (".csv", ".tsv", ".txt")
Note = Callable[[str], None]

_READ = ".npy, .npz, .pt with tensors, .safetensors, .csv, .tsv, .txt, .png, .jpg"


def load_array(
    path: str | os.PathLike[str], *, key: str | None = None, note: Note | None = None
) -> np.ndarray:
    """Read an input from a file; nothing in the file is run.

    Parameters
    ----------
    path : path
        A .npy, .npz, torch.save or safetensors file, numbers as text, or an image. What
        it is follows from its bytes; only text is told apart by the suffix.
    key : str, optional
        Which array, where the file holds several. Without it the only one is taken, or
        the first present of x, X, images, data, input, inputs, features.
    note : callable, optional
        Called with words where one of several arrays was taken without a `key`.

    Returns
    -------
    numpy.ndarray
        Of the shape and type stored; float64 (rows, columns) for text; float32 in [0, 1],
        (H, W) or (3, H, W), for images; bfloat16 and 8-bit floats become float32.

    Raises
    ------
    RefusedError
        The file was understood, and reading it could do harm.
    LoadError
        It is missing, damaged, of another format, or holds several arrays and no `key`
        was given.
    """
    folder = sniff_folder(path)
    if folder is not None:
        raise LoadError(f"{show(Path(path).name or path)} is a directory; name a file: {_READ}")
    with opened(path) as source:
        found = recognise(source)
        array = _read(source, found, key, note)
        source.check_unchanged()
        return array


def _read(source: Source, found: Format, key: str | None, note: Note | None) -> np.ndarray:
    if found is Format.NPZ:
        npz = Npz(source)
        return npz.read(_choose(npz.keys(), key, source.name, lambda k: npz.read(k).shape, note))
    if found is Format.SAFETENSORS:
        tensors = SafeTensors(source)
        shapes = tensors.shapes()
        chosen = _choose(list(shapes), key, source.name, shapes.__getitem__, note)
        return _numpy(tensors.read(chosen), source.name)
    if found is Format.TORCH:
        return _torch(source, key, note)
    if found is Format.NPY:
        return _only(read_npy(source), key, source.name)
    if found in (Format.PNG, Format.JPEG):
        return _only(read_image(source), key, source.name)
    if found is Format.TEXT and source.path.suffix.lower() in _TABLES:
        return _only(read_table(source), key, source.name)
    if found in (Format.TEXT, Format.UNKNOWN, Format.ZIP):
        raise LoadError(f"{source.name} is a {found.value}; as input are read: {_READ}")
    raise refusal_of(source, found)


def _torch(source: Source, key: str | None, note: Note | None) -> np.ndarray:
    checkpoint = Checkpoint(source)
    found = checkpoint.arrays()
    if is_tensor(found):
        if key is not None:
            raise LoadError(f"{source.name} holds one tensor, so there is no '{show(key)}'")
        return _numpy(checkpoint.tensors.build(found, "the tensor"), source.name)

    def build(name: str) -> torch.Tensor:
        return checkpoint.tensors.build(found[name], name)

    names = [name for name in found if is_tensor(found[name])]
    chosen = _choose(names, key, source.name, lambda k: tuple(build(k).shape), note)
    return _numpy(build(chosen), source.name)


def _choose(
    keys: list[str],
    key: str | None,
    name: str,
    shape: Callable[[str], tuple[int, ...]],
    note: Note | None,
) -> str:
    if key is not None and key in keys:
        return key
    if key is None and len(keys) == 1:
        return keys[0]
    usual = [k for k in _USUAL if k in keys]
    if key is None and usual:
        if note is not None:
            note(
                f"{name}: took {usual[0]!r} of {listing(keys, 8)}; another with "
                "--input-key (key=...)"
            )
        return usual[0]
    if not keys:
        raise LoadError(f"{name} holds no array; save the input, as np.save(path, x) does")
    # Shapes help to choose, and cost a read each where the array must be opened for it.
    known = [f"{show(k)} {_shape(shape, k)}" for k in keys[:8]] + keys[8:]
    why = f"has no '{show(key)}'" if key is not None else f"holds {len(keys)} arrays"
    raise LoadError(f"{name} {why}; pass --input-key (key=...) as one of: {listing(known, 8)}")


def _shape(shape: Callable[[str], tuple[int, ...]], key: str) -> str:
    try:
        return str(shape(key))
    except LoadError:
        return "(cannot be read)"


def _only(array: np.ndarray, key: str | None, name: str) -> np.ndarray:
    if key is not None:
        raise LoadError(f"{name} holds one array, so there is no '{show(key)}'")
    return array


def _numpy(tensor: torch.Tensor, name: str) -> np.ndarray:
    if tensor.is_complex():
        raise LoadError(f"{name} holds complex numbers; give their parts as two channels")
    if tensor.numel() * tensor.element_size() > MAX_BYTES:
        raise LoadError(f"{name} holds more than {amount(MAX_BYTES)}")
    plain = tensor.detach()
    if plain.dtype is torch.bfloat16 or str(plain.dtype).startswith("torch.float8"):
        plain = plain.to(torch.float32)
    return plain.contiguous().numpy()
