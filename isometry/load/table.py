"""Numbers written as text: .csv, .tsv, .txt."""

from __future__ import annotations

import re
from array import array

import numpy as np

from isometry.errors import LoadError
from isometry.load.source import Source
from isometry.load.wording import amount, show

MAX_BYTES = 128 << 20
# `float` also takes "1_000", which no other program means as a number.
_NUMBER = re.compile(
    r"[+-]?(?:\d{1,400}\.?\d{0,400}|\.\d{1,400})(?:[eE][+-]?\d{1,9})?|[+-]?(?:nan|inf|infinity)",
    re.ASCII | re.IGNORECASE,
)


def read_table(source: Source) -> np.ndarray:
    """Return the numbers of a text file, one row per line, as float64 (rows, columns).

    Columns are parted by tabs in a .tsv file, by commas or semicolons where a line has
    them, and by blanks otherwise. The first line may name the columns; empty lines and
    lines that start with # are passed over.

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
    # Not `splitlines`: it also breaks at characters that no editor counts as a line.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = _cells(line, source.path.suffix.lower())
        header, first = first, False
        if not all(_NUMBER.fullmatch(cell) for cell in cells):
            if header:
                columns = len(cells)
                continue
            raise LoadError(_not_a_number(source.name, number, cells))
        if columns and len(cells) != columns:
            raise LoadError(
                f"{source.name}, line {number}: {len(cells)} columns, where {columns} came before"
            )
        columns, rows = len(cells), rows + 1
        values.extend(float(cell) for cell in cells)
    if not rows:
        raise LoadError(f"{source.name} holds no line of numbers")
    return np.array(values, dtype=np.float64).reshape(rows, columns)


def _cells(line: str, suffix: str) -> list[str]:
    if suffix == ".tsv" or "\t" in line:
        parts = line.rstrip("\r").split("\t")
    elif "," in line or ";" in line:
        parts = line.split(";" if ";" in line else ",")
    else:
        parts = line.split()
    return [part.strip().strip('"') for part in parts]


def _not_a_number(name: str, line: int, cells: list[str]) -> str:
    bad = next(cell for cell in cells if not _NUMBER.fullmatch(cell))
    hint = "; decimals are written with a point" if "," in bad else ""
    return f"{name}, line {line}: {show(bad, 40)!r} is not a number{hint}"
