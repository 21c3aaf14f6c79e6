"""Sharded checkpoints of torch.distributed, read without unpickling their index."""

import io
import os
import pickle
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from isometry.errors import LoadError, RefusedError
from isometry.load import load_model
from tests.load.hostile import Calls


def _net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def _same(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture
def saved(tmp_path):
    def make(state):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that there is one process only
            dcp.save(state, checkpoint_id=tmp_path / "net")
        return tmp_path / "net"

    return make


def _write(folder, shape, pieces, *, file="__0_0.distcp", length=None, transform=None):
    """Write a checkpoint of one tensor, "weight", whose pieces lie at the corners given."""
    folder.mkdir()
    stored, chunks, data = {}, [], b""
    for corner, tensor in pieces.items():
        buffer = io.BytesIO()
        torch.save(tensor, buffer)
        place = _StorageInfo(file, len(data), length or len(buffer.getvalue()), transform)
        stored[MetadataIndex("weight", torch.Size(corner))] = place
        chunks.append(ChunkStorageMetadata(torch.Size(corner), tensor.shape))
        data += buffer.getvalue()
    tensor = TensorStorageMetadata(TensorProperties(), torch.Size(shape), chunks)
    index = Metadata({"weight": tensor}, planner_data={"weight": ("weight",)}, storage_data=stored)
    (folder / ".metadata").write_bytes(pickle.dumps(index))
    (folder / "__0_0.distcp").write_bytes(data)
    return folder


STATES = {
    "sharded state dict": lambda state: state,
    "sharded training checkpoint (key 'model')": lambda state: {
        "model": state,
        "optim": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
    },
    "sharded training checkpoint (key 'net')": lambda state: {"app": {"net": state}},
}


@pytest.mark.parametrize("kind", STATES)
def test_weights_are_put_into_the_model_given(kind, saved, watched):
    source, target = _net(), _net()
    path = saved(STATES[kind](source.state_dict()))
    with watched():
        loaded = load_model(path, model=target)
    assert loaded.kind == kind
    assert _same(source, target)
    words = rf"holds weights only \({kind}, 9 tensors\)".replace("(key", r"\(key")
    with pytest.raises(LoadError, match=words.replace("'),", r"'\),")):
        load_model(path)


def test_what_torch_reads_is_what_is_read(saved):
    state = {"narrow": torch.randn(3).half(), "count": torch.tensor(4), "wide": torch.rand(2, 3, 4)}
    path = saved(state)
    theirs = {key: torch.zeros_like(value) for key, value in state.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(theirs, checkpoint_id=path)
    target = nn.Module()
    for key, value in state.items():
        target.register_buffer(key, torch.zeros_like(value))
    load_model(path, model=target)
    assert all(torch.equal(getattr(target, key), theirs[key]) for key in state)


def test_the_pieces_of_a_tensor_are_joined(tmp_path):
    whole = torch.randn(5, 4)
    corners = {(0, 0): whole[:3, :1], (0, 1): whole[:3, 1:], (3, 0): whole[3:]}
    pieces = {corner: part.clone() for corner, part in corners.items()}
    target = nn.Linear(4, 5, bias=False)
    load_model(_write(tmp_path / "net", (5, 4), pieces), model=target)
    assert torch.equal(target.weight, whole)


@pytest.mark.parametrize(
    ("pieces", "options", "words"),
    [
        ({(0, 0): torch.ones(2, 4)}, {}, r"'weight' has 8 elements in 1 pieces, for a shape of"),
        ({(0, 0): torch.ones(9, 9)}, {}, r"'weight' has 81 elements"),
        ({(1, 0): torch.ones(3, 4)}, {}, r"a piece of 'weight' at \(1, 0\) lies outside of"),
        ({(0,): torch.ones(12)}, {}, "lies outside of"),
        ({(0, 0): torch.ones(3, 4)}, {"length": 10**9}, r"distcp is cut off: 'weight' ends beyo"),
        ({(0, 0): torch.ones(3, 4)}, {"length": 100}, "is cut off or damaged"),
        ({(0, 0): torch.ones(3, 4)}, {"file": "../x.distcp"}, r"\.metadata leads out of its fol"),
        ({(0, 0): torch.ones(3, 4)}, {"file": "no.distcp"}, r"no\.distcp does not exist"),
        ({(0, 0): torch.ones(3, 4)}, {"transform": ["zstd"]}, "was compressed or encrypted"),
    ],
)
def test_pieces_that_do_not_make_the_tensor_are_an_error(pieces, options, words, tmp_path):
    path = _write(tmp_path / "net", (3, 4), pieces, **options)
    with pytest.raises(LoadError, match=words) as error:
        load_model(path, model=nn.Linear(4, 3, bias=False))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_code_in_the_index_is_refused_and_not_run(protocol, saved, canary):
    path = saved(_net().state_dict())
    (path / ".metadata").write_bytes(pickle.dumps(Calls(os.system, canary), protocol))
    with pytest.raises(RefusedError, match=r"\.metadata of net asks for (posix|nt)\.system, whi"):
        load_model(path, model=_net())


def test_code_in_a_piece_is_refused_and_not_run(tmp_path, canary):
    path = _write(tmp_path / "net", (3, 4), {(0, 0): torch.ones(3, 4)})
    buffer = io.BytesIO()
    torch.save(Calls(os.system, canary), buffer)
    held = (path / "__0_0.distcp").stat().st_size
    data = buffer.getvalue()
    index = pickle.loads((path / ".metadata").read_bytes())
    (key,) = index.storage_data
    index.storage_data[key] = _StorageInfo("__0_0.distcp", held, len(data))
    (path / ".metadata").write_bytes(pickle.dumps(index))
    with open(path / "__0_0.distcp", "ab") as file:
        file.write(data)
    with pytest.raises(RefusedError, match="is code, not a model"):
        load_model(path, model=nn.Linear(4, 3, bias=False))


@pytest.mark.parametrize("data", [b"", b"x", pickle.dumps([1]), pickle.dumps(Metadata({}))])
def test_a_damaged_index_is_said_to_be_one(data, saved):
    path = saved(_net().state_dict())
    (path / ".metadata").write_bytes(data)
    with pytest.raises(LoadError, match="damaged"):
        load_model(path, model=_net())
