"""Exact singular values: isometry against ``torch.func.jacrev`` + ``svdvals``, side by side.

Question: is the exact spectrum, self-check apart, at most as slow as what a user would write
by hand? Every side turns a network of float32 into the float64 singular values at one input. By
hand, that needs the weights in float64, and there are three ways to count them:

- *deepcopy*: ``copy.deepcopy(model).double()``, then jacrev and svdvals, all timed;
- *functional_call*: the weights as ``v.detach().double()``, given to
  ``torch.func.functional_call`` inside jacrev, then svdvals, all timed;
- *converted before*: jacrev and svdvals alone, on a float64 copy that was made beforehand. It
  does less than the others: isometry converts the weights within its time.

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
from torch.func import functional_call, jacrev

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


def converted(model64: nn.Module, x: Tensor) -> np.ndarray:
    """Singular values of a network that is in float64 already."""
    return singular_values(model64, x.double())


def deepcopied(model: nn.Module, x: Tensor) -> np.ndarray:
    """Singular values as most would write it: a float64 copy of the network."""
    return singular_values(copy.deepcopy(model).double(), x.double())


def functional(model: nn.Module, x: Tensor) -> np.ndarray:
    """Singular values as one who knows torch.func writes it: float64 weights lent to the call."""
    weights = {k: v.detach().double() for k, v in model.state_dict().items()}
    return singular_values(lambda point: functional_call(model, weights, (point,)), x.double())


def singular_values(f: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    """Singular values of the Jacobian of f at x, by jacrev and LAPACK."""
    jacobian = jacrev(f)(x)
    return torch.linalg.svdvals(jacobian.reshape(-1, x.numel())).detach().numpy()


def compare(model: nn.Module, x: Tensor, repeats: int) -> dict[str, float]:
    """Time all in turn, so that they meet the same load; agree on values above the floor."""
    model64 = copy.deepcopy(model).double()
    sides: dict[str, Callable[[], np.ndarray]] = {
        "isometry": lambda: ours(model, x),
        "deepcopy": lambda: deepcopied(model, x),
        "functional_call": lambda: functional(model, x),
        "converted before": lambda: converted(model64, x),
    }
    values = ours(model, x)
    rival = deepcopied(model, x)[: len(values)]
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    result = {f"{name} ms": 1e3 * statistics.median(t) for name, t in times.items()}
    for name in list(sides)[1:]:
        paired = zip(times["isometry"], times[name], strict=True)
        result[f"isometry / {name}"] = statistics.median(a / b for a, b in paired)
    result["largest relative difference"] = float(np.max(np.abs(values / rival - 1)))
    result["difference over sigma_max"] = float(np.max(np.abs(values - rival)) / rival[0])
    return result


COLUMNS = {
    "isometry ms": ".1f",
    "deepcopy ms": ".1f",
    "functional_call ms": ".1f",
    "converted before ms": ".1f",
    "isometry / deepcopy": ".2f",
    "isometry / functional_call": ".2f",
    "isometry / converted before": ".2f",
    "largest relative difference": ".1e",
}


@click.command()
@click.option("--repeats", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(repeats: int, threads: int) -> None:
    """Print the table and write the JSON."""
    torch.set_num_threads(threads)
    rows = {name: compare(model, x, repeats) for name, (model, x) in networks().items()}
    print(f"| network | {' | '.join(COLUMNS)} |")
    print("|" + "---|" * (len(COLUMNS) + 1))
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{row[k]:{form}}' for k, form in COLUMNS.items())} |")
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
