"""Which route serves an operator: the first of its ladder that works and is right."""

from __future__ import annotations

from collections.abc import Sequence

from isometry.jacobian.routes.route import Route


class Ladder:
    """Routes from the first choice to the last, and the one in use.

    Attributes
    ----------
    route : type of Route
        The one in use.
    reasons : list of str
        Why each route above it was left, for the report.
    exhausted : bool
        None of the routes serves.
    """

    def __init__(self, routes: Sequence[type[Route]], product: str) -> None:
        self._routes, self._rung, self._product = tuple(routes), 0, product
        self.reasons: list[str] = []
        self.exhausted = False

    @property
    def route(self) -> type[Route]:
        """The route in use."""
        return self._routes[self._rung]

    def descend(self, reason: str) -> bool:
        """Go on to the next route; False where there is none."""
        self.reasons.append(f"{self.route.name} {reason}")
        self.exhausted = self._rung + 1 == len(self._routes)
        self._rung += not self.exhausted
        return not self.exhausted

    def note(self) -> str:
        """Say which route is in use and why not an earlier one; empty for the first."""
        if not self.reasons:
            return ""
        by = "by no route" if self.exhausted else f"by {self.route.name}"
        return f"products {self._product} {by}: " + "; ".join(self.reasons)
