"""A regular file, opened once and read through that one handle."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isometry.errors import LoadError
from isometry.load.wording import listing, show

_CHUNK = 1 << 20
_MAX_NAMES = 1000


class Source:
    """One open file: its bytes are checked and used through the same handle.

    Attributes
    ----------
    path : Path
        As the caller gave it; used for words and for the suffix of text files only.
    handle : BinaryIO
        The one handle that everything is read from.
    size : int
        Bytes, from the open handle.
    name : str
        The last part of the path, safe to print.
    """

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        """Note the size and the time of the last change."""
        self.path = path
        self.handle = handle
        self.name = show(path.name or path)
        self._before = os.fstat(handle.fileno())
        self.size = self._before.st_size

    def read(self, size: int, at: int = 0) -> bytes:
        """Return at most `size` bytes from offset `at`."""
        self.handle.seek(at)
        return self.handle.read(size)

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, in hexadecimal."""
        digest = hashlib.sha256()
        self.handle.seek(0)
        while chunk := self.handle.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()

    def world_writable(self) -> bool:
        """Return whether any user of this machine may change the file."""
        return bool(self._before.st_mode & stat.S_IWOTH)

    def check_unchanged(self) -> None:
        """Raise LoadError when the file was written to since it was opened."""
        now = os.fstat(self.handle.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.size, self._before.st_mtime_ns):
            raise LoadError(f"{self.name} changed while it was being read; try again")


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Source]:
    """Open a regular file for reading; never blocks, never follows into a device.

    Raises
    ------
    LoadError
        The path is missing, unreadable, or is not a regular file.
    """
    try:
        where = Path(os.fspath(path))
        mode = os.stat(where).st_mode
        if not stat.S_ISREG(mode):
            raise LoadError(f"{show(where)} is {_sort(mode)}, not a file; name a file")
        # Non-blocking, in case a FIFO takes the file's place after the line above.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(where, flags | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as handle:
            mode = os.fstat(handle.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise LoadError(f"{show(where)} is {_sort(mode)}, not a file; name a file")
            yield Source(where, handle)
    except FileNotFoundError as error:
        raise LoadError(f"{show(path)} does not exist; {_look_for(path)}") from error
    except PermissionError as error:
        raise LoadError(
            f"{show(path)} cannot be read: permission denied; chmod u+r it, or copy it"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        # ValueError: a NUL in the path. TypeError: not a path at all.
        raise LoadError(f"{show(path)} cannot be read: {show(error)}") from error


def _look_for(path: str | os.PathLike[str]) -> str:
    """Return what to try where a name leads nowhere."""
    folder, name = os.path.split(os.fspath(path))
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in itertools.islice(entries, _MAX_NAMES)]
    except OSError:
        return f"there is no folder {show(folder)} either: check the path"
    near = difflib.get_close_matches(name, names, n=3)
    return f"near it: {listing(near)}" if near else "check the path and the working directory"


def _sort(mode: int) -> str:
    for test, words in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return words
    return "something special"
