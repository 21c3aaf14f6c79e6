"""Exact singular values: isometry against ``torch.func.jacrev`` + ``svdvals``, side by side.

Question: is the exact spectrum, self-check apart, at most as slow as what a user would write
by hand? Both sides turn a float32 network into float64 singular values of one input; the rival
is timed twice, with and without the conversion of the network to float64.

    python benchmarks/exact_spectrum.py   # prints a table, writes results/exact_spectrum-cpu.json
"""

from __future__ import annotations

import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jacrev

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from isometry.jacobian import Jacobian  # noqa: E402
from isometry.load import build_model, load_array, load_model  # noqa: E402
from isometry.measure import exact  # noqa: E402


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """Every network in data/models, and two larger ones."""
    digit = torch.as_tensor(load_array(ROOT / "data/digit.npy"))[None]
    found = {}
    for path in sorted((ROOT / "data/models").glob("*.pt")):
        residual = build_model("examples.networks:residual_mlp", {})
        loaded = load_model(path, model=residual if path.stem == "resnet" else None)
        found[path.stem] = (loaded.module.eval(), digit)
    g = torch.Generator().manual_seed(0)
    wide = nn.Sequential(*[m for _ in range(20) for m in (nn.Linear(500, 500), nn.Tanh())])
    found["MLP 500 x 20"] = (wide, torch.randn(1, 500, generator=g))
    convolutions = [m for _ in range(8) for m in (nn.Conv2d(16, 16, 3, padding=1), nn.Tanh())]
    cnn = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *convolutions)
    found["CNN 16 x 8x8, depth 9"] = (cnn, torch.randn(1, 3, 8, 8, generator=g))
    return found


def ours(model: nn.Module, x: Tensor) -> np.ndarray:
    """Singular values as `isometry.analyze` takes them, without the self-check."""
    return exact(Jacobian(model, x, self_check=False)).spectrum.singular_values


def by_hand(model64: nn.Module, x: Tensor) -> np.ndarray:
    """Singular values as a user would write it, on a float64 copy of the network."""
    x64 = x.double()
    jacobian = jacrev(model64)(x64)
    return torch.linalg.svdvals(jacobian.reshape(-1, x64.numel())).detach().numpy()


def compare(model: nn.Module, x: Tensor, repeats: int) -> dict[str, float]:
    """Time the three in turn, so that all meet the same load; agree on values above the floor."""
    model64 = copy.deepcopy(model).double()
    sides: dict[str, Callable[[], np.ndarray]] = {
        "isometry": lambda: ours(model, x),
        "jacrev": lambda: by_hand(model64, x),
        "jacrev, conversion included": lambda: by_hand(copy.deepcopy(model).double(), x),
    }
    values = ours(model, x)
    rival = by_hand(model64, x)[: len(values)]
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    result = {f"{name} ms": 1e3 * statistics.median(t) for name, t in times.items()}
    paired = zip(times["isometry"], times["jacrev"], strict=True)
    result["ratio"] = statistics.median(a / b for a, b in paired)
    paired = zip(times["isometry"], times["jacrev, conversion included"], strict=True)
    result["ratio, conversion included"] = statistics.median(a / b for a, b in paired)
    result["largest relative difference"] = float(np.max(np.abs(values / rival - 1)))
    result["difference over sigma_max"] = float(np.max(np.abs(values - rival)) / rival[0])
    return result


@click.command()
@click.option("--repeats", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(repeats: int, threads: int) -> None:
    """Print the table and write the JSON."""
    torch.set_num_threads(threads)
    rows = {name: compare(model, x, repeats) for name, (model, x) in networks().items()}
    print("| network | isometry ms | jacrev ms | ratio | ratio, conversion included | difference |")
    print("|---|---|---|---|---|---|")
    for name, r in rows.items():
        print(
            f"| {name} | {r['isometry ms']:.1f} | {r['jacrev ms']:.1f} | {r['ratio']:.2f} "
            f"| {r['ratio, conversion included']:.2f} | {r['largest relative difference']:.1e} |"
        )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": threads,
        "repeats": repeats,
    }
    target = ROOT / "benchmarks/results/exact_spectrum-cpu.json"
    target.write_text(json.dumps({"machine": machine, "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
