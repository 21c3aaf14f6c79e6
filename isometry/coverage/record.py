"""What the checks of an architecture found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_FAILURES = ("failed", "unexpected pass")


@dataclass(frozen=True)
class Check:
    """One statement about a network, and whether it holds.

    Attributes
    ----------
    name : str
        The statement, or the route of differentiation.
    outcome : str
        Of a statement "passed", "failed", "refused" (the operator says by name why it gives no
        number), "skipped", "expected failure" or "unexpected pass"; of a route "right",
        "WRONG", "raises" or "skipped".
    error : float or None
        Relative to the largest entry of what is compared; None where nothing could be.
    detail : str
        The reason, in words.
    """

    name: str
    outcome: str
    error: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        error = "" if self.error is None else f"{self.error:.1g}"
        return f"{self.outcome:17}{error:8}{self.name}" + (
            f": {self.detail}" if self.detail else ""
        )


@dataclass(frozen=True)
class Coverage:
    """What `check_architecture` found; prints itself as a table.

    Attributes
    ----------
    checks : tuple of Check
        Of the operator. These decide.
    routes : tuple of Check
        Of each way to differentiate, inside the measurement context and as users write it in
        bare PyTorch. For information: the operator takes the first that is right.
    """

    checks: tuple[Check, ...]
    routes: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """What failed without being expected to, or passed although it was expected to fail."""
        return tuple(c for c in self.checks if c.outcome in _FAILURES)

    @property
    def passed(self) -> bool:
        """Whether nothing failed; a refusal by name is no failure."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"passed": self.passed, **asdict(self)}

    def __str__(self) -> str:
        return "\n".join(map(str, (*self.checks, *self.routes)))
