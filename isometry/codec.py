"""Frozen records to plain JSON types and back, without loss.

Numbers that JSON lacks are written as the strings "nan", "inf" and "-inf".
"""

from __future__ import annotations

import contextlib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from isometry.errors import InputError, LoadError

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Turn records, tuples and arrays into dictionaries and lists."""
    if is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return [encode(v) for v in value.tolist()]
    if isinstance(value, (tuple, list)):
        return [encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def decode(kind: type[T], data: Any) -> T:
    """Rebuild a record of type `kind`; raises `LoadError` naming the place that does not fit."""
    return typing.cast(T, _decode(kind, data, "report"))


def _decode(kind: Any, data: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _decode_record(kind, data, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = next(a for a in arguments if a is not type(None))
        return None if data is None else _decode(inner, data, where)
    if origin is tuple:
        return _decode_tuple(arguments, data, where)
    if origin is np.ndarray:
        return np.array([_decode(float, v, where) for v in _list(data, where)])
    if kind is float and isinstance(data, str) and data in ("nan", "inf", "-inf"):
        return float(data)
    if kind is float and isinstance(data, (int, float)) and not isinstance(data, bool):
        with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
            return float(data)
    if kind in (int, str, bool) and type(data) is kind:
        return data
    raise LoadError(f"the report is damaged: {where} should be {kind.__name__}, got {data!r:.60}")


def _decode_record(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise LoadError(f"the report is damaged: {where} should be an object, got {data!r:.60}")
    hints = typing.get_type_hints(kind)
    values = {}
    for f in fields(kind):
        if f.name in data:
            values[f.name] = _decode(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is MISSING:
            raise LoadError(f"the report is damaged: {where}.{f.name} is missing")
    try:
        return kind(**values)
    except InputError as e:
        raise LoadError(f"the report is damaged: {where}: {e}") from e


def _decode_tuple(arguments: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    items = _list(data, where)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_decode(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(items))
    if len(items) != len(arguments):
        raise LoadError(f"the report is damaged: {where} should have {len(arguments)} entries")
    return tuple(
        _decode(a, v, f"{where}[{i}]")
        for i, (a, v) in enumerate(zip(arguments, items, strict=True))
    )


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise LoadError(f"the report is damaged: {where} should be a list, got {data!r:.60}")
    return data
