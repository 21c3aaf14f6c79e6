"""The project's exceptions.

Every error that a user can cause is one of these; its text says what came, what was
expected and what to try, and it is short enough to be printed on one line.

    IsometryError
    ├── InputError            the input, its shape or an option is not usable
    │   └── MemoryBudgetError the dense Jacobian would not fit in memory
    ├── LoadError             a file is missing, damaged or not of a known format
    │   └── RefusedError      a file was understood and is refused because it could do harm
    ├── MeasurementError      the network cannot be measured, or the numbers cannot be trusted
    ├── TheoryError           a law was asked for outside its domain
    └── NotIsometricError     the gate of `isometry.check` failed; carries the report
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isometry.report import Report


class IsometryError(Exception):
    """Root of every exception that this package raises on purpose."""


class InputError(IsometryError, ValueError):
    """The input, its shape or an option is not usable."""


class MemoryBudgetError(InputError):
    """The dense Jacobian would not fit in the memory allowed."""


class LoadError(IsometryError):
    """A file is missing, damaged, or not of a known format."""


class RefusedError(LoadError):
    """A file was understood and is refused, because reading it could do harm."""


class MeasurementError(IsometryError):
    """The network cannot be measured, or its numbers cannot be trusted.

    Attributes
    ----------
    report : Report or None
        The numbers that cannot be trusted; None where nothing could be measured.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class TheoryError(IsometryError, ValueError):
    """A law or a mean-field quantity was asked for outside its domain."""


class NotIsometricError(IsometryError):
    """The network did not reach the score that `isometry.check` asked for.

    Attributes
    ----------
    report : Report
        The full report of the measurement that failed the gate.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report
