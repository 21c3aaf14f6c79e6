"""Models built by the user's own code."""

import contextlib
import random
import sys

import numpy as np
import pytest
import torch
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

drawn_at_import = nn.Linear(3, 3)

def drawing(width=3):
    import random
    import numpy as np
    layer = nn.Linear(width, width)
    with torch.no_grad():
        layer.bias[0] = random.random()
        layer.bias[1] = np.random.rand()
    return layer

def seeding():
    torch.manual_seed(77)
    return nn.Linear(3, 3)

def broken():
    return 1 / 0

def quits():
    raise SystemExit(3)

def wrong():
    return [1]

def empty():
    return nn.Linear(2, 2, device="meta")

class Headless(nn.Module):
    def __init__(self):
        self.made = True

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
        ("own_nets:small.deeper", r"small has no 'deeper'; name a function that returns the mod"),
        ("own_nope:small", "no module named 'own_nope' in the working directory"),
        ("own_nets.sub:small", r"no module named 'own_nets\.sub'"),
        ("own_nets:number", "is int, neither a model nor callable"),
        ("own_nets:wrong", r"gave builtins\.list, not a torch\.nn\.Module"),
        (
            "own_nets:Headless",
            r"gave a module whose __init__ does not call super\(\)\.__init__\(\)",
        ),
        ("own_nets:broken", r"failed: ZeroDivisionError: .*own_nets\.py:30\)"),
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


# ------------------------------------------------------------------ random numbers


def parameters(reference, seed, **kwargs):
    sys.modules.pop("own_nets", None)  # as a new process would import it
    return [p.detach().clone() for p in build_model(reference, kwargs, seed=seed).parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


DRAWING = [
    ("own_nets:drawing", {}),
    ("own_nets:drawn_at_import", {}),
    ("torch.nn:Linear", {"in_features": 3, "out_features": 2}),
]


@pytest.mark.parametrize(("reference", "kwargs"), DRAWING)
def test_the_seed_alone_decides_what_a_factory_draws(reference, kwargs):
    first = parameters(reference, 0, **kwargs)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    assert same(first, parameters(reference, 0, **kwargs))
    other = parameters(reference, 1, **kwargs)
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_each_of_the_three_generators_is_seeded():
    one, other = (parameters("own_nets:drawing", seed)[1] for seed in (0, 1))
    assert all(one != other)  # of Python, of NumPy, of torch


@pytest.mark.parametrize("seed", [0, 2**32, 2**63 - 1, -1])
def test_seeds_of_every_size_are_taken(seed):
    assert same(parameters("own_nets:drawing", seed), parameters("own_nets:drawing", seed))


@pytest.mark.parametrize("name", ["drawing", "drawn_at_import", "seeding", "broken", "quits"])
def test_the_global_generators_are_left_as_they_were(name):
    sys.modules.pop("own_nets", None)

    def now():
        torch_state = torch.get_rng_state().numpy().tobytes()
        return torch_state, repr(np.random.get_state()), random.getstate()

    generator, before = np.random.get_bit_generator(), now()
    with contextlib.suppress(LoadError):
        build_model(f"own_nets:{name}", seed=3)
    assert now() == before
    assert np.random.get_bit_generator() is generator


def test_a_factory_that_seeds_itself_is_not_overruled():
    assert same(parameters("own_nets:seeding", 0), parameters("own_nets:seeding", 1))


def test_a_generator_of_another_kind_is_set_aside_and_put_back():
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(1))  # which np.random.seed refuses
    try:
        state = repr(np.random.get_state(legacy=False))
        assert same(parameters("own_nets:drawing", 2), parameters("own_nets:drawing", 2))
        assert repr(np.random.get_state(legacy=False)) == state
    finally:
        np.random.set_bit_generator(before)
