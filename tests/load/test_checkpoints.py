"""Weights without architecture: state dicts, training checkpoints, safetensors."""

import argparse
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load import load_model
from tests.load.hostile import rewritten


def _net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


class Own(nn.Module):
    """A class that no loader knows."""

    def __init__(self):
        super().__init__()
        self.body = _net()
        self.scale = nn.Parameter(torch.rand(1))
        self.register_buffer("hidden", torch.rand(1), persistent=False)

    def forward(self, x):
        return self.scale * self.body(x)


def _same(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def _prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


CONTENTS = {
    "state dict": lambda state: state,
    "training checkpoint (key 'model_state_dict')": lambda state: {
        "epoch": 3,
        "model_state_dict": state,
        "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]},
    },
    "training checkpoint (key 'net')": lambda state: {"net": state, "acc": 0.9},
    "training checkpoint (key 'ema')": lambda state: {"ema": state},
    "Lightning checkpoint (key 'state_dict')": lambda state: {
        "pytorch-lightning_version": "2.1",
        "hyper_parameters": {"lr": 0.1},
        "state_dict": _prefixed(state, "model."),
    },
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_weights_are_put_into_the_model_given(kind, save):
    source, target = _net(), _net()
    loaded = load_model(save(CONTENTS[kind](source.state_dict())), model=target)
    assert loaded.kind == kind
    assert loaded.module is target
    assert loaded.classes == ()
    assert _same(source, target)


@pytest.mark.parametrize("kind", CONTENTS)
def test_weights_without_a_model_say_what_is_missing(kind, save):
    path = save(CONTENTS[kind](_net().state_dict()))
    with pytest.raises(LoadError, match="holds weights only") as error:
        load_model(path)
    assert kind in str(error.value)
    assert "9 tensors" in str(error.value)
    assert "pass --model pkg.module:factory" in str(error.value)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_one_prefix_shared_by_all_names_is_dropped_with_a_note(prefix, save):
    source, target = _net(), _net()
    loaded = load_model(save(_prefixed(source.state_dict(), prefix)), model=target)
    assert _same(source, target)
    assert loaded.notes == (f"prefix '{prefix}' dropped from the names of the weights",)


def test_safetensors_are_put_into_the_model_given(tmp_path):
    source, target = _net(), _net()
    safetensors.torch.save_file(source.state_dict(), tmp_path / "m.safetensors", {"format": "pt"})
    loaded = load_model(tmp_path / "m.safetensors", model=target)
    assert loaded.kind == "safetensors"
    assert _same(source, target)
    with pytest.raises(LoadError, match=r"weights only \(safetensors, 9 tensors\)"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool])
def test_safetensors_agree_with_the_library(dtype, tmp_path):
    tensors = {"a": torch.ones(2, 0), "b": torch.tensor(1), "c": torch.arange(6).view(2, 3)}
    tensors = {key: value.to(dtype) for key, value in tensors.items()}
    safetensors.torch.save_file(tensors, tmp_path / "m")
    target = nn.Module()
    for key, value in tensors.items():
        target.register_buffer(key, torch.zeros_like(value))
    load_model(tmp_path / "m", model=target)
    assert all(torch.equal(getattr(target, k).float(), v.float()) for k, v in tensors.items())


def test_weights_of_another_type_are_converted_with_a_note(save):
    source, target = nn.Linear(2, 2).half(), nn.Linear(2, 2)
    loaded = load_model(save(source.state_dict()), model=target)
    assert loaded.notes == ("weights of torch.float16 converted to torch.float32",)
    assert torch.equal(target.weight, source.weight.float())


def test_a_checkpoint_that_names_own_classes_still_gives_its_weights(save):
    source, target = _net(), _net()
    path = save({"state_dict": source.state_dict(), "args": argparse.Namespace(lr=1), "by": Own()})
    loaded = load_model(path, model=target)
    assert _same(source, target)
    assert loaded.notes[0].startswith("not read, only named in the file: ")
    assert "Own" in loaded.notes[0]
    assert "Namespace" not in loaded.notes[0]


def test_a_module_of_an_own_class_is_refused_with_the_ways_on(save):
    with pytest.raises(RefusedError, match=r"not torch\.nn's: .*\.Own; pass --model .*--trust"):
        load_model(save(Own()))


def test_a_module_of_an_own_class_gives_its_weights_to_the_model_given(save):
    source, target = Own(), Own()
    before = target.hidden.clone()
    loaded = load_model(save(source), model=target)
    assert loaded.kind == "whole module"
    assert _same(source, target)
    assert torch.equal(target.hidden, before)


def test_a_stock_module_inside_a_checkpoint_is_rebuilt(save):
    source = _net()
    loaded = load_model(save({"model": source, "optimizer": None}))
    assert loaded.kind == "training checkpoint (key 'model')"
    assert _same(source, loaded.module)


def test_names_and_shapes_that_do_not_fit_are_counted_and_the_first_is_named(save):
    state = _net().state_dict()
    del state["0.weight"], state["0.bias"]
    state["2.weight"] = torch.ones(9, 9)
    state["extra\x1b"] = torch.ones(1)
    target, before = _net(), None
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(LoadError) as error:
        load_model(save(state), model=target)
    text = str(error.value)
    assert "does not fit the model: weights 2 missing (first '0.weight')" in text
    assert r"1 unexpected (first 'extra\x1b')" in text
    assert "1 of another shape (first '2.weight': (9, 9) in the file, (2, 4) in the model)" in text
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_old_weights_without_the_counter_of_batch_norm_fit(save):
    source, target = _net(), _net()
    state = source.state_dict()
    del state["1.num_batches_tracked"]
    load_model(save(dict(state)), model=target)
    assert _same(source, target)


def test_versions_in_a_state_dict_reach_the_model(save):
    seen = []

    class Versioned(nn.Linear):
        _version = 7

        def _load_from_state_dict(self, state, prefix, metadata, *rest):
            seen.append(metadata.get("version"))
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    load_model(save(Versioned(2, 2).state_dict()), model=Versioned(2, 2))
    assert seen == [7]


def test_a_model_whose_own_hooks_fail_gives_one_line(save):
    model = nn.Linear(2, 2)
    model.register_load_state_dict_post_hook(lambda *_: 1 / 0)
    with pytest.raises(LoadError, match="ZeroDivisionError: division by zero"):
        load_model(save(nn.Linear(2, 2).state_dict()), model=model)


def test_weights_on_the_meta_device_have_no_values(save):
    with pytest.raises(LoadError, match=r"model\.weight has no values \(it was saved on the meta"):
        load_model(save(nn.Linear(2, 2, device="meta")))
    with pytest.raises(LoadError, match="parameters of the model given have no values"):
        load_model(save(nn.Linear(2, 2).state_dict()), model=nn.Linear(2, 2, device="meta"))


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_have_no_values(save):
    with pytest.raises(LoadError, match="lazy layers, whose parameters have no values"):
        load_model(save(nn.Sequential(nn.LazyLinear(2))))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(3), "holds one tensor, no model; is it meant as --input"),
        ([1, 2], "holds a list, no model; save the model itself or its state_dict"),
        (3, "holds an int, no model; save the model"),
        (None, "holds None, no model; save the model"),
        ({"a": 1, "b\n": 2}, r"its keys: a, b\\n.*; save the model"),
        (OrderedDict(), r"dict without weights that are known by name \(it is empty\); save"),
        ({"state_dict": {}}, "dict without weights"),
        (torch.optim.SGD([torch.ones(1)]).state_dict(), "state of an optimizer, no weights; save"),
    ],
)
def test_what_is_no_model_is_named(value, words, save):
    with pytest.raises(LoadError, match=words):
        load_model(save(value))


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_are_refused(save):
    path = save({"w": torch.eye(3).to_sparse()})
    with pytest.raises(RefusedError, match="w is no plain dense tensor"):
        load_model(path, model=nn.Identity())


def test_tensors_with_attributes_are_read_without_them(save):
    tensor = torch.rand(2, 2)
    tensor.note = "kept by torch"
    state = nn.Linear(2, 2).state_dict()
    state["weight"] = tensor
    target = nn.Linear(2, 2)
    load_model(save(state), model=target)
    assert torch.equal(target.weight, tensor)


def test_big_endian_files_are_named(tmp_path):
    import zipfile

    path = rewritten(tmp_path / "m.pt", nn.Linear(2, 2).state_dict(), lambda data: data)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, b"big" if name.endswith("byteorder") else data)
    with pytest.raises(LoadError, match="in big byte order"):
        load_model(path, model=nn.Linear(2, 2))


def _safetensors(path, header, data=b"", length=None):
    length = len(header) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + header + data)
    return path


ONE = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"{}" + b" " * 9 + b"}", b"", "header cannot be read"),
        (b'{"a":' + b"[" * 50_000 + b"}", b"", "header cannot be read"),
        (ONE, b"\0" * 4, "is cut off: its tensors take 8 bytes, it has 4 bytes"),
        (ONE, b"\0" * 9, "bytes are left after its tensors; fetch it again"),
        (ONE.replace(b"[2]", b"[3]"), b"\0" * 8, "entry of a makes no sense"),
        (ONE.replace(b"[2]", b"[-2]"), b"\0" * 8, "entry of a makes no sense"),
        (ONE.replace(b"[2]", b"[9999999999999999999,0]"), b"\0" * 8, "makes no sense"),
        (
            ONE.replace(b"F32", b"F\\n"),
            b"\0" * 8,
            r"holds a in F\\n, which is not read; save it in F32",
        ),
        (ONE[:-1] + b"," + ONE[1:], b"\0" * 8, "a name is given twice"),
        (ONE[:-1] + b"," + ONE[1:].replace(b'"a"', b'"b"'), b"\0" * 8, "overlap or leave holes"),
        (b'{"a":1}   ', b"", "entry of a makes no sense"),
    ],
)
def test_damaged_safetensors_are_named(header, data, words, tmp_path):
    with pytest.raises(LoadError, match=words):
        load_model(_safetensors(tmp_path / "m", header, data), model=nn.Identity())
