"""The members of a zip archive, honest or not."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator

from isometry.errors import LoadError
from isometry.load.archive import ZIP_ERRORS, Archive, directory
from isometry.load.look.findings import Findings, capped
from isometry.load.source import Source
from isometry.load.wording import amount, show


def look_members(source: Source, found: Findings, *, deflate: bool = False) -> None:
    """Note members that are odd, and why the archive would not be read.

    Parameters
    ----------
    source : Source
        An open zip archive.
    found : Findings
        Takes the notes.
    deflate : bool
        Whether compressed members are usual.
    """
    infos = directory(source).infolist()
    found.fact("members", len(infos))
    found.members += capped(_odd(infos, deflate))
    try:
        Archive(source, deflate=deflate)
    except LoadError as error:
        found.danger(str(error).removeprefix("refused: "))


def names_in(source: Source) -> list[str]:
    """Return the names of all members."""
    return directory(source).namelist()


def peek(source: Source, ending: str, limit: int) -> bytes | None:
    """Return the member whose name ends so after its top folder; None where there is none.

    Raises
    ------
    LoadError
        It is longer than `limit`, whatever it claims, or cannot be read.
    """
    archive = directory(source)
    for name in archive.namelist():
        if name == ending or name.split("/", 1)[-1] == ending:
            return read_up_to(archive, name, limit)
    return None


def read_up_to(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Return a member of at most `limit` bytes."""
    try:
        with archive.open(name) as member:
            data = member.read(limit + 1)
    except ZIP_ERRORS as error:
        raise LoadError(f"{show(name)} cannot be read ({show(error)})") from error
    if len(data) > limit:
        raise LoadError(f"{show(name)} has more than {amount(limit)}, which is not looked at")
    return data


def _odd(infos: list[zipfile.ZipInfo], deflate: bool) -> Iterator[str]:
    for name, count in Counter(info.filename for info in infos).items():
        if count > 1:
            yield f"{show(name)} is there {count} times"
    for info in infos:
        name = show(info.filename)
        if info.flag_bits & 1:
            yield f"{name} is encrypted"
        elif info.compress_type != zipfile.ZIP_STORED and not deflate:
            sizes = f"{amount(info.compress_size)} to {amount(info.file_size)}"
            yield f"{name} is compressed: it would grow from {sizes}"
        elif info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            yield f"{name} has two sizes: {amount(info.compress_size)}, {amount(info.file_size)}"
        if ".." in info.filename.split("/") or info.filename.startswith(("/", "\\")):
            yield f"{name} leads out of the folder that it is unpacked into"
