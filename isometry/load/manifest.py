"""The files that a model was read from, and one digest over all of them."""

from __future__ import annotations

import hashlib

from isometry.load.source import Source


class Manifest:
    """A list of files with their digests, as ``sha256sum`` would print it.

    Attributes
    ----------
    size : int
        Of all files together, in bytes.
    """

    def __init__(self) -> None:
        """Start with no file."""
        self._lines: list[str] = []
        self.size = 0

    def add(self, source: Source) -> None:
        """Note an open file."""
        self._lines.append(f"{source.sha256()}  {source.path.name}\n")
        self.size += source.size

    @property
    def sha256(self) -> str:
        """SHA-256 of the sorted list: ``sha256sum FILES | LC_ALL=C sort | sha256sum``."""
        return hashlib.sha256("".join(sorted(self._lines)).encode()).hexdigest()
