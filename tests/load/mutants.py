"""Honest files of every format, the ways to change their bytes, and how they are read."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from isometry.load import load_array, load_model
from isometry.load.inspect import inspect

_OPCODES = [
    ord(value)
    for name, value in vars(pickle).items()
    if name.isupper() and isinstance(value, bytes) and len(value) == 1
]
_WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80", b"99999999", b"-1", b"[[", b'{"', b"..")


@dataclass(frozen=True)
class Kind:
    """A format: an honest folder of files, which file is changed and how, and how it is read."""

    files: Callable[[], dict[str, bytes]]
    read: Callable[[Path], object]  # of the changed file
    cases: int
    change: Callable[[bytes, random.Random], bytes]
    target: str = "file"


def changed(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with a few bytes flipped, cut, doubled, or replaced by what may matter."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not out:
            break
        at = rng.randrange(len(out))
        match rng.randrange(7):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.randrange(256)
            case 2:
                out[at] = rng.choice(_OPCODES)
            case 3:
                del out[at : at + rng.randrange(1, 9)]
            case 4:
                out[at:at] = out[at : at + rng.randrange(1, 40)]
            case 5:
                word = rng.choice(_WORDS)
                out[at : at + len(word)] = word
            case 6 if rng.random() < 0.1:
                del out[at:]
    return bytes(out)


def changed_inside(data: bytes, rng: random.Random) -> bytes:
    """Return an archive with one member changed, and sums that fit: past the zip layer."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        inner = [name for name in names if name.endswith((".pkl", ".json", ".py", ".npy"))]
        chosen = rng.choice(inner)
        for name in names:
            part = old.read(name)
            new.writestr(name, changed(part, rng) if name == chosen else part)
    return buffer.getvalue()


def net():
    return nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4), nn.TransformerEncoderLayer(4, 2, 8))


@lru_cache
def _target():
    return net()


def _saved(value, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _one(make):
    return lambda: {"file": make()}


def _npy():
    buffer = io.BytesIO()
    np.save(buffer, np.ones((3, 4)))
    return buffer.getvalue()


def _npz():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.ones((3, 4)), y=np.ones(5))
    return buffer.getvalue()


def _image(form):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(buffer, form)
    return buffer.getvalue()


def _script():
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Sequential(nn.Linear(2, 2))).save(f"{folder}/m")
        return Path(folder, "m").read_bytes()


def _export():
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(3, 2),)), buffer)
    return buffer.getvalue()


def gguf():
    """Return a GGUF file of one tensor."""

    def text(words):
        return struct.pack("<Q", len(words)) + words

    entry = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    names = text(b"tokens") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"b")
    tensor = text(b"w") + struct.pack("<IQQIQ", 2, 32, 64, 2, 0)
    return b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + entry + names + tensor


def onnx(location=b"weights.bin"):
    """Return an ONNX file of one tensor, whose numbers stand in another file."""

    def number(field, value):
        return bytes([field << 3, value])

    def part(field, data):
        return bytes([field << 3 | 2, len(data)]) + data

    outside = part(1, b"location") + part(2, location)
    tensor = number(1, 3) + number(1, 4) + number(2, 1) + part(8, b"w") + part(13, outside)
    graph = part(1, b"") + part(5, tensor)
    return number(1, 8) + part(2, b"pytorch") + part(7, graph) + part(8, number(2, 17))


def _shards():
    state = nn.Linear(3, 2).state_dict()
    table = {"metadata": {}, "weight_map": {"weight": "a.safetensors", "bias": "b.safetensors"}}
    files = {
        f"{name}.safetensors": safetensors.torch.save({key: state[key]})
        for name, key in (("a", "weight"), ("b", "bias"))
    }
    return {"model.safetensors.index.json": json.dumps(table).encode(), **files}


def _config():
    config = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 11}
    config |= {"n_positions": 16, "architectures": ["GPT2Model"], "initializer_range": 0.02}
    return {"config.json": json.dumps(config).encode()}


def _distributed():
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        dcp.save(nn.Linear(3, 2).state_dict(), checkpoint_id=folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _into_net(path):
    return load_model(path, model=_target())


def _into_linear(path):
    return load_model(path, model=nn.Linear(3, 2))


def _folder_into_linear(path):
    return load_model(path.parent, model=nn.Linear(3, 2))


def _state():
    return {"model": net().state_dict(), "lr": 0.1}


KINDS = {
    "module": Kind(_one(lambda: _saved(net())), load_model, 2500, changed),
    "pickle of a module": Kind(_one(lambda: _saved(net())), load_model, 3000, changed_inside),
    "pickle of a state dict": Kind(_one(lambda: _saved(_state())), _into_net, 2000, changed_inside),
    "module, looked at": Kind(_one(lambda: _saved(net())), inspect, 800, changed_inside),
    "before torch 1.6": Kind(
        _one(lambda: _saved(net(), _use_new_zipfile_serialization=False)), inspect, 1000, changed
    ),
    "plain pickle": Kind(_one(lambda: pickle.dumps(net())), inspect, 1000, changed),
    "plain pickle, protocol 0": Kind(_one(lambda: pickle.dumps(net(), 0)), inspect, 500, changed),
    "safetensors": Kind(
        _one(lambda: safetensors.torch.save(net().state_dict())), _into_net, 2000, changed
    ),
    "safetensors index": Kind(_shards, _into_linear, 1000, changed, "model.safetensors.index.json"),
    "Hugging Face config": Kind(_config, load_model, 200, changed, "config.json"),
    "sharded checkpoint": Kind(_distributed, _folder_into_linear, 1000, changed, ".metadata"),
    "npy": Kind(_one(_npy), load_array, 1000, changed),
    "npz": Kind(_one(_npz), load_array, 1000, changed),
    "npz, looked at": Kind(_one(_npz), inspect, 500, changed_inside),
    "PNG": Kind(_one(lambda: _image("PNG")), load_array, 700, changed),
    "JPEG": Kind(_one(lambda: _image("JPEG")), load_array, 500, changed),
    "TorchScript": Kind(_one(_script), inspect, 500, changed_inside),
    "torch.export": Kind(_one(_export), inspect, 500, changed_inside),
    "GGUF": Kind(_one(gguf), inspect, 700, changed),
    "ONNX": Kind(_one(onnx), inspect, 700, changed),
}
