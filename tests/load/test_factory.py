"""Models built by the user's own code."""

import sys

import pytest
from torch import nn

from isometry.errors import InputError, LoadError
from isometry.load import build_model

CODE = """
import torch
from torch import nn

def small(width=3):
    return nn.Linear(width, 2)

class Net(nn.Linear):
    pass

class Shelf:
    made = nn.Linear(5, 5)

def broken():
    return 1 / 0

def quits():
    raise SystemExit(3)

def wrong():
    return [1]

def empty():
    return nn.Linear(2, 2, device="meta")

number = 3
"""


@pytest.fixture(autouse=True)
def nets(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path / "own_nets.py"
    assert sys.path == before
    for name in ("own_nets", "own_broken", "own_syntax"):
        sys.modules.pop(name, None)


def test_a_function_a_class_and_a_model_are_taken():
    assert build_model("own_nets:small").in_features == 3
    assert build_model("own_nets:small", {"width": 7}).in_features == 7
    assert build_model("own_nets:Net", {"in_features": 2, "out_features": 4}).out_features == 4
    assert build_model("own_nets:Shelf.made").in_features == 5
    assert isinstance(build_model("torch.nn:Identity", None), nn.Identity)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("own_nets:smal", r"own_nets has no 'smal'; near it: small"),
        ("own_nets:small.deeper", r"small has no 'deeper'"),
        ("own_nope:small", "no module named 'own_nope' in the working directory"),
        ("own_nets.sub:small", r"no module named 'own_nets\.sub'"),
        ("own_nets:number", "is int, neither a model nor callable"),
        ("own_nets:wrong", r"gave builtins\.list, not a torch\.nn\.Module"),
        ("own_nets:broken", r"failed: ZeroDivisionError: .*own_nets\.py:15\)"),
        ("own_nets:quits", "failed: SystemExit: 3"),
        ("own_nets:Net", r"is a class, and calling it failed: TypeError: .*'in_features'"),
        ("own_nets:empty", r"own_nets:empty have no values \(meta"),
    ],
)
def test_what_goes_wrong_names_the_reference_and_the_cause(reference, words):
    with pytest.raises(LoadError, match=words) as error:
        build_model(reference)
    assert reference in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("reference", ["", "own_nets", ":x", "a:", "a b:c", "a:b()", "a/b:c", None])
def test_what_is_no_reference_is_said_so(reference):
    with pytest.raises(InputError, match=r"write it as pkg\.module:factory"):
        build_model(reference)


def test_arguments_for_a_model_that_is_already_built_are_an_error():
    with pytest.raises(InputError, match="is a model already and takes no arguments"):
        build_model("own_nets:Shelf.made", {"a": 1})


def test_a_module_that_fails_on_import_names_its_own_line(tmp_path):
    (tmp_path / "own_broken.py").write_text("import json\n\njson.loads('{')\n")
    with pytest.raises(LoadError, match=r"importing own_broken failed: JSON.*own_broken\.py:3\)"):
        build_model("own_broken:x")
    (tmp_path / "own_syntax.py").write_text("a = 1\nb = = 2\n")
    with pytest.raises(LoadError, match=r"importing own_syntax failed: Syntax.*own_syntax\.py:2\)"):
        build_model("own_syntax:x")
