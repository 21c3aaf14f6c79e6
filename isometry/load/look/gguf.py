"""GGUF: quantised models of llama.cpp; what the header says."""

from __future__ import annotations

import math

from isometry.errors import LoadError
from isometry.load.look.cursor import Cursor
from isometry.load.look.findings import Findings
from isometry.load.source import Source

_SHOWN = ("general.architecture", "general.name", "general.license")
_MAX_DIMS = 8
# The width of each plain type of value, in bytes; None for text and lists.
_WIDTHS = (1, 1, 2, 2, 4, 4, 4, 1, None, None, 8, 8, 8)
_TEXT, _LIST = 8, 9
# The name and the bits per number of each tensor type.
_TYPES = {
    0: ("F32", 32), 1: ("F16", 16), 2: ("Q4_0", 4.5), 3: ("Q4_1", 5), 6: ("Q5_0", 5.5),
    7: ("Q5_1", 6), 8: ("Q8_0", 8.5), 10: ("Q2_K", 2.625), 11: ("Q3_K", 3.4375),
    12: ("Q4_K", 4.5), 13: ("Q5_K", 5.5), 14: ("Q6_K", 6.5625), 24: ("I8", 8), 25: ("I16", 16),
    26: ("I32", 32), 27: ("I64", 64), 28: ("F64", 64), 30: ("BF16", 16),
}  # fmt: skip


def look_gguf(source: Source, found: Findings) -> None:
    """Look at the header of a GGUF file."""
    cursor = Cursor(source, 4)
    version, tensors, entries = cursor.numbers("<IQQ")
    found.fact("version", version)
    for _ in range(entries):
        key, value = _text(cursor), _value(cursor)
        if key in _SHOWN:
            found.fact(key, value)
    for _ in range(tensors):
        name = _text(cursor)
        (rank,) = cursor.numbers("<I")
        if rank > _MAX_DIMS:
            raise LoadError(f"{name} has {rank} dimensions, which makes no sense")
        shape = tuple(reversed(cursor.numbers(f"<{rank}Q")))
        kind, _ = cursor.numbers("<IQ")
        words, bits = _TYPES.get(kind, (f"type {kind}", 0))
        found.tensor(name, shape, words, int(math.prod(shape) * int(bits * 64)) // 512)


def _text(cursor: Cursor) -> str:
    return cursor.text(*cursor.numbers("<Q"))


def _value(cursor: Cursor) -> str:
    (kind,) = cursor.numbers("<I")
    if kind == _TEXT:
        return _text(cursor)
    if kind != _LIST:
        cursor.skip(_width(kind))
        return "a number"
    kind, count = cursor.numbers("<IQ")
    if kind != _TEXT:
        cursor.skip(count * _width(kind))
    else:
        for _ in range(count):
            _text(cursor)
    return f"{count} values"


def _width(kind: int) -> int:
    width = _WIDTHS[kind] if kind < len(_WIDTHS) else None
    if width is None:
        raise LoadError(f"has a value of type {kind}, which makes no sense")
    return width
