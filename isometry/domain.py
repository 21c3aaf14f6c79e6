"""What the numbers of the theory may be; anything else raises `TheoryError`."""

from __future__ import annotations

import math
import numbers

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isometry.errors import TheoryError

Array = NDArray[np.float64]

_LARGEST = 1e150  # whose square is a number still
_LARGEST_LOG = 700.0  # |log σ| beyond which exp overflows or underflows


def finite(label: str, value: object) -> float:
    """`value` as a float, where it is a finite real number."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if not real or not math.isfinite(float(value)):  # type: ignore[arg-type]
        raise TheoryError(f"{label} is {value!r}; expected a finite real number")
    number = float(value)  # type: ignore[arg-type]
    if abs(number) > _LARGEST:
        raise TheoryError(f"{label} is {value!r}; expected a real number of at most {_LARGEST:g}")
    return number


def nonnegative(label: str, value: object) -> float:
    """`value` as a float, where it is finite and >= 0."""
    number = finite(label, value)
    if number < 0.0:
        raise TheoryError(f"{label} is {value!r}; expected a number >= 0")
    return number


def positive(label: str, value: object) -> float:
    """`value` as a float, where it is finite and > 0."""
    number = finite(label, value)
    if number <= 0.0:
        raise TheoryError(f"{label} is {value!r}; expected a number > 0")
    return number


def fraction(label: str, value: object) -> float:
    """`value` as a float, where it lies in (0, 1]."""
    number = finite(label, value)
    if not 0.0 < number <= 1.0:
        raise TheoryError(f"{label} is {value!r}; expected a number in (0, 1]")
    return number


def correlation(label: str, value: object) -> float:
    """`value` as a float, where it lies in [-1, 1]."""
    number = finite(label, value)
    if abs(number) > 1.0:
        raise TheoryError(f"{label} is {value!r}; expected a correlation in [-1, 1]")
    return number


def whole(label: str, value: object, least: int) -> int:
    """`value` as an int, where it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise TheoryError(f"{label} is {value!r}; expected a whole number of at least {least}")
    return int(value)


def grid(label: str, values: ArrayLike) -> Array:
    """`values` as an increasing array of one or more finite numbers >= 0."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise TheoryError(f"{label} is {values!r}; expected a list of numbers") from None
    if array.ndim != 1 or array.size == 0 or not bool(np.all(np.isfinite(array))):
        raise TheoryError(f"{label} has shape {array.shape}; expected one row of finite numbers")
    if array[0] < 0 or bool(np.any(np.diff(array) <= 0)):
        raise TheoryError(f"{label} is {array.tolist()}; expected increasing numbers >= 0")
    return array


def location(log_sigma: float) -> float:
    """σ = exp(log_sigma) of a point mass, where float64 can hold it."""
    if abs(log_sigma) > _LARGEST_LOG:
        raise TheoryError(
            f"the law has a point mass at log σ = {log_sigma:.6g}, and float64 cannot hold that σ; "
            f"expected |log σ| <= {_LARGEST_LOG:g}: use a smaller depth or a log_scale nearer to 0"
        )
    return math.exp(log_sigma)
