"""``isometry check``."""

from __future__ import annotations

from typing import Any

import click

from ..exit_codes import ExitCode
from ..options import results, subject
from ..output import check_targets, draw, write
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
    wanted = Subject(**what)
    check_targets(json_path, figure_path, wanted.path, *wanted.input_files)
    report = wanted.analyze(quiet=True)

    from isometry.gate import outcome, passes

    if json_path not in (None, "-"):
        write(str(json_path), report.to_json().encode())
    if figure_path is not None:
        draw(report, figure_path)
    if json_path == "-":
        click.echo(report.to_json(), nl=False)
    else:
        word, why = outcome(report, fail_under)
        click.echo(f"{word} {report.model.name}: {why}")
    if not report.trustworthy:
        return ExitCode.UNTRUSTWORTHY
    return ExitCode.OK if passes(report, fail_under) else ExitCode.GATE_FAILED
