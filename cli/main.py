"""Assemble the commands, and turn every ending into one line and an exit code.

Nothing here or in the option definitions imports torch: help must answer at once.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from importlib.metadata import version as installed_version
from typing import cast

import click

from .exit_codes import ExitCode

_COMMANDS = {
    "analyze": "Measure a network and say whether it will train.",
    "check": "Pass or fail a network in one line, for scripts and CI.",
    "plot": "Redraw a saved report.",
    "rule": "Explain a finding's code.",
}


class _Lazy(click.Group):
    """Imports a command's module only when that command is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f".commands.{cmd_name}", __package__)
        return cast(click.Command, module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(
    "isometry",
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ISOMETRY"},
    epilog="Example:  isometry analyze model.pt --shape 3,32,32 --figure spectrum.png",
)
@click.version_option(installed_version("isometry"), "--version", message="isometry %(version)s")
def app() -> None:
    """Will this network train? Measure the singular values of its input-output Jacobian.

    Exit codes: 0 done and the gate passed; 1 the gate failed; 2 wrong usage, or a file that is
    unreadable or refused; 3 measured but not trustworthy; 70 internal error; 130 interrupted.
    """


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line with these arguments and return the exit code."""
    try:
        outcome = app.main(args=arguments, prog_name="isometry", standalone_mode=False)
        return int(outcome or ExitCode.OK)
    except click.exceptions.Exit as e:
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted: nothing was written", ExitCode.INTERRUPTED)
    except click.ClickException as e:
        e.show()
        return ExitCode.USAGE
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone; that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as e:  # the last line of defence: a traceback must never reach the user
        return _explain(e)


def _explain(error: Exception) -> int:
    from isometry.errors import IsometryError, MeasurementError, NotIsometricError

    if isinstance(error, NotIsometricError):
        return _say(str(error), ExitCode.GATE_FAILED)
    if isinstance(error, MeasurementError):
        return _say(f"error: {error}", ExitCode.UNTRUSTWORTHY)
    if isinstance(error, IsometryError):
        return _say(f"error: {error}", ExitCode.USAGE)
    with tempfile.NamedTemporaryFile(
        "w", prefix="isometry-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write("".join(traceback.format_exception(error)))
    reason = (str(error).splitlines() or [""])[0]
    return _say(
        f"internal error: {type(error).__name__}: {reason} "
        f"(details in {log.name}; please report it)",
        ExitCode.INTERNAL,
    )


def _say(message: str, code: ExitCode) -> int:
    # One line, whatever a file name or an error text may hold.
    printable = "".join(c if c.isprintable() else " " for c in message)
    click.echo(printable, err=True)
    return code
