"""What the options of initialisers may be; anything else raises `InputError`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, TypeAlias

import torch

from isometry import domain
from isometry.errors import InputError, TheoryError

#: what a layer that widens keeps: the mean square of the entries, or the length of the vector
Preserve: TypeAlias = Literal["variance", "norm"]


def sigma(label: str, value: object) -> float:
    """`value` as a float, where it is finite and >= 0."""
    with as_input_error():
        return domain.nonnegative(label, value)


def positive(label: str, value: object) -> float:
    """`value` as a float, where it is finite and > 0."""
    with as_input_error():
        return domain.positive(label, value)


def whole(label: str, value: object) -> int:
    """`value` as an int, where it is a whole number of at least 1."""
    with as_input_error():
        return domain.whole(label, value, 1)


@contextlib.contextmanager
def as_input_error() -> Iterator[None]:
    """Let what the theory says of an argument be said of the input."""
    try:
        yield
    except TheoryError as e:
        raise InputError(str(e)) from e


def generator(value: object) -> torch.Generator | None:
    """`value`, where it is a generator or None, which stands for the global one."""
    if value is not None and not isinstance(value, torch.Generator):
        raise InputError(
            f"generator is {value!r}; expected a torch.Generator, as torch.Generator()"
            ".manual_seed(0)"
        )
    return value


def widening(preserve: Preserve, fan_out: int, fan_in: int) -> float:
    """√max(1, n_out / n_in) where variances are kept, 1 where norms are."""
    if preserve not in ("variance", "norm"):
        raise InputError(f'preserve is {preserve!r}; expected "variance" or "norm"')
    return max(1.0, fan_out / fan_in) ** 0.5 if preserve == "variance" else 1.0
