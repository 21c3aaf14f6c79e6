"""Files are written whole or not at all, and refused before the work rather than after."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from isometry.report import Report

FIGURES = (".png", ".svg", ".pdf")


def check_target(
    path: str | None, *, kinds: tuple[str, ...] = (), sources: Iterable[str | None] = ()
) -> None:
    """Refuse a target that could not be written, or that would replace what is read."""
    if path is None or path == "-":
        return
    target = Path(path)
    if kinds and target.suffix.lower() not in kinds:
        raise click.UsageError(
            f"cannot draw {path!r}: the ending says the format, use one of {', '.join(kinds)}"
        )
    if target.is_dir():
        raise click.UsageError(f"cannot write {path!r}: it is a folder")
    if not target.parent.is_dir():
        raise click.UsageError(
            f"cannot write {path!r}: the folder {str(target.parent)!r} does not exist"
        )
    if not os.access(target.parent, os.W_OK) or (
        target.exists() and not os.access(target, os.W_OK)
    ):
        raise click.UsageError(f"cannot write {path!r}: permission denied")
    for source in sources:
        if source and target.exists() and Path(source).exists() and target.samefile(source):
            raise click.UsageError(f"cannot write {path!r}: it would replace what is read")


def write(path: str, content: bytes) -> None:
    """Put a file in place in one step: a reader sees the old one or the new one, never a part."""
    target = Path(path)
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; a result is as readable as any other new file.
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as e:
        raise click.UsageError(f"cannot write {path!r}: {e.strerror or e}") from e


def draw(report: Report, path: str) -> None:
    """Draw a report into a file; the same report gives the same bytes in SVG and PDF."""
    import matplotlib

    from isometry import figure

    kind = Path(path).suffix.lower().removeprefix(".")
    # Text stays text, so that figures can be searched and edited.
    settings = {"svg.hashsalt": "isometry", "svg.fonttype": "none", "pdf.fonttype": 42}
    with matplotlib.rc_context(settings):
        canvas = figure.new_figure()
        figure.spectrum(report, canvas.subplots())
        content = io.BytesIO()
        dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        canvas.savefig(content, format=kind, dpi=200, metadata=dated)
    write(path, content.getvalue())
