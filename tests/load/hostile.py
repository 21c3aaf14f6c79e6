"""Files made by hand: archives around a pickle of the test's choice.

As a program it opens every file of `attacks.py` twice, as it is usually opened and by this
project, and prints what came of it, in Markdown:

    python tests/load/hostile.py
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import zipfile
from pathlib import Path

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


def opened(attack, call, folder, *, memory=3 << 30) -> tuple[str, object]:
    """Write the file of an attack and open it in a child; return what came of it, in words."""
    from tests.load.child import bounded

    path, mark = folder / "model.pt", folder / "mark"
    mark.write_bytes(bytes(8))
    attack.write(path, f"echo ran > {mark}")
    ended = bounded(call, path, memory=memory)
    if mark.read_bytes() != bytes(8):
        return "**the payload ran**", ended
    if ended.how == "raised" and ("allocate" in ended.text or ended.error == "MemoryError"):
        return "asked for more than 3 GB", ended
    text = ended.text.replace(str(path), "model.pt").split("\n")[0].strip()
    return {
        "raised": f"{ended.error}: {text}",
        "returned": "loaded",
        "killed": "**the process died**",
        "no end": "not done after 20 seconds",
    }.get(ended.how, ended.how), ended


def table() -> str:
    """Return all attacks and their outcomes as a table."""
    from tests.load.attacks import ATTACKS

    rows = ["| file | as it is usually opened | isometry |", "|---|---|---|"]
    for attack in ATTACKS:
        with tempfile.TemporaryDirectory() as name:
            usual, _ = opened(attack, attack.usual, Path(name))
            ours, _ = opened(attack, attack.ours, Path(name))
        rows.append(row(attack.name, _brief(usual), words(ours)))
    return "\n".join(rows)


def row(name: str, usual: str, ours: str) -> str:
    """Return a row of the table."""
    return f"| {name} | {usual} | {ours} |"


def words(outcome: str) -> str:
    """Return what came of a file without the name of the error and what to try."""
    text = re.sub(r"^(LoadError|RefusedError): ", "", outcome).split(";")[0]
    return text.replace("|", "\\|")


def _brief(outcome: str) -> str:
    # Only the kind of error: the texts of torch are long, and change.
    return re.sub(r"^(\w+): .*", r"`\1`", outcome)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    print(table())
