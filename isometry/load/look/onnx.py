"""ONNX: what the graph says, read field by field; the numbers are passed over."""

from __future__ import annotations

import math
from collections.abc import Iterator

from isometry.errors import LoadError
from isometry.load.look.cursor import Cursor
from isometry.load.look.findings import Findings
from isometry.load.source import Source

_MAX_DIMS = 64
_DTYPES = {
    1: ("float32", 4), 2: ("uint8", 1), 3: ("int8", 1), 4: ("uint16", 2), 5: ("int16", 2),
    6: ("int32", 4), 7: ("int64", 8), 8: ("string", 0), 9: ("bool", 1), 10: ("float16", 2),
    11: ("float64", 8), 12: ("uint32", 4), 13: ("uint64", 8), 16: ("bfloat16", 2),
}  # fmt: skip
# Fields of the messages, as onnx.proto numbers them.
_PRODUCER, _GRAPH, _OPSET = 2, 7, 8
_NODE, _INITIALIZER = 1, 5
_DIMS, _TYPE, _NAME, _OUTSIDE = 1, 2, 8, 13

_Span = range  # the bytes of a field that is no number


def look_onnx(source: Source, found: Findings) -> None:
    """Look at an ONNX model."""
    cursor = Cursor(source)
    for field, value in _fields(cursor, range(source.size)):
        if type(value) is not range:
            continue
        if field == _PRODUCER:
            found.fact("producer", _text(cursor, value))
        elif field == _OPSET:
            found.fact("opset", dict(_fields(cursor, value)).get(2, "unknown"))
        elif field == _GRAPH:
            _look_graph(cursor, value, found)


def _look_graph(cursor: Cursor, span: _Span, found: Findings) -> None:
    nodes = 0
    for field, value in _fields(cursor, span):
        nodes += field == _NODE
        if field == _INITIALIZER and type(value) is range:
            _look_tensor(cursor, value, found)
    found.fact("nodes", nodes)


def _look_tensor(cursor: Cursor, span: _Span, found: Findings) -> None:
    shape: list[int] = []
    name, dtype = "", 0
    for field, value in _fields(cursor, span):
        if field == _DIMS:
            shape += _dims(cursor, value)
        elif field == _TYPE and type(value) is int:
            dtype = value
        elif field == _NAME and type(value) is range:
            name = _text(cursor, value)
        elif field == _OUTSIDE and type(value) is range:
            _look_outside(cursor, value, found)
    if len(shape) > _MAX_DIMS:
        raise LoadError(f"{name} has {len(shape)} dimensions, which makes no sense")
    words, width = _DTYPES.get(dtype, (f"type {dtype}", 0))
    found.tensor(name, tuple(shape), words, math.prod(shape) * width)


def _look_outside(cursor: Cursor, span: _Span, found: Findings) -> None:
    """Look at numbers that stand in another file, which should be a neighbour."""
    entry = {f: _text(cursor, v) for f, v in _fields(cursor, span) if type(v) is range}
    place = entry.get(2, "") if entry.get(1) == "location" else ""
    if place.startswith(("/", "\\")) or ".." in place or ":" in place:
        found.danger(f"wants numbers from {place}, outside of its folder")


def _dims(cursor: Cursor, value: int | _Span) -> list[int]:
    if isinstance(value, int):
        return [value]
    numbers: list[int] = []
    cursor.at = value.start
    while cursor.at < value.stop and len(numbers) <= _MAX_DIMS:
        numbers.append(cursor.varint())
    cursor.at = value.stop
    return numbers


def _text(cursor: Cursor, span: _Span) -> str:
    cursor.at = span.start
    return cursor.text(len(span))


def _fields(cursor: Cursor, span: _Span) -> Iterator[tuple[int, int | _Span]]:
    """Yield the fields of a message: a number, or where the bytes of anything else stand."""
    at = span.start
    while at < span.stop:
        cursor.at = at
        tag = cursor.varint()
        if tag & 7 == 0:
            value: int | _Span = cursor.varint()
        elif tag & 7 in (1, 2, 5):
            length = {1: 8, 5: 4}.get(tag & 7) or cursor.varint()
            value = range(cursor.at, cursor.at + length)
            cursor.skip(length)
        else:
            raise LoadError(f"makes no sense at byte {at}")
        at = cursor.at
        yield tag >> 3, value
