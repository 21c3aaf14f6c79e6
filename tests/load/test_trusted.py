"""Files that are run because the user said so, and what they may still not do."""

import contextlib
import io
import json
import logging
import os
import pickle
import warnings
import zipfile

import pytest
import torch
from torch import nn

from isometry import analyze
from isometry.errors import LoadError, RefusedError
from isometry.load import load_model
from isometry.load.exported import open_exported
from isometry.load.source import opened
from tests.load.attacks import export_opaque, export_symbol, torchscript
from tests.load.hostile import Calls

FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Own(nn.Linear):
    """A class that no loader knows."""


def test_trust_runs_the_code_of_the_file_and_says_so(save):
    model = Own(2, 3)
    path = save(model)
    loaded = load_model(path, trust=True)
    assert type(loaded.module) is Own
    assert torch.equal(loaded.module.weight, model.weight)
    assert loaded.notes[0].startswith("the code in model.pt was run on your word (sha256 ")
    assert loaded.sha256 in loaded.notes[0]
    assert any(name.endswith(".Own") for name in loaded.classes)


def test_trust_is_refused_for_a_file_that_anyone_may_change(save, tmp_path):
    path = save(Calls(os.system, f"touch {tmp_path / 'ran'}"))
    path.chmod(0o666)
    with pytest.raises(RefusedError, match=r"may be changed by every user.*chmod o-w"):
        load_model(path, trust=True)
    assert not (tmp_path / "ran").exists()


def test_trust_gives_weights_to_the_model_given(save):
    source, target = Own(2, 2), nn.Linear(2, 2)
    for value in (source, source.state_dict(), {"model": source.state_dict()}):
        with torch.no_grad():
            target.weight.zero_()
        load_model(save(value), model=target, trust=True)
        assert torch.equal(source.weight, target.weight)


def test_trust_reads_files_from_before_torch_1_6(save):
    path = save(nn.Linear(2, 2), _use_new_zipfile_serialization=False)
    assert isinstance(load_model(path, trust=True).module, nn.Linear)


def test_what_trust_cannot_use_is_named(save, tmp_path):
    with pytest.raises(LoadError, match=r"holds builtins\.list, neither a torch module"):
        load_model(save([1, 2]), trust=True)
    with pytest.raises(LoadError, match=r"weights only .state dict, 2 tensors."):
        load_model(save(nn.Linear(2, 2).state_dict()), trust=True)
    path = save(Calls(json.loads, "{"))
    with pytest.raises(LoadError, match="cannot be loaded: JSONDecodeError"):
        load_model(path, trust=True)


def test_trust_changes_nothing_about_formats_that_are_not_read(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(RefusedError, match="is a plain pickle"):
        load_model(path, trust=True)


# --- TorchScript -------------------------------------------------------------------------


@pytest.fixture
def compiled(tmp_path):
    """Save a module as TorchScript, scripted or traced."""

    def saved(module, example=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script = torch.jit.script(module) if example is None else None
            script = script or torch.jit.trace(module, example)
            script.save(str(tmp_path / "model.pt"))
        return tmp_path / "model.pt"

    return saved


def test_torchscript_needs_the_users_word(compiled):
    words = r"refused: .*reads and writes files; .*--model pkg\.module:factory, or --trust"
    with pytest.raises(RefusedError, match=words):
        load_model(compiled(nn.Linear(2, 2)))


@pytest.mark.parametrize("example", [None, torch.ones(2, 3)])
def test_torchscript_is_run_on_the_users_word(example, compiled):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    loaded = load_model(compiled(model, example), trust=True)
    x = torch.ones(1, 3)
    assert torch.equal(loaded.module(x), model(x))
    assert loaded.kind == "TorchScript"
    assert loaded.classes == ("Sequential", "Linear", "Tanh")
    assert "was run on your word" in loaded.notes[0]
    assert "TorchScript is deprecated" in loaded.notes[1]
    assert analyze(loaded.module, x).score.value == analyze(model, x).score.value


def test_torchscript_gives_its_weights_to_the_model_given(compiled):
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    load_model(compiled(source), model=target, trust=True)
    assert torch.equal(source.weight, target.weight)


def test_refused_torchscript_touches_no_file_and_run_it_could(tmp_path):
    path, victim = tmp_path / "model.pt", tmp_path / "victim"
    victim.write_bytes(b"precious")
    torchscript(path, str(victim))
    with pytest.raises(RefusedError):
        load_model(path)
    assert victim.read_bytes() == b"precious"
    load_model(path, trust=True).module(torch.ones(1))
    assert victim.read_bytes() != b"precious"


def test_damaged_torchscript_gives_one_line(compiled):
    path = compiled(nn.Linear(2, 2))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"__torch__", b"__tor\x1bh__"))
    with pytest.raises(LoadError, match=r"cannot be loaded: .*; save it again") as error:
        load_model(path, trust=True)
    assert str(error.value).isprintable()


# --- torch.export ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs():
    """An exported network with a fixed batch of 2, and one with any batch."""
    model, x = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).eval(), torch.ones(2, 3)
    batch = torch.export.Dim("batch")
    fixed = torch.export.export(model, (x,))
    free = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    saved = {}
    for name, program in (("fixed", fixed), ("free", free)):
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        saved[name] = buffer.getvalue()
    return model, saved


@pytest.fixture
def exported(programs, tmp_path):
    """Write an exported program, with some of its members replaced or added."""

    def written(name="fixed", change=lambda members: members):
        with zipfile.ZipFile(io.BytesIO(programs[1][name])) as archive:
            members = {entry: archive.read(entry) for entry in archive.namelist()}
        with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
            for entry, data in change(members).items():
                archive.writestr(entry, data)
        return tmp_path / "model.pt2"

    return written


def _pickled_weight(command):
    """Make a weight a pickle."""
    buffer = io.BytesIO()
    torch.save(Calls(os.system, command), buffer)

    def change(members):
        (name,) = (key for key in members if key.endswith("model_weights_config.json"))
        table = json.loads(members[name])
        table["config"]["0.weight"] |= {"use_pickle": True, "tensor_meta": None}
        (weight,) = (key for key in members if key.endswith("weight_0"))
        return members | {name: json.dumps(table).encode(), weight: buffer.getvalue()}

    return change


@pytest.mark.parametrize("attack", [export_symbol, export_opaque])
def test_a_crafted_export_is_refused_and_not_run(attack, tmp_path, canary):
    attack(tmp_path / "model.pt2", canary)
    with pytest.raises(RefusedError, match=r"can carry code that runs when it is opened; .*trust"):
        load_model(tmp_path / "model.pt2")


@pytest.mark.parametrize("attack", [export_symbol, export_opaque])
def test_why_the_variable_of_torch_does_not_make_an_export_safe(attack, tmp_path, monkeypatch):
    monkeypatch.setenv(FORCED, "1")
    attack(tmp_path / "model.pt2", f"echo ran > {tmp_path / 'ran'}")
    logging.disable()
    with contextlib.suppress(Exception):  # it may fail after the command was run
        torch.export.load(tmp_path / "model.pt2")
    logging.disable(logging.NOTSET)
    if not (tmp_path / "ran").exists():
        pytest.skip("this release of torch has closed the hole")


def test_an_export_cannot_run_a_pickle_in_a_weight_even_when_trusted(exported, canary):
    path = exported("fixed", _pickled_weight(canary))
    with pytest.raises(LoadError, match="cannot be loaded: UnpicklingError"):
        load_model(path, trust=True)


@pytest.mark.parametrize("before", [None, "0"])
def test_the_environment_is_as_it_was(before, exported, monkeypatch):
    monkeypatch.delenv(FORCED, raising=False)
    if before is not None:
        monkeypatch.setenv(FORCED, before)
    load_model(exported(), trust=True)
    assert os.environ.get(FORCED) == before


def test_an_export_is_measured_on_the_users_word(programs, exported):
    loaded = load_model(exported(), trust=True)
    x = torch.ones(2, 3)
    assert loaded.kind == "torch.export program"
    assert torch.equal(loaded.module(x), programs[0](x))
    words = "export froze the mode (train or eval) and the input shape, batch included: (2, 3)"
    assert loaded.notes[1] == words
    score = analyze(loaded.module, x).score.value
    assert score == pytest.approx(analyze(programs[0], x).score.value)


def test_an_export_for_any_batch_says_which_size_is_free(exported):
    loaded = load_model(exported("free"), trust=True)
    assert "(s" in loaded.notes[1]
    assert loaded.module(torch.ones(7, 3)).shape == (7, 3)


def test_machine_code_is_not_opened(exported):
    path = exported("fixed", lambda members: {**members, "m/data/aotinductor/m/a.so": b"\x7fELF"})
    with pytest.raises(LoadError, match="compiled by AOTInductor and has no derivatives"):
        load_model(path, trust=True)


def test_a_damaged_export_gives_its_reason_and_logs_nothing(exported, caplog):
    def damaged(members):
        return {k: v[:-9] if "models/" in k else v for k, v in members.items()}

    path = exported("fixed", damaged)
    with pytest.raises(LoadError, match=r"cannot be loaded: \w*Error: .*; save it again"):
        load_model(path, trust=True)
    with opened(path) as source, pytest.raises(Exception, match=r"\w"):
        open_exported(source)
    assert caplog.records == []
