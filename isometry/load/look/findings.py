"""What a look finds: collected while looking, and bounded whatever the file claims."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

MAX_LINES = 20
"""How many dangers, members and facts are kept; the rest is counted."""

_LARGEST = 8


@dataclass(frozen=True, order=True)
class TensorInfo:
    """A tensor as the file describes it."""

    bytes: int
    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Tensors:
    """All tensors of a file."""

    count: int
    parameters: int  # numbers in all of them
    bytes: int
    dtypes: dict[str, int]  # how many tensors are of each
    largest: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class FileInfo:
    """A file of a folder."""

    name: str
    format: str
    size: int


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle asks for."""

    name: str
    sort: str  # "stock layer", "data", "foreign", "code", …
    called: bool


@dataclass
class Findings:
    """What was found so far.

    Attributes
    ----------
    kind : str
        What the file holds, "whole module" or "state dict", where that is known.
    facts : list
        Pairs of words: what else the file says of itself.
    names : dict
        The names that pickles ask for.
    dangers : dict
        What could do harm, each once; a dict for its order.
    members : list
        Members of an archive that are odd.
    count : int
        How many tensors.
    """

    kind: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    names: dict[str, Name] = field(default_factory=dict)
    dangers: dict[str, None] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
    count: int = 0
    _parameters: int = 0
    _bytes: int = 0
    _dtypes: Counter[str] = field(default_factory=Counter)
    _largest: list[TensorInfo] = field(default_factory=list)

    def fact(self, key: str, value: object) -> None:
        """Note what the file says of itself."""
        self.facts.append((key, str(value)))

    def danger(self, words: str) -> None:
        """Note what could do harm."""
        self.dangers.setdefault(words)

    def tensor(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype | str, size: int
    ) -> None:
        """Note a tensor of `size` bytes."""
        kind = str(dtype).removeprefix("torch.")
        self.count += 1
        self._parameters += math.prod(shape)
        self._bytes += size
        self._dtypes[kind] += 1
        info = TensorInfo(size, name, shape, kind)
        if len(self._largest) < _LARGEST:
            heapq.heappush(self._largest, info)
        else:
            heapq.heappushpop(self._largest, info)

    def add_tensors(self, other: Findings) -> None:
        """Note the tensors of another file as well."""
        self.count += other.count
        self._parameters += other._parameters
        self._bytes += other._bytes
        self._dtypes += other._dtypes
        self._largest = heapq.nlargest(_LARGEST, self._largest + other._largest)
        heapq.heapify(self._largest)

    def tensors(self) -> Tensors | None:
        """Return the tensors noted, or None where there is none."""
        if not self.count:
            return None
        largest = tuple(sorted(self._largest, reverse=True))
        kinds = dict(self._dtypes.most_common())
        return Tensors(self.count, self._parameters, self._bytes, kinds, largest)


def capped(lines: Any) -> tuple[str, ...]:
    """Return the first lines, and how many more there are."""
    every = tuple(lines)
    if len(every) <= MAX_LINES:
        return every
    return (*every[:MAX_LINES], f"… and {len(every) - MAX_LINES} more")
