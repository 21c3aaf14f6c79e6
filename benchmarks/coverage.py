"""How often do nominal 95 % intervals of an estimated spectrum hold the truth?

Question: of many measurements of one network, each with other random probes, does the interval
of a quantity contain the exact value in 93 to 97 % of them? Networks small enough to know the
truth, wide enough that probes are a sample. The negative control, intervals a third as wide,
must miss.

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


#: What is estimated, as functions of log σ; zeros contribute nothing.
QUANTITIES = {
    "score": sech,
    "E[σ²]": lambda s: np.exp(2 * s),
    "share of σ > 1/2": lambda s: np.where(s > np.log(0.5), 1.0, 0.0),
}


def covered(name: str, repetitions: int, probes: int) -> dict[str, dict[str, float]]:
    """Count hits of each interval, and of the wrong one."""
    torch.set_num_threads(1)
    model, x = networks()[name]
    dense = Jacobian(model, x).dense()
    a = LambdaOperator(tuple(dense.shape), lambda v: dense @ v, lambda u: dense.T @ u)
    with np.errstate(divide="ignore"):
        true = np.log(torch.linalg.svdvals(dense).numpy())
    hits = {name: np.zeros(2) for name in QUANTITIES}
    for seed in range(repetitions):
        measure = quadrature(a, probes=probes, steps=30, seed=seed).measure
        with np.errstate(divide="ignore"):
            at = np.log(measure.nodes)
        for name, function in QUANTITIES.items():
            estimate = measure.mean(function(at))
            off = abs(estimate.value - function(true).mean())
            width = measure.half_width(estimate.error)
            hits[name] += off <= width, off <= width / 3
    return {
        name: {"covered": h[0] / repetitions, "control": h[1] / repetitions}
        for name, h in hits.items()
    }


@click.command()
@click.option("--repetitions", default=400, show_default=True)
@click.option("--probes", default=16, show_default=True)
@click.option("--processes", default=1, show_default=True, help="One network each.")
def main(repetitions: int, probes: int, processes: int) -> None:
    """Print the table and write the JSON."""
    job = partial(covered, repetitions=repetitions, probes=probes)
    with ProcessPoolExecutor(processes) as pool:
        rows = dict(zip(networks(), pool.map(job, networks()), strict=True))
    print("| network | quantity | covered | negative control |\n|---|---|---|---|")
    for name, row in rows.items():
        for quantity, found in row.items():
            print(f"| {name} | {quantity} | {found['covered']:.1%} | {found['control']:.1%} |")
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    setting = {"repetitions": repetitions, "probes": probes, "nominal": 0.95}
    target = ROOT / "benchmarks/results/coverage-cpu.json"
    result = {"machine": machine, "setting": setting, "networks": rows}
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
