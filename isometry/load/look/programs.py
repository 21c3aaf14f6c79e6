"""Archives that hold a program: TorchScript and torch.export."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from isometry.errors import LoadError
from isometry.load.archive import directory
from isometry.load.look.findings import Findings
from isometry.load.look.members import look_members, names_in, peek, read_up_to
from isometry.load.look.pickled import look_data
from isometry.load.names import DTYPES
from isometry.load.source import Source
from isometry.load.wording import plural, show

_MAX_CODE = 16 << 20
_MAX_JSON = 64 << 20
_MAX_DIMS = 64
# Operators that reach beyond the numbers they are given.
_REACHING = ("from_file", "save", "load", "ops.prim.", "py_call", "set_source_tensor")
# The numbers of torch.export's schema; others are shown as numbers.
_EXPORT_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
}  # fmt: skip
_EXPRESSION = re.compile(rb'"expr_str":\s*"((?:[^"\\]|\\.){0,400})')
# Names of sizes and arithmetic; anything else is evaluated as Python all the same.
_ARITHMETIC = re.compile(rb"(?:[\w\s+\-*/%(),.<>=!&|]|Symbol\('\w+'(?:, \w+=\w+)*\))*", re.ASCII)
_DUNDER = re.compile(rb"__|\b(?:import|eval|exec|open|getattr|compile|lambda)\b")


def look_torchscript(source: Source, found: Findings) -> None:
    """Look at a TorchScript archive: its weights, and what its code reaches for."""
    look_members(source, found, deflate=True)
    look_data(source, found)
    found.kind = "TorchScript"
    found.danger("it carries code that runs when the model runs: load it only with --trust")
    files = [name for name in names_in(source) if "/code/" in name and name.endswith(".py")]
    found.fact("code", plural(len(files), "file"))
    archive, left = directory(source), _MAX_CODE
    for name in files:
        try:
            text = read_up_to(archive, name, left).decode("utf-8", "replace")
        except LoadError as error:
            found.danger(str(error))
            continue
        left -= len(text)
        for word in _REACHING:
            if re.search(rf"\b{re.escape(word)}\s*\(", text):
                found.danger(f"{show(name)} calls {word}, which can reach files of this machine")


def look_exported(source: Source, found: Findings) -> None:
    """Look at a torch.export archive: its weights, and what its loader would run."""
    look_members(source, found)
    found.kind = "torch.export program"
    found.danger("torch.export.load can run code from it: load it only with --trust")
    for name in names_in(source):
        base = name.rpartition("/")[2]
        if base.startswith("opaque_obj_"):
            found.danger(f"{show(name)} is a pickle that torch.export.load runs")
        elif base.startswith("custom_obj_"):
            found.danger(f"{show(name)} is an object of C++ code that torch.export.load makes")
        elif "/aotinductor/" in name and base.endswith((".so", ".pyd", ".dll", ".cubin")):
            found.danger(f"{show(name)} is machine code")
    _look_graph(peek(source, "models/model.json", _MAX_JSON) or b"", found)
    for kind in ("weights", "constants"):
        table = _json(peek(source, f"data/{kind}/model_{kind}_config.json", _MAX_JSON))
        for name, entry in _entries(table):
            _look_weight(name, entry, found)


def _look_graph(graph: bytes, found: Findings) -> None:
    targets = set(re.findall(rb'"target":\s*"([^"\\]{0,200})"', graph))
    found.fact("operators", len(targets))
    odd = sorted(t for t in targets if not t.startswith((b"torch.ops.", b"_operator.", b"math.")))
    if odd:
        found.danger(f"its graph calls {show(odd[0].decode('utf-8', 'replace'))}")
    for text in set(_EXPRESSION.findall(graph)):
        if _DUNDER.search(text) or not _ARITHMETIC.fullmatch(text):
            words = show(text.decode("utf-8", "replace"), 60)
            found.danger(f"a size in its graph is Python that torch.export.load runs: {words}")


def _look_weight(name: str, entry: Any, found: Findings) -> None:
    if not isinstance(entry, dict):
        return
    if entry.get("use_pickle"):
        found.danger(f"{show(name)} is a pickle that torch.export.load may run")
        return
    found_meta = entry.get("tensor_meta")
    meta = found_meta if isinstance(found_meta, dict) else {}
    shape = _shape(meta.get("sizes"))
    if shape is None:
        found.danger(f"{show(name)} has a shape that makes no sense")
        return
    number = meta.get("dtype")
    dtype = _EXPORT_DTYPES.get(number, f"type {number}") if type(number) is int else "unknown"
    known = DTYPES.get(f"torch.{dtype}")
    width = known.itemsize if known else 0
    found.tensor(show(name), shape, dtype, math.prod(shape) * width)


def _shape(sizes: Any) -> tuple[int, ...] | None:
    if not isinstance(sizes, list) or len(sizes) > _MAX_DIMS:
        return None
    shape = [size.get("as_int", -1) if isinstance(size, dict) else -1 for size in sizes]
    plain = all(type(n) is int and 0 <= n < 1 << 62 for n in shape)
    return tuple(shape) if plain else None


def _entries(table: Any) -> list[tuple[str, Any]]:
    config = table.get("config") if isinstance(table, dict) else None
    return list(config.items()) if isinstance(config, dict) else []


def _json(data: bytes | None) -> Any:
    try:
        return json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
