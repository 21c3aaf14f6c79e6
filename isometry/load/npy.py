"""NumPy arrays, alone (.npy) or several in a zip (.npz); never a pickle."""

from __future__ import annotations

import io
import math

import numpy as np

from isometry.errors import LoadError, RefusedError
from isometry.load.archive import Archive
from isometry.load.source import Source
from isometry.load.wording import amount, show

MAX_BYTES = 512 << 20
"""The largest array that is read, in bytes."""

_MAX_HEADER = 10_000
_MAGIC_AND_LENGTH = 12
# What NumPy raises on a header that makes no sense; it evaluates literals only.
_HEADER_ERRORS = (
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
    MemoryError,
)


def read_npy(source: Source) -> np.ndarray:
    """Return the array of an open .npy file."""
    if source.size > MAX_BYTES + _MAX_HEADER:
        raise LoadError(f"{source.name} has {amount(source.size)}; at most {amount(MAX_BYTES)}")
    return parse_npy(bytearray(source.read(source.size)), source.name)


class Npz:
    """The arrays of an open .npz file; each is read when asked for."""

    def __init__(self, source: Source) -> None:
        self._name = source.name
        self._archive = Archive(source, deflate=True)
        self._members = {
            name.removesuffix(".npy"): name
            for name in self._archive.names()
            if name.endswith(".npy")
        }

    def keys(self) -> list[str]:
        """Return the names of the arrays."""
        return list(self._members)

    def read(self, key: str) -> np.ndarray:
        """Return one array."""
        member = self._members[key]
        size = self._archive.size(member)
        if size > MAX_BYTES:
            raise RefusedError(
                f"refused: {show(member)} in {self._name} claims {amount(size)}; "
                f"at most {amount(MAX_BYTES)} are read"
            )
        return parse_npy(self._archive.read(member), f"{show(member)} in {self._name}")


def parse_npy(data: bytearray, name: str) -> np.ndarray:
    """Return the array in the bytes of a .npy file; `name` is for messages."""
    shape, fortran, dtype, start = _header(data, name)
    if dtype.hasobject:
        raise RefusedError(f"refused: {name} holds Python objects, which are a pickle")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise LoadError(f"{name} has elements of type {show(dtype)}; numbers are read")
    if len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
        raise LoadError(f"{name} has a shape that makes no sense")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(data) - start:
        raise LoadError(
            f"{name} is damaged: its shape {show(shape)} takes {amount(claimed)}, and it has "
            f"{amount(len(data) - start)}"
        )
    try:
        flat = np.frombuffer(data, dtype=dtype, offset=start, count=math.prod(shape))
        array = flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError) as error:  # an empty array of impossible length
        raise LoadError(f"{name} cannot be read: {show(error)}") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(data: bytearray, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    # Only the head goes through NumPy, so that a claimed length cannot reach further.
    head = io.BytesIO(bytes(data[: _MAX_HEADER + _MAGIC_AND_LENGTH]))
    try:
        version = np.lib.format.read_magic(head)
        if version == (1, 0):
            read = np.lib.format.read_array_header_1_0
        elif version == (2, 0):
            read = np.lib.format.read_array_header_2_0
        else:
            raise ValueError(f"version {version} is not read")
        shape, fortran, dtype = read(head, max_header_size=_MAX_HEADER)
    except _HEADER_ERRORS as error:
        raise LoadError(f"{name} is damaged: {show(error)}") from error
    return shape, fortran, dtype, head.tell()
