"""What a measurement ends in: the files asked for, what is printed, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from .exit_codes import ExitCode
from .output import FIRST_RANK, check_targets, draw, write
from .subject import Subject

if TYPE_CHECKING:
    from isometry.report import Report


@dataclass(frozen=True)
class Results:
    """Where the results go, and the score asked for."""

    json_path: str | None
    figure_path: str | None
    fail_under: float | None

    def of(self, subject: Subject, *, quiet: bool, gated: bool) -> int:
        """Measure, write what was asked for, and return the exit code.

        Parameters
        ----------
        subject : Subject
        quiet : bool
            Print one line in place of the report.
        gated : bool
            Whether the exit code says if the network passed.
        """
        sources = (subject.path, subject.checkpoint, *subject.input_files)
        check_targets(self.json_path, self.figure_path, *sources)
        report = subject.analyze(quiet=quiet)
        if FIRST_RANK:
            self._write(report, quiet)
            self._print(report, quiet)
        return self._code(report, gated)

    def _write(self, report: Report, quiet: bool) -> None:
        if self.json_path not in (None, "-"):
            write(str(self.json_path), report.to_json().encode())
        if self.figure_path is not None:
            draw(report, self.figure_path)
            if not quiet:
                click.echo(f"figure: {self.figure_path}", err=True)

    def _print(self, report: Report, quiet: bool) -> None:
        from isometry import gate, render

        if quiet and self.json_path != "-":
            click.echo(gate.line(report, self.fail_under))
            return
        if self.json_path == "-":
            click.echo(report.to_json(), nl=False)
        else:
            click.echo(render.results(report))
            if report.notes:
                click.echo(render.notes(report), err=True)
        asked = self.fail_under
        if asked is not None and report.trustworthy and not gate.passes(report, asked):
            click.echo(f"FAIL: {gate.compared(report, asked)}", err=True)

    def _code(self, report: Report, gated: bool) -> ExitCode:
        from isometry.gate import passes

        if report.uncertainty is not None and not report.uncertainty.complete:
            return ExitCode.INTERRUPTED
        if not report.trustworthy:
            return ExitCode.UNTRUSTWORTHY
        failed = gated and not passes(report, self.fail_under)
        return ExitCode.GATE_FAILED if failed else ExitCode.OK
