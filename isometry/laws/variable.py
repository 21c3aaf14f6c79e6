"""The variables in which a law may be asked for: log σ, σ and x = σ²."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import Array
from isometry.errors import TheoryError

Variable = Literal["log_sigma", "sigma", "x"]


def in_log_sigma(variable: Variable, at: ArrayLike) -> tuple[Array, Array]:
    """Translate to log σ; and |d log σ / d variable|, 0 where the variable is not positive."""
    if variable not in get_args(Variable):
        raise TheoryError(
            f"the variable is {variable!r}; expected one of {', '.join(get_args(Variable))}"
        )
    value = np.asarray(at, dtype=float)
    if variable == "log_sigma":
        return value, np.ones(value.shape)
    power = 1.0 if variable == "sigma" else 2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_sigma = np.log(np.maximum(value, 0.0)) / power
        return log_sigma, np.where(value > 0, 1.0 / (power * value), 0.0)
