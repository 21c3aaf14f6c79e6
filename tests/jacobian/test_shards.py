"""Networks whose weights are spread over two processes, or are elsewhere until a layer runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

import isometry
from isometry.errors import InputError
from isometry.jacobian.shards import alone
from isometry.measure import Ranks

TOGETHER = """
import json, sys
import torch, torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
import isometry
from isometry.errors import InputError
from isometry.jacobian.shards import alone

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
x = torch.linspace(-1, 1, 6)[None]

def network():
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 5)
    return nn.Sequential(*layers)

def fsdp(dtype):
    model = network().to(dtype)
    for layer in model[::2]:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)

def parallel():
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return parallelize_module(network(), mesh, plan)

def measured(model):
    before = [p.to_local().clone() for p in model.parameters() if isinstance(p, DTensor)]
    grads = [p.requires_grad for p in model.parameters()]
    j = isometry.Jacobian(model, x)
    found = {"dense": j.dense(), "columns": j @ torch.eye(6), "rows": (j.T @ torch.eye(5)).T}
    found = {name: t.tolist() for name, t in found.items()}
    for method in ("exact", "quadrature"):
        spectrum = isometry.spectrum(model, x, method=method, probes=3, check_itself=False)
        found[method] = [spectrum.singular_values.tolist(), spectrum.weights.tolist()]
    found["notes"] = j.notes
    after = [p.to_local() for p in model.parameters() if isinstance(p, DTensor)]
    found["same"] = all(map(torch.equal, before, after)) and len(before) == len(after) > 0
    found["same"] &= grads == [p.requires_grad for p in model.parameters()]
    found["same"] &= all(p.grad is None for p in model.parameters())
    model(x.to(next(model.parameters()).dtype)).sum().backward()  # it can still be trained
    found["trains"] = all(p.grad is not None for p in model.parameters())
    return found

def refused(model):
    alone.set(True)
    try:
        isometry.Jacobian(model, x)
    except InputError as e:
        return str(e)
    finally:
        alone.set(False)

ran = fsdp(torch.float32)
ran(x)  # the weights of the root are gathered now
told = {
    "fsdp": measured(fsdp(torch.float64)),
    "fsdp float32": measured(ran),
    "tensor parallel": measured(parallel()),
    "refused": refused(fsdp(torch.float32)),
}
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump(told, file)
dist.destroy_process_group()
"""


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 5)
        return nn.Sequential(*layers)


X = torch.linspace(-1, 1, 6)[None]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What two processes found."""
    folder = tmp_path_factory.mktemp("shards")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", TOGETHER]
    ranks = [
        subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in range(2)
    ]
    try:
        assert [rank.wait(timeout=90) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("fsdp", 1e-14), ("fsdp float32", 1e-6), ("tensor parallel", 1e-9)]
)
def test_a_sharded_network_has_the_jacobian_of_the_whole(told, kind, tolerance):
    dense = isometry.Jacobian(network(), X).dense()
    sigma = torch.linalg.svdvals(dense).tolist()
    for rank in told:
        found = rank[kind]
        for product in ("dense", "columns", "rows"):
            assert torch.tensor(found[product], dtype=torch.float64) == pytest.approx(
                dense, abs=tolerance
            )
        assert found["exact"][0] == pytest.approx(sigma, abs=tolerance)
    assert told[0][kind]["quadrature"] == told[1][kind]["quadrature"]


def test_it_is_left_as_it_was_and_can_be_trained(told):
    for rank in told:
        for kind in ("fsdp", "fsdp float32", "tensor parallel"):
            assert rank[kind]["same"]
            assert rank[kind]["trains"]


def test_the_report_says_that_processes_measure_together_and_by_which_routes(told):
    for kind in ("fsdp", "tensor parallel"):
        assert any("all processes measure together" in note for note in told[0][kind]["notes"])
    assert len(told[0]["fsdp"]["notes"]) == 1
    assert any("looped autograd.grad" in note for note in told[0]["tensor parallel"]["notes"])


def test_a_process_by_itself_is_refused(told):
    assert "its processes have to run it together" in told[0]["refused"]
    assert not alone.get()
    assert Ranks().size == 1


class Loads:
    """The protocol of accelerate's hooks: weights are empty until their layer runs."""

    offload = True

    def __init__(self, module: nn.Module) -> None:
        self.kept = {name: p.detach().clone() for name, p in module.named_parameters()}
        self.forward, self.runs = module.forward, 0
        self.set(module, {name: p.to("meta") for name, p in self.kept.items()})
        vars(module).update(_hf_hook=self, forward=partial(self.run, module))

    def run(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        empty = dict(module.named_parameters())
        self.set(module, {name: self.kept[name].to(p.dtype) for name, p in empty.items()})
        y = self.forward(x)
        self.set(module, {name: p.to("meta") for name, p in empty.items()})
        return y

    @staticmethod
    def set(module: nn.Module, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            module._parameters[name] = nn.Parameter(value, requires_grad=False)


def test_an_offloaded_network_is_measured_in_float64_layer_by_layer():
    offloaded = network()
    for layer in offloaded[::2]:
        Loads(layer)
    y = offloaded(X)
    j = isometry.Jacobian(offloaded, X)
    whole = isometry.Jacobian(network(), X).dense()
    assert j.dtype == torch.float64
    assert j.notes == []
    assert j.dense() == pytest.approx(whole, abs=1e-14)
    assert j @ torch.eye(6) == pytest.approx(whole, abs=1e-14)
    assert j.T @ torch.eye(5) == pytest.approx(whole.T, abs=1e-14)
    assert all(p.is_meta and p.dtype == torch.float32 for p in offloaded.parameters())
    assert torch.equal(offloaded(X), y)


def test_empty_weights_that_nothing_loads_are_refused():
    with pytest.raises(InputError, match="has no values"):
        isometry.Jacobian(network().to("meta"), X)
