"""Numbers written as text: .csv, .tsv, .txt."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator

import numpy as np

from isometry.errors import LoadError
from isometry.load.source import Source
from isometry.load.wording import amount, plural, show

MAX_BYTES = 32 << 20
# Each cell of a line becomes an object of its own while the line is read.
_MAX_LINE = 4 << 20
_MAX_CELL = 400
# `float` also takes "1_000", which no other program means as a number.
_NUMBER = re.compile(
    r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE
)


def read_table(source: Source) -> np.ndarray:
    """Return the numbers of a text file, one row per line, as float64 (rows, columns).

    Columns are parted by tabs in a .tsv file, by commas or semicolons where a line has
    them, and by blanks otherwise. The first line may name the columns, by words alone;
    empty lines and lines that start with # are passed over.

    Raises
    ------
    LoadError
        A line has another number of columns than those before, or is not numeric.
    """
    if source.size > MAX_BYTES:
        raise LoadError(
            f"{source.name} has {amount(source.size)} of text; save it as .npy "
            f"(at most {amount(MAX_BYTES)} of text are read)"
        )
    try:
        text = source.read(source.size).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LoadError(f"{source.name} is no text in UTF-8 (byte {error.start})") from error
    values, columns, rows, first = array("d"), 0, 0, True
    for number, line in enumerate(_lines(text, source.name), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = _cells(line, source.path.suffix.lower())
        header, first = first, False
        if not all(map(_is_number, cells)):
            if header and not any(map(_is_number, cells)):
                columns = len(cells)
                continue
            raise LoadError(_not_a_number(source.name, number, cells))
        if columns and len(cells) != columns:
            counts = f"{plural(len(cells), 'column')}, where {columns} came before"
            raise LoadError(f"{source.name}, line {number}: {counts}; give every line as many")
        columns, rows = len(cells), rows + 1
        values.extend(float(cell) for cell in cells)
    if not rows:
        raise LoadError(
            f"{source.name} holds no line of numbers; write one input a line, as 0.5,1.2,-3"
        )
    return np.frombuffer(values, dtype=np.float64).reshape(rows, columns)


def _is_number(cell: str) -> bool:
    return len(cell) <= _MAX_CELL and _NUMBER.fullmatch(cell) is not None


def _lines(text: str, name: str) -> Iterator[str]:
    """Yield one line at a time: a list of them all would be many times the file."""
    start = number = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        number += 1
        if end - start > _MAX_LINE:
            raise LoadError(f"{name}, line {number} has {amount(end - start)}; save it as .npy")
        yield text[start:end]
        start = end + 1


def _cells(line: str, suffix: str) -> list[str]:
    if suffix == ".tsv" or "\t" in line:
        parts = line.rstrip("\r").split("\t")
    elif "," in line or ";" in line:
        parts = line.split(";" if ";" in line else ",")
    else:
        parts = line.split()
    return [part.strip().strip('"') for part in parts]


def _not_a_number(name: str, line: int, cells: list[str]) -> str:
    bad = next(cell for cell in cells if not _is_number(cell))
    return (
        f"{name}, line {line}: '{show(bad, 40)}' is not a number; decimals are written with a "
        "point, as 0.5 or 2e-3"
    )
