"""Which derivative of a network is meant: of what, with respect to what, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isometry.errors import InputError

_EXAMPLES = {
    "wrt": "'x' or 0",
    "output": "'logits' or 0",
    "at": "3 or ':, -1 / :, 0'",
    "start": "'layers.0' or 0",
    "stop": "'layers.0' or 0",
}


@dataclass(frozen=True)
class Selection:
    """What of a network is measured; by default all of the output by the only input.

    Attributes
    ----------
    wrt : str, optional
        The argument of forward to differentiate by, by name or by position ("0").
    output : str, optional
        Which part of the output: a key, an attribute or an index, dotted for nested ones
        ("hidden_states.1").
    at : str, optional
        Positions: "3" is position 3 along dimension 1 of output and input (one token's
        output by its own embedding); "OUT / IN" are two indices in NumPy's grammar, as in
        ":, -1 / :, 0"; a single index other than a number is that of the output alone.
    start, stop : str, optional
        Names of layers: from the input of `start` to the output of `stop`.
    train_mode : bool
        Measure in training mode: batch statistics, and dropout frozen to one mask.
    """

    wrt: str | None = None
    output: str | None = None
    at: str | None = None
    start: str | None = None
    stop: str | None = None
    train_mode: bool = False

    def __post_init__(self) -> None:
        for name, example in _EXAMPLES.items():
            value = getattr(self, name)
            if isinstance(value, int) and not isinstance(value, bool):  # not yet as text
                object.__setattr__(self, name, str(value))
            elif not isinstance(value, str | None):
                raise InputError(
                    f"{name} is of type {type(value).__name__}, expected text or a number: "
                    f"write it as {example}"
                )

    def positions(self) -> tuple[Index | None, Index | None]:
        """Return the indices that `at` takes of the output and of the input."""
        if self.at is None:
            return None, None
        text = str(self.at).strip()
        if _is_whole(text):
            return (slice(None), int(text)), (slice(None), int(text))
        out, slash, inner = text.partition("/")
        return _parse(out), _parse(inner) if slash else None

    def in_words(self) -> list[str]:
        """Say what was selected, for the report; nothing for the whole of input and output."""
        words = []
        if self.start or self.stop:
            start = f"the input of {self.start!r}" if self.start else "the input"
            stop = f"the output of {self.stop!r}" if self.stop else "the output"
            words.append(f"measured from {start} to {stop}, all else held fixed")
        if self.at is not None:
            out, inner = (i and _written(i) for i in self.positions())
            words.append(f"measured output[{out}]" + (f" by input[{inner}]" if inner else ""))
        return words


Index = tuple[Any, ...]


def pick(t: Tensor, index: Index, name: str) -> Tensor:
    """Return ``t[index]``, or say which shape the index does not fit."""
    try:
        found = t[index]
    except (IndexError, TypeError, ValueError) as e:
        raise InputError(
            f"at: {_written(index)!r} does not fit {name} of shape {tuple(t.shape)}: {e}"
        ) from e
    if found.numel() == 0:
        raise InputError(
            f"at: {_written(index)!r} leaves nothing of {name} of shape {tuple(t.shape)}"
        )
    return found


def put(base: Tensor, index: Index, part: Tensor) -> Tensor:
    """Return `base` with ``base[index]`` replaced, without writing to it."""
    flat = torch.arange(base.numel(), device=base.device).reshape(base.shape)[index].flatten()
    return base.flatten().index_put((flat,), part.flatten()).reshape(base.shape)


def _parse(text: str) -> Index:
    items: list[object] = []
    for item in text.strip().split(","):
        item = item.strip()
        parts = item.split(":")
        if item == "...":
            items.append(...)
        elif _is_whole(item):
            items.append(int(item))
        elif len(parts) in (2, 3) and all(p.strip() == "" or _is_whole(p) for p in parts):
            items.append(slice(*(int(p) if p.strip() else None for p in parts)))
        else:
            raise InputError(
                f"at: {item!r} is no index; write a position (3), or indices such as "
                "':, -1' for the output, or ':, -1 / :, 0' for output and input"
            )
    return tuple(items)


def _is_whole(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def _written(index: Index) -> str:
    def one(item: object) -> str:
        if item is ...:
            return "..."
        if isinstance(item, slice):
            ends = ["" if v is None else str(v) for v in (item.start, item.stop)]
            return ":".join(ends if item.step is None else [*ends, str(item.step)])
        return str(item)

    return ", ".join(map(one, index))
