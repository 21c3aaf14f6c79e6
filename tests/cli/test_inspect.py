"""`isometry inspect`."""

import json
import os
import pickle

import pytest
import torch
from torch import nn


class Gadget:
    """Unpickles to a command that leaves a file."""

    def __reduce__(self):
        return os.system, ("touch canary",)


def test_a_model_is_described_and_nothing_is_written(isometry, data):
    data("cnn.pt")
    ended = isometry("inspect", "cnn.pt")
    assert (ended.code, ended.err, ended.changed) == (0, "", [])
    lines = ended.out.splitlines()
    assert lines[0].startswith("cnn.pt: torch.save file, ")
    assert any(line.startswith("holds       whole module") for line in lines)
    assert any("torch.nn.modules.conv.Conv2d" in line for line in lines)
    assert lines[-1] == "by default  rebuilt from stock layers; nothing in it is run"


@pytest.mark.parametrize(("layers", "more"), [(4, 0), (5, 2), (21, 34)])
def test_tensors_that_are_not_listed_are_counted(layers, more, isometry):
    torch.save(nn.Sequential(*[nn.Linear(2, 2) for _ in range(layers)]), "many.pt")
    out = isometry("inspect", "many.pt").out
    assert f"{2 * layers} tensors" in out
    assert out.count("float32, ") == 2 * layers - more
    assert out.count("more, none of them larger") == (more > 0)
    assert (f"            … and {more} more, none of them larger" in out) == (more > 0)


def test_a_dangerous_file_is_described_with_code_zero(isometry, place):
    torch.save(Gadget(), "evil.pt")
    (place / "evil.pkl").write_bytes(pickle.dumps(Gadget()))
    for name in ("evil.pt", "evil.pkl"):
        ended = isometry("inspect", name)
        assert ended.code == 0
        assert "danger      asks for posix.system, which is code" in ended.out
        assert "do not open it with pickle.load or torch.load(weights_only=False)" in ended.out
        assert ended.changed == []


def test_json_goes_to_a_file_or_to_the_pipe(isometry, model, place):
    printed = json.loads(isometry("inspect", model, "--json", "-").out)
    ended = isometry("inspect", model, "--json", "r.json")
    assert ended.changed == ["r.json"]
    assert json.loads((place / "r.json").read_text(encoding="utf-8")) == printed
    assert printed["schema_version"] == 1
    assert printed["format"] == "torch.save file"
    assert printed["tensors"]["parameters"] == 72


def test_names_in_a_file_cannot_write_to_the_terminal(isometry, place):
    torch.save({"w\x1b[31m\n": torch.ones(1)}, "x\x1b.pt")
    ended = isometry("inspect", "x\x1b.pt")
    assert ended.code == 0
    assert "\x1b" not in ended.out
    assert r"w\x1b[31m\n" in ended.out


def test_what_cannot_be_looked_at_is_an_error(refused, model):
    refused(2, r"nope\.pt does not exist; ", "inspect", "nope.pt", results=False)
    refused(2, "MODEL is an empty name", "inspect", "", results=False)
    refused(2, "would replace what is read", "inspect", model, "--json", model, results=False)


def test_a_folder_is_described(isometry, place):
    (place / "folder").mkdir()
    (place / "folder" / "config.json").write_text('{"model_type": "gpt2"}')
    ended = isometry("inspect", "folder")
    assert ended.code == 0
    assert ended.out.startswith("folder: Hugging Face model folder")
    assert "file        config.json" in ended.out
