"""What the parameters of a law may be; anything else raises `TheoryError`."""

from __future__ import annotations

import math
import numbers

from isometry.errors import TheoryError

#: |log σ| beyond which exp overflows or underflows in float64
_LARGEST_LOG = 700.0


def whole(label: str, value: object, least: int) -> int:
    """`value` as an int, where it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise TheoryError(f"{label} is {value!r}; expected a whole number of at least {least}")
    return int(value)


def finite(label: str, value: object) -> float:
    """`value` as a float, where it is a finite real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise TheoryError(f"{label} is {value!r}; expected a finite real number")
    return float(value)


def fraction(label: str, value: object) -> float:
    """`value` as a float, where it lies in (0, 1]."""
    number = finite(label, value)
    if not 0.0 < number <= 1.0:
        raise TheoryError(f"{label} is {value!r}; expected a number in (0, 1]")
    return number


def location(log_sigma: float) -> float:
    """σ = exp(log_sigma) of a point mass, where float64 can hold it."""
    if abs(log_sigma) > _LARGEST_LOG:
        raise TheoryError(
            f"the law has a point mass at log σ = {log_sigma:.6g}, and float64 cannot hold that σ; "
            f"expected |log σ| <= {_LARGEST_LOG:g}: use a smaller depth or a log_scale nearer to 0"
        )
    return math.exp(log_sigma)
