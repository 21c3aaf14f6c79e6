"""What every test shares: the seed, the files in data/, and a copy of a model's state."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

from isometry.load import build_model, load_model

ROOT = Path(__file__).parents[1]
FILES = sorted(p.stem for p in (ROOT / "data" / "models").glob("*.pt"))

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("repeatable")


def pytest_generate_tests(metafunc):
    if "file" in metafunc.fixturenames:
        metafunc.parametrize("file", FILES)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def digit():
    """The first digit as a batch of one, float32."""
    return torch.from_numpy(np.load(ROOT / "data" / "digit.npy"))[None]


@pytest.fixture(scope="session")
def data_model():
    """Load a file of data/models by its stem; every call gives a fresh copy."""
    loaded: dict[str, nn.Module] = {}

    def load(name: str) -> nn.Module:
        if name not in loaded:
            path = ROOT / "data" / "models" / f"{name}.pt"
            with pytest.MonkeyPatch.context() as patch:
                patch.syspath_prepend(ROOT)
                patch.chdir(ROOT)
                own = build_model("examples.networks:residual_mlp") if name == "resnet" else None
                loaded[name] = load_model(path, model=own).module
        return copy.deepcopy(loaded[name])

    return load


@pytest.fixture(scope="session")
def chain():
    """A square chain: `depth` Linear layers without bias, an activation between each two."""

    def make(activation, depth, width=64, *, weights="gaussian", gain=1.0, bias=False, seed=0):
        g = torch.Generator().manual_seed(seed)
        layers: list[nn.Module] = []
        for i in range(depth):
            linear = nn.Linear(width, width, bias=bias, dtype=torch.float64)
            if weights == "gaussian":
                nn.init.normal_(linear.weight, std=gain / width**0.5, generator=g)
            else:
                nn.init.orthogonal_(linear.weight, gain=gain, generator=g)
            layers.append(linear)
            if activation is not None and i < depth - 1:
                layers.append(activation())
        return nn.Sequential(*layers)

    return make


@pytest.fixture(scope="session")
def traces():
    """Everything that a measurement could leave behind, as comparable values."""

    def take(model: nn.Module) -> dict:
        backends = torch.backends
        found: dict = {
            "torch rng": torch.get_rng_state().numpy().tobytes(),
            "numpy rng": repr(np.random.get_state()),
            "python rng": random.getstate(),
            "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "default dtype": torch.get_default_dtype(),
            "tf32": (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32),
            "mkldnn": torch._C._get_mkldnn_enabled(),
            "fast path": backends.mha.get_fastpath_enabled(),
            "sdpa": (backends.cuda.flash_sdp_enabled(), backends.cuda.math_sdp_enabled()),
        }
        for name, t in [*model.named_parameters(), *model.named_buffers()]:
            grad = t.grad
            found[name] = (
                id(t), t.data_ptr(), t.dtype, t.device, t.requires_grad, t.is_leaf, t._version,
                t.detach().numpy().tobytes(),
                None if grad is None else (id(grad), grad.detach().numpy().tobytes()),
            )  # fmt: skip
        for name, m in model.named_modules():
            hooks = {k: list(v.items()) for k, v in vars(m).items() if k.endswith("hooks")}
            found[f"module {name}"] = (id(m), m.training, sorted(vars(m)), hooks)
        return found

    return take
