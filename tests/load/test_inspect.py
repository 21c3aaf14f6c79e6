"""What `inspect` finds, in honest files and in those that could do harm; it loads nothing."""

import json
import math
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from isometry.errors import LoadError
from isometry.load import Format, load_model
from isometry.load.inspect import inspect
from isometry.load.look.findings import MAX_LINES
from tests.load.attacks import ATTACKS
from tests.load.child import bounded
from tests.load.hostile import Calls, write_archive
from tests.load.mutants import KINDS, gguf, onnx

pytestmark = pytest.mark.usefixtures("canary")


class Own(nn.Linear):
    """A class that no loader knows."""


def _net():
    return nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2).half())


@pytest.fixture
def looked(tmp_path):
    """Write bytes and look at them."""

    def look(data, name="model.pt"):
        (tmp_path / name).write_bytes(data)
        return inspect(tmp_path / name)

    return look


def _dangers(found):
    return "\n".join(found.dangers)


@pytest.mark.parametrize("old", [False, True])
def test_a_module_is_described_as_loading_would_find_it(old, save):
    model = _net()
    path = save(model, _use_new_zipfile_serialization=not old)
    found = inspect(path)
    state = model.state_dict()
    assert found.kind == "whole module"
    assert found.dangers == found.members == ()
    layers = {n.name.rpartition(".")[2] for n in found.names if n.sort == "stock layer"}
    assert layers == {"Sequential", "Linear", "Tanh"}
    tensors = found.tensors
    assert tensors.count == len(state)
    assert tensors.parameters == sum(t.numel() for t in state.values())
    assert tensors.bytes == sum(t.numel() * t.element_size() for t in state.values())
    assert tensors.dtypes == {"float32": 2, "float16": 2}
    largest = tensors.largest[0]
    assert (largest.name, largest.shape, largest.bytes) == ("0.weight", (4, 8), 128)
    assert {t.name: t.shape for t in tensors.largest} == {
        k: tuple(v.shape) for k, v in state.items()
    }
    if not old:
        assert found.sha256 == load_model(path).sha256
        assert found.by_default == "rebuilt from stock layers; nothing in it is run"


def test_no_weight_is_read(save, monkeypatch):
    from isometry.load.archive import Archive

    path = save(_net())

    def read_into(_self, name, _buffer):
        assert "/data/" not in name

    monkeypatch.setattr(Archive, "read_into", read_into)
    assert inspect(path).tensors.count == 4


def test_tied_weights_count_once(save):
    shared = nn.Linear(3, 3)
    assert inspect(save(nn.Sequential(shared, shared))).tensors.count == 2


def test_a_checkpoint_and_its_optimizer_are_listed(save):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    found = inspect(save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}))
    assert found.kind == "training checkpoint (key 'model')"
    assert found.tensors.count == 2 + 2 * 3
    assert "weights only" in found.by_default


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_of_any_protocol_is_named(protocol, looked, canary):
    data = pickle.dumps({"x": [Calls(os.system, canary)], "y": Own}, protocol)
    found = looked(data)
    assert found.format is Format.PICKLE
    assert "system, which is code and no part of a model: do not open it" in _dangers(found)
    assert {(n.sort, n.called) for n in found.names if "system" in n.name} == {("code", True)}
    assert any(n.sort == "foreign" for n in found.names)


@pytest.mark.parametrize("text", [rb"S'\x6fs'", rb"S'\157s'", rb"V\u006fs"])
def test_a_name_hidden_by_escapes_is_named(text, looked):
    found = looked(b"\x80\x04" + text + b"\nS'system'\n\x93.")
    assert [n.name for n in found.names] == ["os.system"]


def test_a_pickle_that_breaks_off_says_that_more_may_follow(looked):
    found = looked(b"\x80\x04cos\nsystem\n\xff")
    assert "os.system" in _dangers(found)
    assert "was read in part" in _dangers(found)


def test_a_foreign_class_is_told_apart_from_code(save):
    found = inspect(save(Own(2, 2)))
    assert "Own: torch.load(weights_only=False) would import and run" in _dangers(found)
    assert "wants code that is not torch.nn's" in found.by_default
    assert found.tensors.count == 2


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("forward", "text", "attribute 'forward' of model would replace a method"),
        ("_forward_hooks", {0: nn.functional.relu}, "carries hooks in _forward_hooks"),
    ],
)
def test_what_only_rebuilding_finds_is_a_danger_too(attribute, value, words, save):
    layer = nn.Linear(2, 2)
    layer.__dict__[attribute] = value
    assert words in _dangers(inspect(save(layer)))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_hostile_file_is_looked_at_in_bounded_memory_and_time(attack, tmp_path, canary):
    attack.write(tmp_path / "model.pt", canary)
    ended = bounded(inspect, tmp_path / "model.pt", memory=1 << 30, seconds=20)
    assert (ended.how, ended.error) == ("returned", "")
    assert ended.growth < 1 << 29


def test_odd_members_are_listed(tmp_path):
    path = write_archive(
        tmp_path / "m.pt", b"\x80\x02N.", {"../0": bytes(9000)}, compression=zipfile.ZIP_DEFLATED
    )
    found = inspect(path)
    assert any("data/../0 is compressed: it would grow from" in line for line in found.members)
    assert any("leads out of the folder" in line for line in found.members)
    assert "compressed members" in _dangers(found)


def test_long_lists_are_cut(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        for number in range(500):
            archive.writestr(f"a/../{number}", b"")
    assert len(inspect(path).members) == MAX_LINES + 1
    assert inspect(path).members[-1] == "… and 480 more"


def test_safetensors_are_described(tmp_path):
    state = {"a": torch.ones(3, 2), "b": torch.ones(5, dtype=torch.bfloat16)}
    safetensors.torch.save_file(state, tmp_path / "m")
    found = inspect(tmp_path / "m")
    assert found.tensors.dtypes == {"float32": 1, "bfloat16": 1}
    assert (found.tensors.count, found.tensors.bytes) == (2, 34)
    assert "(safetensors, 2 tensors)" in found.by_default


def test_arrays_are_described(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.array([{}], dtype=object))
    found = inspect(tmp_path / "a.npz")
    assert [(t.name, t.shape, t.dtype) for t in found.tensors.largest] == [("x", (3, 2), "float64")]
    assert "y holds Python objects" in _dangers(found)
    np.save(tmp_path / "a.npy", np.ones(4, dtype=np.int16))
    assert inspect(tmp_path / "a.npy").tensors.dtypes == {"int16": 1}


def test_torchscript_is_described(looked):
    found = looked(KINDS["TorchScript"].files()["file"])
    assert found.format is Format.TORCHSCRIPT
    assert found.tensors.count == 2
    assert {n.sort for n in found.names if n.name.startswith("__torch__")} == {"compiled"}
    assert found.members == ()
    assert "only with --trust" in _dangers(found)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("TorchScript", "calls from_file, which can reach files of this machine"),
        ("torch.export: code", r"is Python that torch.export.load runs: __import__('os')"),
        ("torch.export: a pickle", "opaque_obj_0 is a pickle that torch.export.load runs"),
    ],
)
def test_what_a_program_would_do_is_named(name, words, tmp_path, canary):
    (attack,) = (attack for attack in ATTACKS if attack.name.startswith(name))
    attack.write(tmp_path / "model.pt", canary)
    assert words in _dangers(inspect(tmp_path / "model.pt"))


def test_an_honest_export_has_no_danger_but_its_format(looked):
    found = looked(KINDS["torch.export"].files()["file"])
    assert found.dangers == ("torch.export.load can run code from it: load it only with --trust",)
    assert found.tensors.dtypes == {"float32": 2}


def test_gguf_is_described(looked):
    found = looked(gguf())
    assert ("general.architecture", "llama") in found.facts
    assert found.tensors.largest[0].shape == (64, 32)
    assert found.tensors.bytes == math.prod((64, 32)) * 18 // 32


def test_gguf_that_claims_too_much_ends(looked):
    found = looked(b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60) + bytes(5000))
    assert "cannot be read to its end" in _dangers(found)


def test_onnx_is_described(looked):
    found = looked(onnx())
    assert {("producer", "pytorch"), ("opset", "17"), ("nodes", "1")} <= set(found.facts)
    assert found.tensors.largest[0].shape == (3, 4)
    assert found.dangers == ()
    assert "outside of its folder" in _dangers(looked(onnx(b"../../etc/passwd")))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Format.EMPTY),
        (b"<html>", Format.HTML),
        (b"version https://git-lfs.github.com/spec/v1\n", Format.LFS_POINTER),
        (b"\x89HDF\r\n\x1a\n", Format.HDF5),
        (b"\x1f\x8b\x08", Format.COMPRESSED),
        (b"PK\3\4 cut", Format.ZIP_CUT),
        (b"\0\1\2", Format.UNKNOWN),
    ],
)
def test_other_files_are_named_with_what_to_do(data, kind, looked, tmp_path):
    found = looked(data)
    assert found.format is kind
    with pytest.raises(LoadError) as error:
        load_model(tmp_path / "model.pt")
    assert found.by_default == str(error.value)


def test_a_folder_is_described_with_its_dangers(tmp_path, canary):
    config = {"model_type": "gpt2", "architectures": ["GPT2"], "auto_map": {"AutoModel": "m.X"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling\x1b.py").write_text("")
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    torch.save(Calls(os.system, canary), tmp_path / "training_args.bin")
    found = inspect(tmp_path)
    assert found.format is Format.HF_FOLDER
    assert found.sha256 is None
    assert {f.name for f in found.files} == {
        "config.json", r"modeling\x1b.py", "model.safetensors", "training_args.bin",
    }  # fmt: skip
    assert found.size == sum(f.size for f in found.files)
    assert found.tensors.count == 1
    for words in ("training_args.bin: asks for ", "auto_map", r"files of code: modeling\x1b.py"):
        assert words in _dangers(found)


def test_an_adapter_says_what_it_changes(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    found = inspect(tmp_path)
    assert ("changes", "org/base") in found.facts
    assert "merge_and_unload" in found.by_default


def test_folders_that_link_in_circles_end(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert inspect(tmp_path).files == ()


def test_everything_is_safe_to_print_and_to_write_as_json(tmp_path):
    path = write_archive(
        tmp_path / "m.pt", b"\x80\x02}X\x05\0\0\0\x1b[31mcmine\x1b[31m\nNet\n)\x81s."
    )
    found = inspect(path)
    assert found.format is Format.TORCH
    text = json.dumps(found.to_dict(), ensure_ascii=False)
    assert text.isprintable()
    assert json.loads(text)["names"][0]["name"] == r"mine\x1b[31m.Net"


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(LoadError, match=r"nope\.pt does not exist"):
        inspect(tmp_path / "nope.pt")
    with pytest.raises(LoadError, match="a device"):
        inspect("/dev/zero")
