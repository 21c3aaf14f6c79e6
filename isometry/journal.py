"""A file of JSON lines that grows as work is done, so that what a kill ended can go on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from isometry.errors import InputError

Entry = dict[str, Any]


class Journal:
    """One line for each thing done; the first line says what study they are of.

    A last line that was not written to its end, by a process that was killed, is dropped. One
    process at a time writes to the file: it is locked until `close`, or the end of the process.

    Parameters
    ----------
    path : str
        Made by `begin` where there is none.
    kind : str
        What lines it holds.
    read : callable
        Called with every line that is there; any error that it raises means damage.
    writes : bool
        Whether this process is the one that writes.

    Raises
    ------
    InputError
        If the file cannot be opened, is something else, is damaged or in use.
    """

    def __init__(
        self, path: str, kind: str, read: Callable[[Entry], None], *, writes: bool = True
    ) -> None:
        self.path, self._kind, self._writes = path, kind, writes
        self._study: str | None = None
        self._file: IO[bytes] | None = None
        if os.path.exists(path):
            try:
                self._load(self._opened("rb+" if writes else "rb"), read)
            except BaseException:
                self.close()
                raise

    def begin(self, study: str, others: str) -> None:
        """Say what study the lines are of, or find that they are of it.

        Raises
        ------
        InputError
            If they are of another, which may differ in what `others` says.
        """
        if self._study is None:
            self._study = study
            if self._file is None and self._writes:
                self._opened("xb")
            self.append(self._header(study))
        if self._study != study:
            raise InputError(
                f"the checkpoint {self.path!r} is of another {others}: give what it was made with, "
                "or another file"
            )

    def append(self, entry: Entry) -> None:
        """Add a line, which is on the disk when this returns."""
        if self._file is None or not self._writes:
            return
        self._file.write((json.dumps(entry) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Leave the file to others."""
        if self._file is not None:
            self._file.close()

    def _header(self, study: str) -> Entry:
        return {"schema_version": 1, "kind": self._kind, "study": study}

    def _opened(self, mode: str) -> IO[bytes]:
        try:
            self._file = file = open(self.path, mode)  # noqa: SIM115  (closed by `close`)
            if self._writes:
                _lock(file)
            return file
        except BlockingIOError as e:
            raise InputError(
                f"the checkpoint {self.path!r} is in use by another process: wait for its end, or "
                "give another file"
            ) from e
        except (OSError, ValueError) as e:  # ValueError: a NUL in the path
            why = getattr(e, "strerror", None) or e
            raise InputError(f"cannot use {self.path!r:.200} as a checkpoint: {why}") from e

    def _load(self, file: IO[bytes], read: Callable[[Entry], None]) -> None:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].split(b"\n")[:-1], 1):
            try:
                self._take(json.loads(line), read)
            except (ValueError, KeyError, TypeError, RecursionError, InputError) as e:
                raise self._damaged(number) from e
        beginning = json.dumps(self._header("")).removesuffix('"}').encode()
        torn = content[whole:]
        if not whole and not (torn.startswith(beginning) or beginning.startswith(torn)):
            raise self._damaged(1)
        if torn and self._writes:
            file.truncate(whole)
            file.seek(whole)

    def _take(self, line: Entry, read: Callable[[Entry], None]) -> None:
        if self._study is not None:
            read(line)
        elif line != self._header(line["study"]):
            raise ValueError(line)
        else:
            self._study = str(line["study"])

    def _damaged(self, line: int) -> InputError:
        return InputError(
            f"{self.path!r} is no checkpoint, or damaged, at line {line}: give another file, or "
            "remove it if it is a checkpoint"
        )


def _lock(file: IO[bytes]) -> None:
    """Let no other process lock the file too; BlockingIOError where one has."""
    if sys.platform == "win32":
        import msvcrt

        with suppress(PermissionError):  # what is locked cannot be written to either
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return
        raise BlockingIOError
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return
