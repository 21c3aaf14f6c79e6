"""safetensors: a JSON header and the bytes of the tensors, nothing else."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import torch

from isometry.errors import LoadError, RefusedError
from isometry.load.source import Source
from isometry.load.tensors import MAX_TENSORS
from isometry.load.wording import amount, show

# A header takes about 100 bytes per tensor, and ten times that once it is parsed.
_MAX_HEADER = 25 << 20
_METADATA = "__metadata__"
_MAX_DIMS = 64
_AGAIN = "fetch it again"

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


class SafeTensors:
    """The tensors of a safetensors file, by name; each is read when asked for.

    Raises
    ------
    LoadError
        The header is damaged, or does not account for every byte of the file.
    """

    def __init__(self, source: Source) -> None:
        """Read and check the header."""
        self._source = source
        length = int.from_bytes(source.read(8), "little")
        if length > min(_MAX_HEADER, source.size - 8):
            raise RefusedError(f"refused: {source.name} claims a header of {amount(length)}")
        self._start = 8 + length
        self._entries: dict[str, tuple[torch.dtype, tuple[int, ...], int, int]] = {}
        for name, entry in self._header(source.read(length, 8)).items():
            if name != _METADATA:
                self._entries[name] = self._entry(name, entry)
        if len(self._entries) > MAX_TENSORS:
            raise RefusedError(f"refused: {source.name} has more than {MAX_TENSORS} tensors")
        self._check_layout()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor."""
        return {name: entry[1] for name, entry in self._entries.items()}

    def dtypes(self) -> dict[str, torch.dtype]:
        """Return the element type of every tensor."""
        return {name: entry[0] for name, entry in self._entries.items()}

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor."""
        dtype, shape, begin, end = self._entries[name]
        data = torch.empty(end - begin, dtype=torch.uint8)
        self._source.handle.seek(self._start + begin)
        # One read may return less than it is asked for; the file may have shrunk.
        if data.numel() and self._source.handle.readinto(data.numpy()) != data.numel():  # type: ignore[attr-defined]
            raise LoadError(f"{self._source.name} changed while it was being read; try again")
        tensor = torch.empty(0, dtype=dtype)
        return tensor.set_(data.untyped_storage(), 0, shape, _contiguous(shape))

    def read_all(self) -> dict[str, torch.Tensor]:
        """Return every tensor."""
        return {name: self.read(name) for name in self._entries}

    def _header(self, text: bytes) -> dict[str, Any]:
        try:
            header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            raise LoadError(
                f"{self._source.name} is damaged: its header cannot be read ({show(error)}); "
                f"{_AGAIN}"
            ) from error
        if type(header) is not dict or sys.byteorder != "little":
            raise LoadError(f"{self._source.name} cannot be read: its header is no table; {_AGAIN}")
        return header

    def _entry(self, name: str, entry: Any) -> tuple[torch.dtype, tuple[int, ...], int, int]:
        match entry:
            case {"dtype": str(kind), "shape": list(shape), "data_offsets": [begin, end]}:
                dtype = _DTYPES.get(kind)
                plain = all(type(n) is int and 0 <= n < 1 << 62 for n in (*shape, begin, end))
                if dtype is None:
                    raise LoadError(
                        f"{self._source.name} holds {show(name)} in {show(kind)}, which is not "
                        "read; save it in F32"
                    )
                plain &= len(shape) <= _MAX_DIMS
                if plain and math.prod(shape) * dtype.itemsize == end - begin:
                    return dtype, tuple(shape), begin, end
        raise LoadError(
            f"{self._source.name} is damaged: the entry of {show(name)} makes no sense; {_AGAIN}"
        )

    def _check_layout(self) -> None:
        end = 0
        for _, _, begin, stop in sorted(self._entries.values(), key=lambda e: (e[2], e[3])):
            if begin != end:
                raise LoadError(
                    f"{self._source.name} is damaged: tensors overlap or leave holes; {_AGAIN}"
                )
            end = stop
        held = self._source.size - self._start
        if end > held:
            raise LoadError(
                f"{self._source.name} is cut off: its tensors take {amount(end)}, it has "
                f"{amount(held)}; {_AGAIN}"
            )
        if end < held:
            raise LoadError(
                f"{self._source.name} is damaged: bytes are left after its tensors; {_AGAIN}"
            )


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    return tuple(reversed(strides)) if shape else ()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name is given twice")
    return table
