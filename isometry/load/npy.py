"""NumPy arrays, alone (.npy) or several in a zip (.npz); never a pickle."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from isometry.errors import LoadError, RefusedError
from isometry.load.archive import Archive
from isometry.load.source import Source
from isometry.load.wording import amount, show

MAX_BYTES = 512 << 20
"""The largest array that is read, in bytes."""

MAX_HEADER = 10_000
# The header is a Python literal; only what NumPy writes for plain arrays is understood, and
# no parser of Python ever sees it.
_HEADER = re.compile(
    r"\{\s*((?:'\w+'\s*:\s*(?:'[^']*'|\w+|\([\d, L]*\))\s*(?:,\s*)?){3})\}\s*", re.ASCII
)
_ENTRY = re.compile(r"'(\w+)'\s*:\s*('[^']*'|\w+|\([\d, L]*\))", re.ASCII)
_DTYPE = re.compile(r"'([<>|=]?)([biufcOSUVmM])(\d{0,3})(?:\[\w+\])?'", re.ASCII)
_MAX_DIMS = 32
_AGAIN = "fetch it again, or save it as np.save(path, array) does"


def read_npy(source: Source) -> np.ndarray:
    """Return the array of an open .npy file."""
    if source.size > MAX_BYTES + MAX_HEADER:
        raise LoadError(f"{source.name} has {amount(source.size)}; at most {amount(MAX_BYTES)}")
    return parse_npy(bytearray(source.read(source.size)), source.name)


class Npz:
    """The arrays of an open .npz file; each is read when asked for."""

    def __init__(self, source: Source) -> None:
        """Screen the directory of an open archive."""
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


def npy_outline(head: bytes, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the element type of an array, from the start of its file."""
    shape, _, dtype, _ = _header(bytearray(head[:MAX_HEADER]), name)
    return shape, dtype


def parse_npy(data: bytearray, name: str) -> np.ndarray:
    """Return the array in the bytes of a .npy file; `name` is for messages."""
    shape, fortran, dtype, start = _header(data, name)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(data) - start:
        raise LoadError(
            f"{name} is damaged: its shape {show(shape)} takes {amount(claimed)}, and it has "
            f"{amount(len(data) - start)}; {_AGAIN}"
        )
    try:
        flat = np.frombuffer(data, dtype=dtype, offset=start, count=math.prod(shape))
        array = flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError) as error:  # an empty array of impossible length
        raise LoadError(f"{name} cannot be read: {show(error)}") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(data: bytearray, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    wide = 4 if data[6:7] >= b"\x02" else 2  # bytes of the header's length
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    if data[:6] != b"\x93NUMPY" or start > min(len(data), MAX_HEADER):
        raise LoadError(
            f"{name} is damaged: it has no header of a NumPy array, or half of one; {_AGAIN}"
        )
    text = data[8 + wide : start].decode("latin-1")
    whole = _HEADER.fullmatch(text)
    entries = dict(_ENTRY.findall(whole[1])) if whole else {}
    if entries.keys() != {"descr", "fortran_order", "shape"}:
        if "'descr'" in text and "[" in text:
            raise LoadError(
                f"{name} has elements of several fields, expected plain numbers; save one field, "
                "as array['name']"
            )
        raise LoadError(f"{name} is damaged: its header makes no sense; {_AGAIN}")
    return (
        _shape(entries["shape"], name),
        entries["fortran_order"] == "True",
        _dtype(entries["descr"], name),
        start,
    )


def _shape(text: str, name: str) -> tuple[int, ...]:
    parts = [part.strip(" L") for part in text.strip("()").split(",")]
    parts = parts[:-1] if parts[-1] == "" else parts
    plain = all(part.isdigit() and len(part) < 19 for part in parts)
    if not text.startswith("(") or not plain or len(parts) > _MAX_DIMS:
        raise LoadError(f"{name} has a shape that makes no sense; {_AGAIN}")
    return tuple(int(part) for part in parts)


def _dtype(text: str, name: str) -> np.dtype[Any]:
    form = _DTYPE.fullmatch(text)
    if form is not None and form[2] == "O":
        raise RefusedError(
            f"refused: {name} holds Python objects, which are a pickle; save plain numbers, as "
            "np.save(path, array.astype(float)) does"
        )
    known = {"b": "1", "i": "1 2 4 8", "u": "1 2 4 8", "f": "2 4 8"}
    if form is None or form[3] not in known.get(form[2], "").split():
        raise LoadError(
            f"{name} has elements of type {show(text)}, expected plain numbers; save "
            "array.astype(float), of complex ones real and imaginary parts as two channels"
        )
    return np.dtype(f"{form[1] or '='}{form[2]}{form[3]}")
