"""Files made to do harm, and files that are not what they seem: one function each.

Each takes a path to write to and a command that its payload would run.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from isometry.load import load_array, load_model
from tests.load.hostile import Calls, members, rewritten, write_archive


@dataclass(frozen=True)
class Attack:
    """What it is called, how it is written, and how it is opened: usually, and by us."""

    name: str
    write: Callable[[Any, str], object]
    usual: Callable[[str], object]
    ours: Callable[[str], object]


def torch_load(path):
    return torch.load(path, weights_only=True)


def torch_load_with_layers(path):
    """As users do who want whole modules: with the stock layers allowed."""
    layers = [nn.Linear, nn.Sequential, torch.Tensor, set, nn.functional.relu]
    with torch.serialization.safe_globals(layers):
        return torch.load(path, weights_only=True)


def torch_load_with_eval(path):
    with torch.serialization.safe_globals([eval]):
        return torch.load(path, weights_only=True)


def jit_load_and_run(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(path)(torch.ones(1))


def export_load(path):
    import logging

    logging.disable()
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    return torch.export.load(path)


def safetensors_load(path):
    import safetensors.torch

    return safetensors.torch.load_file(path)


def into_linear(path):
    return load_model(path, model=nn.Linear(2, 2))


# --- code that a pickle calls ------------------------------------------------------------


def shell(path, command):
    torch.save(Calls(os.system, command), path)


def evaluated(path, command):
    torch.save(Calls(eval, f"__import__('os').system({command!r})"), path)


def beside_weights(path, command):
    torch.save({"state_dict": nn.Linear(2, 2).state_dict(), "x": Calls(os.system, command)}, path)


def protocol_four(path, command):
    torch.save(Calls(os.system, command), path, pickle_protocol=4)


def legacy(path, command):
    torch.save(Calls(os.system, command), path, _use_new_zipfile_serialization=False)


def plain_pickle(path, command):
    path.write_bytes(pickle.dumps(Calls(os.system, command)))


def text_pickle(path, command):
    path.write_bytes(pickle.dumps(Calls(os.system, command), protocol=0))


def joblib_dump(path, command):
    path.write_bytes(zlib.compress(pickle.dumps(Calls(os.system, command))))


def object_array(path, command):
    with path.open("wb") as file:
        np.save(file, np.array([Calls(os.system, command)], dtype=object), allow_pickle=True)


# --- stock layers put to another use -----------------------------------------------------


def _linear(**attributes):
    layer = nn.Linear(2, 2)
    layer.__dict__.update(attributes)
    return layer


def constructor(path, _):
    torch.save(Calls(nn.Linear, 60000, 20000), path)


def forward_replaced(path, _):
    torch.save(_linear(forward=nn.functional.relu), path)


def hook(path, _):
    torch.save(_linear(_forward_hooks={0: nn.functional.relu}), path)


def module_called(path, _):
    build = torch._tensor._rebuild_from_type_v2
    call = Calls(build, nn.Linear(2, 2), torch.Tensor, (torch.ones(2),), {})
    torch.save({"weight": call, "bias": torch.ones(2)}, path)


def module_in_itself(path, _):
    model = nn.Sequential(nn.Linear(2, 2))
    model._modules["1"] = model
    torch.save(model, path)


def doubled(path, _):
    model = nn.Linear(2, 2)
    for _level in range(40):
        model = nn.Sequential(model, model)
    torch.save(model, path)


# --- sizes -------------------------------------------------------------------------------


def terabyte(path, _):
    torch.save({"weight": torch.ones(1).expand(10**12), "bias": torch.ones(2)}, path)


def _seven(path, change):
    rewritten(path, {"weight": torch.ones(7)}, change)


def beyond_storage(path, _):
    _seven(path, lambda data: data.replace(b"QK\x00K\x07", b"QK\x03K\x07"))


def negative_stride(path, _):
    minus = b"J\xff\xff\xff\xff"
    _seven(path, lambda d: re.sub(rb"(K\x07\x85q.)K\x01", lambda m: m[1] + minus, d))


def other_record(path, _):
    parts = members({"weight": torch.ones(7)})
    pickled = next(data for name, data in parts.items() if name.endswith("data.pkl"))
    write_archive(path, pickled, {"0": b"\0" * 4})


def flipped_byte(path, _):
    torch.save(nn.Linear(64, 64), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def nested_lists(path, _):
    model = nn.Linear(2, 2)
    model.note = "NEST"
    nest = b"]" * 50_000 + b"a" * 49_999
    word = pickle.BINUNICODE + b"\4\0\0\0NEST"
    rewritten(path, model, lambda data: data.replace(word, nest))


def dict_in_itself(path, _):
    table: dict = {}
    table["state_dict"] = table
    torch.save(table, path)


# --- the archive around it ---------------------------------------------------------------


def zip_bomb(path, _):
    value = {"weight": torch.zeros(25_000_000)}
    rewritten(path, value, lambda data: data, compression=zipfile.ZIP_DEFLATED)


def _two_members(path, name="a/other"):
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        archive.writestr(name, b"\x80\x02}.")


def overlapping(path, _):
    _two_members(path)
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = (4).to_bytes(4, "little")
    path.write_bytes(data)


def twice_the_name(path, _):
    _two_members(path, "a/data.pkl")


def million_members(path, _):
    _two_members(path)
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    wide = b"PK\6\6" + bytes(20) + (10**6).to_bytes(8, "little") * 2 + bytes(16)
    path.write_bytes(data[:end] + wide + b"PK\6\7" + bytes(16) + data[end:])


# --- safetensors -------------------------------------------------------------------------


def _safetensors(path, table, data=b"", padding=0):
    header = json.dumps(table).encode() + b" " * padding
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def _entry(shape, begin, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def header_bloat(path, _):
    _safetensors(path, {f"{n:09d}": _entry([0], 0, 0) for n in range(300_000)})


def header_claim(path, _):
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}" + bytes(64))


def zero_size_overlap(path, _):
    _safetensors(path, {"a": _entry([2], 0, 8), "b": _entry([0], 4, 4)}, bytes(8))


def overlap(path, _):
    _safetensors(path, {"weight": _entry([2, 2], 0, 16), "bias": _entry([2], 8, 16)}, bytes(16))


def deep_header(path, _):
    header = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    path.write_bytes(len(header).to_bytes(8, "little") + header)


# --- programs ----------------------------------------------------------------------------


class _Writes(nn.Module):
    """Overwrites a file in its forward pass, with nothing but what TorchScript allows."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def forward(self, x):
        return x + torch.from_file(self.path, shared=True, size=2).fill_(1.0).sum()


def torchscript(path, command):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(_Writes(command.split()[-1])).save(str(path))


def _exported(path, change):
    from torch.export import Dim, export, save

    buffer = io.BytesIO()
    shapes = ({0: Dim("batch")},)
    save(export(nn.Linear(2, 2), (torch.ones(3, 2),), dynamic_shapes=shapes), buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
        for name, data in change({name: old.read(name) for name in old.namelist()}).items():
            new.writestr(name, data)


def export_symbol(path, command):
    code = f"__import__('os').system({command!r}) + Symbol('s".encode()
    _exported(path, lambda m: {k: v.replace(b"Symbol('s", code) for k, v in m.items()})


def export_opaque(path, command):
    config = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
    table = {"config": {"c": {**config, "tensor_meta": None}}}

    def change(parts):
        (name,) = (key for key in parts if key.endswith("model_constants_config.json"))
        payload = pickle.dumps(Calls(os.system, command))
        folder = name.rpartition("/")[0]
        return {**parts, name: json.dumps(table).encode(), f"{folder}/opaque_obj_0": payload}

    _exported(path, change)


# --- not what they seem ------------------------------------------------------------------


def _bytes(data):
    return lambda path, _: path.write_bytes(data)


def cut_off(path, _):
    torch.save(nn.Linear(8, 8), path)
    path.write_bytes(path.read_bytes()[:-200])


def terminal(path, _):
    write_archive(path, b"\x80\x02cmine\x1b[31m\nNet\xe2\x80\xae\n)\x81.")


ATTACKS = (
    Attack("a call of `os.system`", shell, torch_load, load_model),
    Attack("a call of `eval`", evaluated, torch_load, load_model),
    Attack("a call of `eval`, allowed by the user", evaluated, torch_load_with_eval, load_model),
    Attack("`os.system` beside honest weights", beside_weights, torch_load, into_linear),
    Attack("`os.system` in a pickle of protocol 4", protocol_four, torch_load, load_model),
    Attack("`os.system` in the format before torch 1.6", legacy, torch_load, load_model),
    Attack("`os.system` in a plain pickle", plain_pickle, torch_load, load_model),
    Attack("`os.system` in a pickle of protocol 0", text_pickle, torch_load, load_model),
    Attack("`os.system` in a compressed joblib dump", joblib_dump, torch_load, load_model),
    Attack("`os.system` in an array of objects (`np.load`)", object_array, np.load, load_array),
    Attack("a call of `nn.Linear(60000, 20000)`", constructor, torch_load_with_layers, load_model),
    Attack("`forward` replaced in a layer", forward_replaced, torch_load_with_layers, load_model),
    Attack("a hook in a layer", hook, torch_load_with_layers, load_model),
    Attack("a layer called while loading", module_called, torch_load_with_layers, into_linear),
    Attack("a module in itself", module_in_itself, torch_load_with_layers, load_model),
    Attack("40 levels of modules that double", doubled, torch_load_with_layers, load_model),
    Attack("10¹² elements on 4 bytes (stride 0)", terabyte, torch_load, into_linear),
    Attack("a view beyond its storage", beyond_storage, torch_load, into_linear),
    Attack("a negative stride", negative_stride, torch_load, into_linear),
    Attack("a record shorter than claimed", other_record, torch_load, into_linear),
    Attack("one bit of a weight flipped", flipped_byte, torch_load_with_layers, load_model),
    Attack("50,000 nested lists", nested_lists, torch_load_with_layers, load_model),
    Attack("a dict in itself", dict_in_itself, torch_load, load_model),
    Attack("100 MB deflated to 0.1 MB", zip_bomb, torch_load, into_linear),
    Attack("overlapping members", overlapping, torch_load, load_model),
    Attack("two members of one name", twice_the_name, torch_load, load_model),
    Attack("a directory of a million members", million_members, torch_load, load_model),
    Attack("safetensors: 300,000 empty tensors", header_bloat, safetensors_load, into_linear),
    Attack("safetensors: a header of 1 TB claimed", header_claim, safetensors_load, into_linear),
    Attack("safetensors: an empty tensor inside another", zero_size_overlap, safetensors_load,
           into_linear),
    Attack("safetensors: two tensors on the same bytes", overlap, safetensors_load, into_linear),
    Attack("safetensors: 100,000 nested lists", deep_header, safetensors_load, into_linear),
    Attack("TorchScript that overwrites a file (`torch.jit.load` and run)", torchscript,
           jit_load_and_run, load_model),
    Attack("torch.export: code as a size (`torch.export.load`, forced to weights only)",
           export_symbol, export_load, load_model),
    Attack("torch.export: a pickle as a constant (the same)", export_opaque, export_load,
           load_model),
    Attack("an empty file", _bytes(b""), torch_load, load_model),
    Attack("a file cut off", cut_off, torch_load, load_model),
    Attack("a git-LFS pointer", _bytes(b"version https://git-lfs.github.com/spec/v1\n"),
           torch_load, load_model),
    Attack("a web page", _bytes(b"<!DOCTYPE html><html>"), torch_load, load_model),
    Attack("a text", _bytes(b"esst\n"), torch_load, load_model),
    Attack("a GGUF file", _bytes(b"GGUF\3\0\0\0" + bytes(20)), torch_load, load_model),
    Attack("an ONNX file", _bytes(b"\x08\x08\x12\x07pytorch"), torch_load, load_model),
    Attack("a Keras file", _bytes(b"\x89HDF\r\n\x1a\n" + bytes(20)), torch_load, load_model),
    Attack("a class name with terminal codes", terminal, torch_load, load_model),
)  # fmt: skip
