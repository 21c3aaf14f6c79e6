"""Arrays: NumPy's two formats, and safetensors."""

from __future__ import annotations

import math
from pathlib import PurePosixPath

from isometry.errors import LoadError
from isometry.load.archive import directory
from isometry.load.look.findings import Findings
from isometry.load.look.members import look_members
from isometry.load.npy import MAX_HEADER, npy_outline
from isometry.load.safetensors import SafeTensors
from isometry.load.source import Source
from isometry.load.wording import show


def look_safetensors(source: Source, found: Findings) -> None:
    """Look at the header of a safetensors file."""
    found.kind = "weights"
    tensors = SafeTensors(source)
    dtypes = tensors.dtypes()
    for name, shape in tensors.shapes().items():
        size = math.prod(shape) * dtypes[name].itemsize
        found.tensor(show(name), shape, dtypes[name], size)


def look_npy(source: Source, found: Findings) -> None:
    """Look at the header of a .npy file."""
    found.kind = "array"
    _look_header(source.read(MAX_HEADER), source.name, found)


def look_npz(source: Source, found: Findings) -> None:
    """Look at the headers of the arrays in a .npz file."""
    found.kind = "arrays"
    look_members(source, found, deflate=True)
    archive = directory(source)
    for name in archive.namelist():
        if PurePosixPath(name).suffix == ".npy":
            with archive.open(name) as member:
                _look_header(member.read(MAX_HEADER), show(name.removesuffix(".npy")), found)


def _look_header(head: bytes, name: str, found: Findings) -> None:
    try:
        shape, dtype = npy_outline(head, name)
    except LoadError as error:
        found.danger(str(error).removeprefix("refused: "))
        return
    found.tensor(name, shape, str(dtype), math.prod(shape) * dtype.itemsize)
