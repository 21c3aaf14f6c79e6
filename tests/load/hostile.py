"""Files made by hand: archives around a pickle of the test's choice."""

from __future__ import annotations

import io
import zipfile

import torch


class Calls:
    """Pickles to a call of `function`: what every pickle attack comes down to."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def write_archive(path, pickle_bytes, records=None, *, compression=zipfile.ZIP_STORED):
    """Write a torch.save file around a pickle of the test's choice."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle_bytes)
        archive.writestr("archive/byteorder", "little")
        for name, data in (records or {}).items():
            archive.writestr(f"archive/data/{name}", data)
        archive.writestr("archive/version", "3\n")
    return path


def members(value) -> dict[str, bytes]:
    """Return what torch.save writes for `value`, member by member."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, value, change, *, compression=zipfile.ZIP_STORED):
    """Save `value`, with its pickle put through `change`."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members(value).items():
            archive.writestr(name, change(data) if name.endswith("/data.pkl") else data)
    return path
