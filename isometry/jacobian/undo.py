"""What has been changed, and is to be put back whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Undo:
    """Steps that put things back, run in reverse order on leaving.

    A step is noted before what it undoes is done, and must do no harm when it runs twice: one
    that an interrupt (Ctrl-C) cuts short runs again. Enter it twice, ``with Undo() as undo,
    undo``, for interrupts that come before the first line on leaving.

    Examples
    --------
    >>> import math
    >>> with Undo() as undo, undo:
    ...     undo.set(math, "pi", 3)
    >>> round(math.pi, 2)
    3.14
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def later(self, step: Callable[..., object], *args: object) -> None:
        """Run a step on leaving."""
        self._steps.append((step, args))

    def set(self, place: Any, name: str, value: object) -> None:
        """Set an attribute until then."""
        self.later(setattr, place, name, getattr(place, name))
        setattr(place, name, value)

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            while self._steps:
                step, args = self._steps[-1]
                step(*args)
                self._steps.pop()
        except Exception:  # a step that cannot be done must not keep the others from it
            self._steps.pop()
            self.__exit__()
            raise
        except BaseException:
            self.__exit__()
            raise
