"""Assemble the commands, and turn every ending into one line and an exit code.

Nothing here or in the option definitions imports torch: help must answer at once.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import sys
import tempfile
import traceback
from importlib.metadata import version as installed_version
from typing import cast

import click

from .exit_codes import ExitCode

_COMMANDS = {
    "analyze": "Measure how isometric a network is, and say what is wrong.",
    "check": "Pass or fail a network in one line, for scripts and CI.",
    "layers": "Follow an input through a network: which block is to blame.",
    "inspect": "Say what a model file is and holds, without loading it.",
    "theory": "Predict the spectrum of an infinitely wide network.",
    "critical": "Find the weights at which gradients neither vanish nor explode.",
    "phase": "Draw the phase diagram of an activation.",
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS:
            near = difflib.get_close_matches(args[0], _COMMANDS, n=1) or _COMMANDS
            ctx.fail(f"no command is called {args[0]!r}: did you mean {', '.join(near)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(
    "isometry",
    cls=_Lazy,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ISOMETRY"},
    epilog="Example:  isometry analyze model.pt --shape 3,32,32 --figure spectrum.png",
)
@click.version_option(installed_version("isometry"), "--version", message="isometry %(version)s")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Will this network train? Measure the singular values of its input-output Jacobian.

    Exit codes: 0 done and the gate passed; 1 the gate failed; 2 wrong usage, or a file that is
    unreadable or refused; 3 measured but not trustworthy; 70 internal error; 130 interrupted.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(ExitCode.USAGE)


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        # Where σ and █ have no code, a question mark is better than no report.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line with these arguments and return the exit code."""
    stdout = sys.stdout
    try:
        outcome = app.main(args=arguments, prog_name="isometry", standalone_mode=False)
        return int(outcome or ExitCode.OK)
    except click.exceptions.Exit as e:
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted: no file was left half-written", ExitCode.INTERRUPTED)
    except click.ClickException as e:
        return _say(f"error: {e.format_message().rstrip('.')}{_where_to_look(e)}", ExitCode.USAGE)
    except SystemExit as e:
        # When the reader of a pipe (head, less) has gone, click muffles stdout and exits with
        # 1, our code for a failed gate. It is no error of ours.
        if sys.stdout is not stdout:
            return ExitCode.OK
        # Else it is the network's code; its number must not pass for our verdict.
        return _say(f"error: the network's own code called exit({e.code!r})", ExitCode.USAGE)
    except Exception as e:  # the last line of defence: a traceback must never reach the user
        return _explain(e)
    except BaseException as e:  # none of ours: asyncio.CancelledError, or a class of the user's
        kind = type(e).__name__
        return _say(f"error: the network's own code raised {kind}: {e}", ExitCode.USAGE)


def _where_to_look(error: click.ClickException) -> str:
    # Our own usage errors say what to do; those of click name an option.
    ctx = None if type(error) is click.UsageError else getattr(error, "ctx", None)
    return f" (see {ctx.command_path} --help)" if ctx is not None else ""


def _explain(error: Exception) -> int:
    from isometry.errors import IsometryError, MeasurementError, NotIsometricError

    if isinstance(error, NotIsometricError):
        return _say(str(error), ExitCode.GATE_FAILED)
    if isinstance(error, MeasurementError):
        return _say(f"error: {error}", ExitCode.UNTRUSTWORTHY)
    if isinstance(error, IsometryError):
        return _say(f"error: {error}", ExitCode.USAGE)
    if isinstance(error, RecursionError):  # our own code goes nowhere so deep
        return _say(
            "error: the network is nested deeper than Python follows: build it flat", ExitCode.USAGE
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _say("error: cannot write the results: no space left", ExitCode.USAGE)
    reason = (str(error).splitlines() or [""])[0]
    return _say(
        f"internal error: {type(error).__name__}: {reason} "
        f"(please report it{_saved_traceback(error)})",
        ExitCode.INTERNAL,
    )


def _saved_traceback(error: Exception) -> str:
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="isometry-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.write("".join(traceback.format_exception(error)))
    except OSError:  # no room, or no temporary folder
        return ""
    return f" with {log.name}"


def _say(message: str, code: ExitCode) -> int:
    # One line, whatever a file name or an error text may hold.
    printable = "".join(c if c.isprintable() else " " for c in message)
    click.echo(printable, err=True)
    return code
