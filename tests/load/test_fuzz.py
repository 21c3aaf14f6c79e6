"""Whatever bytes a file holds, only the project's own exceptions come out."""

import io
import pickle
import random
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from isometry.errors import IsometryError
from isometry.load import load_array, load_model, sniff

SEED, CASES = 20_240, 500


def _module():
    return nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4), nn.TransformerEncoderLayer(4, 2, 8))


def _bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _npz():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.ones((3, 4)), y=np.ones(5))
    return buffer.getvalue()


def _changed(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with a few bytes flipped, cut, doubled, or replaced by an opcode."""
    out = bytearray(data)
    opcodes = [ord(value) for key, value in vars(pickle).items() if key.isupper() and _one(value)]
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not out:
            break
        at = rng.randrange(len(out))
        match rng.randrange(6):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.randrange(256)
            case 2:
                out[at] = rng.choice(opcodes)
            case 3:
                del out[at : at + rng.randrange(1, 9)]
            case 4:
                out[at:at] = out[at : at + rng.randrange(1, 40)]
            case 5:
                out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"))
    return bytes(out)


def _one(value):
    return isinstance(value, bytes) and len(value) == 1


def _changed_inside(data: bytes, rng: random.Random) -> bytes:
    """Return the archive with its pickle changed, and sums that fit: past the zip layer."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, _changed(part, rng) if name.endswith("data.pkl") else part)
    return buffer.getvalue()


def _safetensors():
    return safetensors.torch.save(_module().state_dict(), {"format": "pt"})


# name: the honest file, how it is changed, how it is read
KINDS = {
    "module": (lambda: _bytes(_module()), _changed, load_model),
    "pickle of a module": (lambda: _bytes(_module()), _changed_inside, load_model),
    "pickle of a state dict": (
        lambda: _bytes({"model": _module().state_dict(), "lr": 0.1}),
        _changed_inside,
        lambda path: load_model(path, model=_module()),
    ),
    "safetensors": (_safetensors, _changed, lambda path: load_model(path, model=_module())),
    "npz": (_npz, _changed, load_array),
}


def run(kind: str, cases: int, path, seed: int = SEED) -> dict[str, int]:
    """Read `cases` changed files; return how many loaded and how many raised what."""
    make, change, read = KINDS[kind]
    honest, rng = make(), random.Random(seed)
    path.write_bytes(honest)
    read(path)
    seen: dict[str, int] = {}
    for number in range(cases):
        data = change(honest, rng)
        path.write_bytes(data)
        outcome = "loaded"
        try:
            sniff(path)
            read(path)
        except IsometryError as error:
            outcome = type(error).__name__
            if not str(error).isprintable():
                raise AssertionError(f"{kind} {number}: {str(error)!r}") from error
        seen[outcome] = seen.get(outcome, 0) + 1
    return seen


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("kind", KINDS)
def test_changed_files_raise_only_what_the_project_raises(kind, tmp_path):
    seen = run(kind, CASES, tmp_path / "file")
    assert sum(seen.values()) == CASES
    assert seen.get("LoadError", 0) > CASES // 20
