"""``isometry analyze``."""

from __future__ import annotations

from typing import Any

import click

from ..exit_codes import ExitCode
from ..options import results, subject
from ..output import check_targets, draw, write
from ..subject import Subject


@click.command(
    "analyze",
    short_help="Measure a network and say whether it will train.",
    epilog="Example:  isometry analyze model.pt --input batch.npy --samples 8 --figure out.svg",
)
@subject
@results
@click.option("-q", "--quiet", is_flag=True, help="Print the verdict only.")
def command(
    json_path: str | None,
    figure_path: str | None,
    fail_under: float | None,
    quiet: bool,
    **what: Any,
) -> int:
    """Measure the singular values of MODEL's input-output Jacobian, and say what they mean.

    MODEL is a file: a whole module, a state dict or checkpoint (with --model), or safetensors.
    No code from the file is run unless you --trust it. Without --input or --shape, Gaussian
    input is used where the first layer makes its shape unambiguous.
    """
    wanted = Subject(**what)
    check_targets(json_path, figure_path, wanted.path, *wanted.input_files)
    report = wanted.analyze(quiet=quiet)

    from isometry import render
    from isometry.gate import outcome, passes

    if json_path not in (None, "-"):
        write(str(json_path), report.to_json().encode())
    if figure_path is not None:
        draw(report, figure_path)
        if not quiet:
            click.echo(f"figure: {figure_path}", err=True)
    if json_path == "-":
        click.echo(report.to_json(), nl=False)
    elif quiet and fail_under is not None:
        word, why = outcome(report, fail_under)
        click.echo(f"{word} {report.model.name}: {why}")
    elif quiet:
        click.echo(render.line(report))
    else:
        click.echo(render.results(report))
        if report.notes:
            click.echo(render.notes(report), err=True)
    if not report.trustworthy:
        return ExitCode.UNTRUSTWORTHY
    if fail_under is not None and not passes(report, fail_under):
        click.echo(f"the score {report.score.value:.4g} is below {fail_under:g}", err=True)
        return ExitCode.GATE_FAILED
    return ExitCode.OK
