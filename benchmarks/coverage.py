"""How often do nominal 95 % intervals of an estimated spectrum hold the truth?

Question: of many measurements of one network, each with other random probes, does the interval
of a quantity contain the exact value in 93 to 97 % of them? Networks small enough to know the
truth, wide enough that probes are a sample. The negative control, intervals a third as wide,
must miss. Of 400 repetitions 1.1 % is chance, so that one line in fifteen would leave that range
at exactly 95 %: the range over batches of 400 is printed beside the share of all.

    python benchmarks/coverage.py   # prints a table, writes results/coverage-cpu.json
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of NumPy too: its small matrices are slower on several

import json
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from isometry.jacobian import Jacobian  # noqa: E402
from isometry.measure import LambdaOperator, quadrature  # noqa: E402
from isometry.score import sech  # noqa: E402


def chain(width: int, depth: int, activation: type[nn.Module], gain: float) -> nn.Module:
    """A plain network of orthogonal weights."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(width, width, bias=False)
        nn.init.orthogonal_(layer.weight, gain)
        layers += [layer, activation()]
    return nn.Sequential(*layers)


def networks() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Four networks with inputs at which their signals neither vanish nor explode."""
    torch.manual_seed(0)
    gaussian = nn.Sequential(*[nn.Linear(600, 600, bias=False) for _ in range(2)])
    for layer in gaussian:
        nn.init.normal_(layer.weight, std=600**-0.5)
    return {
        "tanh, orthogonal, depth 10": (chain(600, 10, nn.Tanh, 1.05), torch.randn(1, 600) * 0.3),
        "ReLU, orthogonal, depth 3": (chain(600, 3, nn.ReLU, 2**0.5), torch.randn(1, 600)),
        "linear, Gaussian, depth 2": (gaussian, torch.randn(1, 600)),
        "softplus, orthogonal, depth 2": (chain(600, 2, nn.Softplus, 1.5), torch.randn(1, 600)),
    }


BATCH = 400
#: What is estimated: f(σ) over the nodes of a measure, and over the true singular values.
QUANTITIES = {
    "score": (lambda m: sech(log(m.nodes)), lambda true: sech(log(true))),
    "E[σ²]": (lambda m: m.nodes**2, np.square),
    "share of σ > 1/2": (lambda m: m.above(0.5), lambda true: true > 0.5),
    "share of σ > 1": (lambda m: m.above(1.0), lambda true: true > 1.0),
}


def log(sigma: np.ndarray) -> np.ndarray:
    """-∞ for zeros."""
    with np.errstate(divide="ignore"):
        return np.log(sigma)


def covered(name: str, repetitions: int, probes: int) -> dict[str, dict[str, float]]:
    """Count hits of each interval, and of the wrong one."""
    torch.set_num_threads(1)
    model, x = networks()[name]
    dense = Jacobian(model, x).dense()
    a = LambdaOperator(tuple(dense.shape), lambda v: dense @ v, lambda u: dense.T @ u)
    true = torch.linalg.svdvals(dense).numpy()
    hits: dict[str, list[tuple[bool, bool]]] = {name: [] for name in QUANTITIES}
    for seed in range(repetitions):
        measure = quadrature(a, probes=probes, steps=30, seed=seed).measure
        for name, (of_nodes, of_true) in QUANTITIES.items():
            estimate = measure.mean(of_nodes(measure))
            off = abs(estimate.value - of_true(true).mean())
            width = measure.half_width(estimate.error)
            hits[name].append((off <= width, off <= width / 3))
    return {name: shares(np.array(h)) for name, h in hits.items()}


def shares(hits: np.ndarray) -> dict[str, float]:
    """Return the share of hits, in all repetitions and in the worst and best batch of them."""
    batches = np.array_split(hits[:, 0], max(len(hits) // BATCH, 1))
    each = [float(batch.mean()) for batch in batches]
    covered, control = map(float, hits.mean(axis=0))
    return {"covered": covered, "control": control, "lowest": min(each), "highest": max(each)}


@click.command()
@click.option("--repetitions", default=800, show_default=True)
@click.option("--probes", default=16, show_default=True)
@click.option("--processes", default=1, show_default=True, help="One network each.")
def main(repetitions: int, probes: int, processes: int) -> None:
    """Print the table and write the JSON."""
    job = partial(covered, repetitions=repetitions, probes=probes)
    with ProcessPoolExecutor(processes) as pool:
        rows = dict(zip(networks(), pool.map(job, networks()), strict=True))
    print("| network | quantity | covered | of each 400 | control |\n|---|---|---|---|---|")
    for name, row in rows.items():
        for quantity, found in row.items():
            batches = f"{found['lowest']:.1%} … {found['highest']:.1%}"
            share, control = f"{found['covered']:.1%}", f"{found['control']:.1%}"
            print(f"| {name} | {quantity} | {share} | {batches} | {control} |")
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    setting = {"repetitions": repetitions, "probes": probes, "nominal": 0.95}
    target = ROOT / "benchmarks/results/coverage-cpu.json"
    result = {"machine": machine, "setting": setting, "networks": rows}
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
