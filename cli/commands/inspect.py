"""``isometry inspect``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..output import check_target, write

if TYPE_CHECKING:
    from isometry.load.inspect import Inspection
    from isometry.load.look.findings import Tensors

_NAMES = 12


@click.command(
    "inspect",
    short_help="Say what a model file is and holds, without loading it.",
    epilog="Example:  isometry inspect model.pt",
)
@click.argument("path", metavar="MODEL")
@click.option(
    "--json", "json_path", metavar="PATH|-", help="Write what was found as JSON; - prints it."
)
def command(path: str, json_path: str | None) -> None:
    """Say what the file or folder MODEL is and holds, and what in it could do harm.

    Nothing in it is run, and no weight is read. It exits with 0 for dangerous files too: this
    is a look, not a gate.
    """
    if not path:
        raise click.UsageError("MODEL is an empty name: is a variable not set?")
    check_target(json_path, sources=(path,))

    from isometry.load.inspect import inspect

    found = inspect(path)
    text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n"
    if json_path == "-":
        click.echo(text, nl=False)
        return
    if json_path is not None:
        write(json_path, text.encode())
    click.echo("\n".join(_lines(found)))


def _lines(found: Inspection) -> Iterator[str]:
    from isometry.load.wording import amount

    yield f"{found.name}: {found.format.value}, {amount(found.size)}"
    if found.sha256:
        yield _line("sha256", found.sha256)
    if found.kind:
        yield _line("holds", found.kind)
    for key, value in found.facts:
        yield _line(key, value)
    yield from _names(found)
    if found.tensors is not None:
        yield from _tensors(found.tensors)
    for file in found.files[:_NAMES]:
        yield _line("file", f"{file.name}: {file.format}, {amount(file.size)}")
    if len(found.files) > _NAMES:
        yield _line("", f"… and {len(found.files) - _NAMES} more")
    for words in found.members:
        yield _line("odd member", words)
    for words in found.dangers:
        yield _line("danger", words)
    yield _line("by default", found.by_default)


def _names(found: Inspection) -> Iterator[str]:
    by_sort: dict[str, list[str]] = {}
    for name in found.names:
        by_sort.setdefault(name.sort, []).append(name.name)
    for sort, names in by_sort.items():
        if sort != "data":
            more = f", … and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
            yield _line("asks for", f"{', '.join(names[:_NAMES])}{more} ({sort})")


def _tensors(tensors: Tensors) -> Iterator[str]:
    from isometry.load.wording import amount, plural

    kinds = ", ".join(f"{count} {kind}" for kind, count in tensors.dtypes.items())
    yield _line(
        "tensors",
        f"{plural(tensors.count, 'tensor')}, {tensors.parameters:,} numbers, "
        f"{amount(tensors.bytes)} ({kinds})",
    )
    for info in tensors.largest:
        yield _line("", f"{info.name}  {info.shape}  {info.dtype}, {amount(info.bytes)}")
    if (more := tensors.count - len(tensors.largest)) > 0:
        yield _line("", f"… and {more} more, none of them larger")


def _line(key: str, text: str) -> str:
    return f"{key:<11} {text}"
