"""Safetensors in a folder: one file, or shards with or without their index."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load import Format, load_model, sharded, sniff

NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def _net():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def _same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.fixture
def source():
    return _net()


@pytest.fixture
def folder(tmp_path, source):
    """A folder with two shards and their index."""
    here = tmp_path / "net"
    here.mkdir()
    state = source.state_dict()
    for name, layer in zip(NAMES, "01", strict=True):
        save_file({k: v for k, v in state.items() if k[0] == layer}, here / name)
    _write_index(here, {key: NAMES[int(key[0])] for key in state})
    return here


def _write_index(here, table):
    (here / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": table}))


@pytest.mark.parametrize("name", ["", INDEX])
def test_shards_with_an_index_fill_the_model_given(name, folder, source, watched):
    target = _net()
    with watched() as events:
        loaded = load_model(folder / name, model=target)
    assert _same(source, target)
    assert loaded.kind == "sharded safetensors"
    assert loaded.size == sum((folder / file).stat().st_size for file in (*NAMES, INDEX))
    assert len([event for event in events if str(folder) in event]) <= 4


def test_shards_without_an_index_are_read_when_all_are_there(folder, source):
    (folder / INDEX).unlink()
    target = _net()
    digest = load_model(folder, model=target).sha256
    assert _same(source, target)
    assert load_model(folder, model=target).sha256 == digest
    (folder / NAMES[0]).unlink()
    with pytest.raises(LoadError, match="net does not fit the model: weights 2 missing"):
        load_model(folder, model=_net())


def test_an_incomplete_set_and_several_sets_are_told_apart(folder):
    (folder / INDEX).unlink()
    (folder / NAMES[1]).rename(folder / "model-00003-of-00003.safetensors")
    with pytest.raises(LoadError, match=r"holds 2 safetensors files and no model\.safetensors\.i"):
        load_model(folder, model=_net())
    (folder / NAMES[0]).rename(folder / "model-00001-of-00003.safetensors")
    with pytest.raises(LoadError, match="net holds 2 of 3 shards; fetch the rest"):
        load_model(folder, model=_net())


def test_one_name_in_two_shards_is_an_error(folder):
    (folder / INDEX).unlink()
    save_file({"0.weight": torch.ones(1)}, folder / NAMES[1])
    with pytest.raises(LoadError, match=r"has '0\.weight', which another shard has as well"):
        load_model(folder, model=_net())


@pytest.mark.parametrize("name", ["", INDEX])
def test_without_a_model_the_weights_are_counted(name, folder):
    assert sniff(folder / INDEX) is Format.SHARD_INDEX
    words = r"weights only \(sharded safetensors, 4 tensors\), no architecture; pass --model"
    with pytest.raises(LoadError, match=words):
        load_model(folder / name)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "", "C:\\x", "a\0b"]
)
def test_an_index_does_not_lead_out_of_its_folder(name, folder):
    _write_index(folder, {"0.weight": name})
    with pytest.raises(RefusedError, match=r"index\.json leads out of its folder, to '"):
        load_model(folder, model=_net())


def test_a_link_does_not_lead_out_of_its_folder(folder, tmp_path):
    (folder / NAMES[0]).rename(tmp_path / "elsewhere.safetensors")
    (folder / NAMES[0]).symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(RefusedError, match="is a link out of its folder"):
        load_model(folder, model=_net())


def test_a_shard_or_a_tensor_that_is_not_there_is_named(folder):
    _write_index(folder, {"0.weight": NAMES[0], "9.weight": NAMES[1]})
    with pytest.raises(LoadError, match=r"lacks 1 tensor that the index expects.*'9\.weight'"):
        load_model(folder, model=_net())
    (folder / NAMES[1]).unlink()
    with pytest.raises(LoadError, match=r"index\.json names model-00002-of-00002\.safetensors, w"):
        load_model(folder, model=_net())


@pytest.mark.parametrize(
    "text",
    ['{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[", "{}"],
)
def test_a_damaged_index_is_said_to_be_one(text, folder):
    (folder / INDEX).write_text(text)
    with pytest.raises(LoadError, match=r"model\.safetensors\.index\.json is damaged: "):
        load_model(folder, model=_net())


def test_an_index_that_is_too_long_is_refused(folder):
    (folder / INDEX).write_bytes(b" " * (17 << 20))
    with pytest.raises(RefusedError, match=r"model\.safetensors\.index\.json has 17825792 bytes"):
        load_model(folder, model=_net())


def test_weights_that_memory_cannot_hold_are_not_read(folder, monkeypatch):
    monkeypatch.setattr(sharded, "default_budget", lambda device: 100)
    with pytest.raises(LoadError, match=r"take \d+ B, more than half of this machine's memory"):
        load_model(folder, model=_net())


def test_a_folder_without_weights_says_what_is_read(tmp_path):
    with pytest.raises(LoadError, match="is a directory: name a model file"):
        load_model(tmp_path)
