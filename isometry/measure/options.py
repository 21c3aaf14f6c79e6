"""How a network is measured: everything that `analyze` and `spectrum` can be told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Protocol

import numpy as np
import torch

from isometry.errors import InputError
from isometry.jacobian import Selection
from isometry.measure.method import BUDGET
from isometry.measure.quadrature import TOLERANCE, Run
from isometry.memory import parse_size

Progress = Callable[[float], None]

METHODS = ("auto", "exact", "quadrature", "product")
_LARGEST_SEED = 2**63 - 1


class Checkpoint(Protocol):
    """Where finished runs of probes are kept, for a measurement that may be killed."""

    def kept(self, study: str, point: str) -> Sequence[Run]:
        """Return the runs of this study at this point, the first blocks first."""
        ...

    def keep(self, point: str, run: Run) -> None:
        """Add the run of the next block."""
        ...


@dataclass(frozen=True)
class Options:
    """What is measured, and how; `isometry.analyze` says what each field means.

    Raises
    ------
    InputError
        If a number is none, or the memory is no size.
    """

    shape: int | Sequence[int] | None = None
    input_scale: float = 1.0
    samples: int = 1
    wrt: str | None = None
    output: str | None = None
    at: str | None = None
    start: str | None = None
    stop: str | None = None
    train_mode: bool = False
    dtype: torch.dtype | str | None = None
    device: torch.device | str | None = None
    seed: int = 0
    memory: int | str | None = None
    check_itself: bool = True
    theory: bool = True
    method: str = "auto"
    probes: int | None = None
    steps: int | None = None
    tolerance: float = TOLERANCE
    budget: float = BUDGET
    checkpoint: Checkpoint | None = None
    progress: Progress | None = None
    seeds: int | None = None
    band: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", _whole_number(self.samples, "samples"))
        object.__setattr__(self, "seed", _whole_number(self.seed, "seed"))
        if not -_LARGEST_SEED <= self.seed <= _LARGEST_SEED:
            raise InputError(f"seed must lie within ±{_LARGEST_SEED}, got {self.seed!r:.60}")
        object.__setattr__(self, "memory", _bytes(self.memory))
        if self.method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, got {self.method!r:.60}")
        for name in ("probes", "steps", "seeds"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _positive_whole(getattr(self, name), name))
        if self.band is not None and _whole_number(self.band, "band") < 2:
            raise InputError(f"band needs two twins or more to span, got {self.band}")
        for name in ("tolerance", "budget"):
            _positive(getattr(self, name), name)
        if (self.seeds or self.band) and self.checkpoint is not None:
            raise InputError(
                "a checkpoint is of one network: leave it out, or measure one initialisation at a "
                "time by its seed, without band"
            )
        if self.method == "product":
            self._refuse_what_the_product_cannot_serve()

    @property
    def selection(self) -> Selection:
        """Which derivative is meant."""
        return Selection(self.wrt, self.output, self.at, self.start, self.stop, self.train_mode)

    def _refuse_what_the_product_cannot_serve(self) -> None:
        asked = asdict(self.selection)
        asked |= {name: getattr(self, name) for name in ("probes", "steps", "checkpoint")}
        if names := [name for name, value in asked.items() if value not in (None, False)]:
            raise InputError(
                "method product multiplies the stages of a whole network in evaluation mode, and "
                f"cannot serve {', '.join(names)}: leave that out, or take another method"
            )


def _whole_number(value: object, name: str) -> int:
    """Return an option that must be an integer, of Python or NumPy."""
    if not isinstance(value, (int, np.integer)):
        raise InputError(f"{name} must be a whole number, got {value!r:.60}")
    return int(value)


def _positive_whole(value: object, name: str) -> int:
    number = _whole_number(value, name)
    if number < 1:
        raise InputError(f"{name} must be at least 1, got {number}")
    return number


def _positive(value: object, name: str) -> None:
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise InputError(f"{name} must be a positive number, got {value!r:.60}")


def _bytes(memory: int | str | None) -> int | None:
    if memory is None:
        return None
    try:
        return parse_size(str(memory))
    except InputError as e:
        raise InputError(f"{e} (memory={memory!r:.40})") from e
