"""``isometry check``."""

from __future__ import annotations

from typing import Any

import click

from ..options import results, subject
from ..results import Results
from ..subject import Subject


@click.command(
    "check",
    short_help="Pass or fail a network in one line, for scripts and CI.",
    epilog="Example:  isometry check model.pt --shape 3,32,32 --fail-under 0.1",
)
@subject
@results
def command(
    json_path: str | None, figure_path: str | None, fail_under: float | None, **what: Any
) -> int:
    """Measure MODEL and print one line; exit with 1 when it fails.

    It fails when its score is below --fail-under, or without that when the verdict is FAIL.
    """
    wanted = Results(json_path, figure_path, fail_under)
    return wanted.of(Subject(**what), quiet=True, gated=True)
