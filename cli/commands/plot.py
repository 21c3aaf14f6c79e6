"""``isometry plot``."""

from __future__ import annotations

import click

from ..output import FIGURES, check_target, draw

_LIMIT = 2**28  # characters; /dev/zero has no end


@click.command(
    "plot",
    short_help="Redraw a saved report.",
    epilog="Example:  isometry plot report.json -o figure.svg",
)
@click.argument("report_path", metavar="REPORT.json|-")
@click.option("-o", "--output", required=True, metavar="PATH", help="Ends in .png, .svg or .pdf.")
def command(report_path: str, output: str) -> None:
    """Draw the figure of a report made by ``isometry analyze --json``, without measuring again."""
    check_target(output, kinds=FIGURES, sources=(report_path,))
    try:
        with click.open_file(report_path, encoding="utf-8") as file:
            text = file.read(_LIMIT)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not text"
        raise click.UsageError(f"cannot read {report_path!r}: {reason}") from e

    from isometry import Report
    from isometry.errors import LoadError

    try:
        report = Report.from_json(text)
    except LoadError as e:
        raise click.UsageError(f"cannot draw {report_path!r}: {e}") from e
    draw(report, output)
    click.echo(f"figure: {output}", err=True)
