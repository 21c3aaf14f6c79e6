"""The command line, called in process through its installed entry point."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

DATA = Path(__file__).parents[2] / "data"

NETS = '''
import sys
import time

import torch
from torch import nn


class Net(nn.Module):
    """Whatever the expression says, of the module `s` and the input `x`."""

    def __init__(self, code):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.code = code

    def forward(self, x):
        return eval(self.code, globals(), {"s": self, "x": x})


def net(code="s.layer(x)"):
    return Net(code)


def linear(width=8):
    return nn.Linear(width, width)


def forgetful():
    return nn.Linear(8, 8).state_dict()


def broken():
    raise ValueError("no such depth:\\n\\x1b[31m50")


def slow():
    return Net("(time.sleep(30), x)[1]")
'''


@dataclass(frozen=True)
class Ended:
    """How a run ended: its code, what it printed, and the files it changed."""

    code: int
    out: str
    err: str
    changed: list[str]


def listing(folder: Path) -> dict[str, object]:
    """Return every path below a folder, with the content of those that are files."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else p.is_dir()
        for p in folder.rglob("*")
    }


@pytest.fixture(scope="session")
def entry_point():
    (found,) = entry_points(group="console_scripts", name="isometry")
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with the user's own code in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "cli_nets.py").write_text(NETS)
    shutil.copy(Path(__file__).with_name("networks.py"), tmp_path)
    yield tmp_path
    for name in ("cli_nets", "networks"):
        sys.modules.pop(name, None)


@pytest.fixture
def isometry(entry_point, place, capsys):
    """Run ``isometry ARGUMENTS`` in the working directory and return how it ended."""
    run = importlib.import_module(entry_point.module).run

    def called(*arguments: object) -> Ended:
        before = listing(place)
        code = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        after = listing(place)
        changed = [k for k in {**before, **after} if before.get(k) != after.get(k)]
        return Ended(code, out, err, sorted(changed))

    return called


@pytest.fixture
def refused(isometry):
    """Run it with results asked for; it must end in one line, and leave nothing behind."""

    def called(code: int, words: str, *arguments: object, results: bool = True) -> Ended:
        wanted = ("--json", "r.json", "--figure", "f.svg") if results else ()
        ended = isometry(*arguments, *wanted)
        assert ended.code == code, ended.err
        assert re.search(words, ended.err), ended.err
        assert ended.err.startswith("error: ")
        assert ended.err.count("\n") == 1
        assert ended.err.rstrip("\n").isprintable()
        assert "Traceback" not in ended.err
        assert ended.out == ""
        assert ended.changed == []
        return ended

    return called


@pytest.fixture
def data(place):
    """Copy files of data/ into the working directory."""

    def copied(*names: str) -> None:
        for name in names:
            folder = DATA / "models" if name.endswith(".pt") else DATA
            shutil.copy(folder / name, place / name)

    return copied


@pytest.fixture
def model(place):
    """A small whole module that trains, model.pt."""
    layer = nn.Linear(8, 8)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(8))
        layer.bias.zero_()
    torch.save(layer, place / "model.pt")
    return "model.pt"


@pytest.fixture
def array(place):
    """Save an array and return its name."""

    def saved(values, name="x.npy") -> str:
        np.save(place / name, np.asarray(values))
        return name

    return saved


@pytest.fixture
def net():
    """The arguments that measure an expression of the input x, 8 numbers, and the module s."""

    def arguments(code: str) -> tuple[str, ...]:
        import json

        return ("--model", "cli_nets:net", "--kwargs", json.dumps({"code": code}), "--shape", "8")

    return arguments
