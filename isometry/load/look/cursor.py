"""A place in a file that moves on as numbers and text are read, and not without end."""

from __future__ import annotations

import struct

from isometry.errors import LoadError
from isometry.load.source import Source
from isometry.load.wording import show

_MAX_READS = 1_000_000
_MAX_TEXT = 1 << 12


class Cursor:
    """Reads one value after the other; a million reads are its limit.

    Attributes
    ----------
    at : int
        The byte that is read next.
    """

    def __init__(self, source: Source, at: int = 0) -> None:
        """Stand at byte `at`."""
        self.at = at
        self._source = source
        self._left = _MAX_READS

    def numbers(self, form: str) -> tuple[int, ...]:
        """Return numbers of the layout `form`, as `struct` names it."""
        start = self.at
        self.skip(struct.calcsize(form))
        return struct.unpack(form, self._source.read(self.at - start, start))

    def varint(self) -> int:
        """Return a number of as many bytes as it needs, seven bits in each."""
        value = 0
        for number in range(10):
            (byte,) = self.numbers("<B")
            value |= (byte & 127) << 7 * number
            if byte < 128:
                return value
        raise LoadError(f"makes no sense at byte {self.at}")

    def text(self, length: int) -> str:
        """Return text, safe to print, of which the start is enough."""
        start = self.at
        self.skip(length)
        data = self._source.read(min(length, _MAX_TEXT), start)
        return show(data.decode("utf-8", "replace"))

    def skip(self, size: int) -> None:
        """Move on without reading."""
        self._left -= 1
        if self._left < 0:
            raise LoadError(f"has more than {_MAX_READS} entries; the rest is not looked at")
        if self.at + size > self._source.size:
            raise LoadError(f"is cut off or damaged: byte {self.at} wants {size} more")
        self.at += size
