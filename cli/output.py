"""Files are written whole or not at all, refused before the work; stdout is for results alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from isometry.report import Report

_LARGEST_REPORT = 2**28  # characters
FIGURES = (".png", ".svg", ".pdf")
#: Of the processes that torchrun starts one writes and prints; alone, a process is the first.
FIRST_RANK = os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def results_only() -> Iterator[None]:
    """Send to stderr whatever the user's code prints: by Python, a C library or a subprocess.

    ``sys.stdout`` need not be the file behind descriptor 1, nor either of them be open.
    """
    streams = (sys.stdout, sys.__stdout__)
    _flush(streams)
    stderr, stdout = _copy(2), _copy(1)
    try:
        os.dup2(stderr, 1)
        os.set_inheritable(1, True)  # already so, unless 1 was closed and is itself the copy
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush(streams)  # what is still buffered is not a result either
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(stderr)


def _copy(descriptor: int) -> int:
    try:
        return os.dup(descriptor)
    except OSError:  # it is closed
        return os.open(os.devnull, os.O_WRONLY)


def _flush(streams: Iterable[Any]) -> None:
    import ctypes

    for stream in streams:
        # None or closed where the process was started without stdout; a full disk shows later.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    # Output of C libraries; Windows has no such handle to the C library in use.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).fflush(None)


def check_targets(json_path: str | None, figure_path: str | None, *sources: str | None) -> None:
    """Refuse results that could not be written, or that would replace each other or a source."""
    check_target(json_path, sources=sources)
    if json_path and figure_path and _is_same(json_path, figure_path):
        raise click.UsageError(f"cannot write {figure_path!r} twice: --json and --figure name it")
    check_target(figure_path, kinds=FIGURES, sources=sources)


def check_target(
    path: str | None, *, kinds: tuple[str, ...] = (), sources: Iterable[str | None] = ()
) -> None:
    """Refuse a target that could not be written, or that would replace what is no result.

    A figure may replace any file with the ending of one, JSON only JSON of ours.
    """
    if path is None or (path == "-" and not kinds):
        return
    if kinds and Path(path).suffix.lower() not in kinds:
        raise click.UsageError(
            f"cannot draw {path!r}: the ending says the format, use one of {', '.join(kinds)}"
        )
    if not path:
        raise click.UsageError("cannot write '': the name is empty, is a variable not set?")
    try:
        _check_place(path)
        for source in sources:
            if source and _is_same(path, source):
                raise click.UsageError(f"cannot write {path!r}: it would replace what is read")
        if not kinds and os.path.isfile(path) and not _is_ours(path):
            raise click.UsageError(
                f"cannot write {path!r}: it exists and is no report: give another name"
            )
    except (OSError, ValueError) as e:  # ValueError: a NUL in the path
        raise _cannot_write(path, e) from e


def _is_same(path: str, other: str) -> bool:
    """Whether two paths lead to one file, which need not exist yet."""
    if os.path.exists(path) and os.path.exists(other):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def _check_place(path: str) -> None:
    target = Path(os.path.realpath(path))
    if os.path.isdir(path):
        raise click.UsageError(f"cannot write {path!r}: it is a folder; give a file in it")
    if _is_stream(path):
        return
    if not target.parent.is_dir():
        why = "is not a folder" if target.parent.exists() else "does not exist; make it first"
        # Of a link, where it leads; else as it was written.
        folder = target.parent if os.path.islink(path) else Path(path).parent
        raise click.UsageError(f"cannot write {path!r}: {str(folder)!r} {why}")
    with contextlib.suppress(FileNotFoundError):
        os.stat(target)  # a name may be too long to exist
        if not os.access(target, os.W_OK):
            raise click.UsageError(f"cannot write {path!r}: permission denied; give another path")
    # Only trying tells: permissions say nothing to root, nor about a read-only file system.
    with tempfile.TemporaryFile(dir=target.parent):
        pass


def _is_ours(path: str) -> bool:
    """Whether a file is empty, or JSON that an earlier run wrote."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST_REPORT)
        found = json.loads(text or '{"schema_version": 0}')
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "schema_version" in found


def _is_stream(path: str) -> bool:
    """Whether it is a pipe or a device: replaced, /dev/null would be gone for every program."""
    return os.path.exists(path) and not os.path.isfile(path)


def _cannot_write(path: str, e: OSError | ValueError) -> click.UsageError:
    why = getattr(e, "strerror", None) or e
    return click.UsageError(f"cannot write {path!r:.200}: {why}; give another path")


def write(path: str, content: bytes) -> None:
    """Put a file in place in one step: a reader sees the old one or the new one, never a part."""
    try:
        if _is_stream(path):
            Path(path).write_bytes(content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as e:
        raise _cannot_write(path, e) from e


def write_record(path: str | None, kind: str, found: Mapping[str, Any]) -> None:
    """Put a result of ours in place as JSON, or print it at ``-``; nothing at None."""
    if path is None:
        return
    text = json.dumps({"schema_version": 1, "kind": kind, **found}, indent=1) + "\n"
    if path == "-":
        click.echo(text, nl=False)
    else:
        write(path, text.encode())


def _replace(target: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".isometry-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode(target))
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _mode(target: Path) -> int:
    """Return the permissions of the file replaced, or those of any new file."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def picture(path: str, plot: Callable[[Any], object], **panels: Any) -> None:
    """Draw a figure into a file; the same figure gives the same bytes in SVG and PDF.

    Parameters
    ----------
    path : str
    plot : callable
        Is given the axes.
    **panels
        How many axes, as `Figure.subplots` takes it; by default one.
    """
    import matplotlib

    from isometry import figure

    kind = Path(path).suffix.lower().removeprefix(".")
    # Text stays text, so that figures can be searched and edited.
    settings: Any = {"svg.hashsalt": "isometry", "svg.fonttype": "none", "pdf.fonttype": 42}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A file's name may need signs that the font lacks: boxes then stand in the title.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas = figure.new_figure()
        plot(canvas.subplots(**panels))
        content = io.BytesIO()
        dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        canvas.savefig(content, format=kind, dpi=200, metadata=dated)
    write(path, content.getvalue())


def draw(report: Report, path: str) -> None:
    """Draw a report's spectrum into a file."""
    from isometry import figure

    picture(path, lambda ax: figure.spectrum(report, ax))
