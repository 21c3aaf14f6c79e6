"""Are large exact spectra as fast as the rivals', in half the memory, and near the limit?

Question: the dense Jacobian of an MLP 1000 x 50 and of a CNN of 32 channels of 16 x 16, depth 16
(n = 8192), against `torch.func.jacrev` and `torch.autograd.functional.jacobian`, in float64. The
singular values that follow are LAPACK's on every side, and timed once. The limit of arithmetic is
the multiplications that the rows of J need, at the rate measured for square products.
Every measurement is a process of its own, whose peak memory is counted from where it began.

    python benchmarks/exact_large.py            # writes results/exact_large-<device>.json
    python benchmarks/exact_large.py --no-cnn   # leaves out what takes minutes
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from comparison import (
    clocked,
    convolutions,
    orthogonal_mlp,
    prepared,
    product_rate,
    ratio,
    save,
    table,
)
from torch import Tensor, nn

from isometry.jacobian import Jacobian

NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "MLP 1000 x 50": lambda: orthogonal_mlp(1000, 50),
    "CNN 32 x 16x16, depth 16": lambda: convolutions(32, 16, 16, delta=False),
}
SIDES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "isometry": lambda f, x: Jacobian(f, x, self_check=False).dense(),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "autograd.functional.jacobian": torch.autograd.functional.jacobian,
}


def megabytes(field: str, place: torch.device) -> float:
    """Memory of this process, or what it holds on a device: VmRSS now, VmHWM at most."""
    if place.type == "cuda":
        held = torch.cuda.memory_allocated if field == "VmRSS" else torch.cuda.max_memory_allocated
        return held(place) / 2**20
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 2**10
    return float("nan")


def measured(network: str, side: str, place: torch.device) -> dict[str, float]:
    """Time and memory of J, in a process that does nothing else."""
    model, x = (part.to(place) for part in NETWORKS[network]())
    with torch.no_grad():
        model(x)
    if place.type == "cuda":  # what is loaded and chosen once is not counted
        small, at = (part.to(place) for part in NETWORKS[network]())
        SIDES[side](nn.Sequential(*list(small)[:4]), at)
        del small, at
        torch.cuda.reset_peak_memory_stats(place)
    before = megabytes("VmRSS", place)
    seconds, j = clocked(lambda: SIDES[side](model, x).reshape(-1, x.numel()))
    trace = float(j.detach().square().sum())
    return {**seconds, "MiB": megabytes("VmHWM", place) - before, "trace": trace}


def operations(model: nn.Module, x: Tensor) -> float:
    """Floating-point operations that one row of J takes in the products with the weights."""
    counts = {
        m: p.numel() * (x[0, 0].numel() if isinstance(m, nn.Conv2d) else 1)
        for m in model.modules()
        for p in m.parameters(recurse=False)
    }
    return float(2 * sum(counts.values()))


def compare(network: str, repeats: int, place: torch.device) -> list[dict[str, Any]]:
    """Run the sides in turn."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side in SIDES:
            command = [sys.executable, __file__, "--only", network, side]
            command += ["--device", str(place)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[side].append(json.loads(done.stdout))
    model, x = (part.to(place) for part in NETWORKS[network]())
    limit = operations(model, x) * x.numel() / product_rate(place)
    j = Jacobian(model, x, self_check=False).dense()
    torch.linalg.svdvals(j[:100, :100])  # loads the library
    svd = clocked(lambda: torch.linalg.svdvals(j))[0]["seconds"]
    ours = [r["seconds"] for r in runs["isometry"]]
    memory = statistics.median(r["MiB"] for r in runs["isometry"])
    rows = []
    for side, found in runs.items():
        times = [r["seconds"] for r in found]
        peak = statistics.median(r["MiB"] for r in found)
        rows.append(
            {
                "network": network,
                "side": side,
                "J, seconds": statistics.median(times),
                "side / isometry": ratio(times, ours),
                "side / limit": statistics.median(times) / limit,
                "with svdvals": (statistics.median(times) + svd) / (statistics.median(ours) + svd),
                "peak MiB": peak,
                "peak of side / of isometry": peak / memory,
                "J itself MiB": j.numel() * 8 / 2**20,
                "difference of tr JJᵀ": found[0]["trace"] / runs["isometry"][0]["trace"] - 1,
                "svdvals, seconds": svd,
            }
        )
    return rows


@click.command()
@click.option("--repeats", default=3, show_default=True)
@click.option("--cnn/--no-cnn", default=True, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--only", nargs=2, help="Measure one side on one network, and print it as JSON.")
def main(repeats: int, cnn: bool, device: str, only: tuple[str, str] | None) -> None:
    """Print the tables and write the JSON."""
    place = prepared(device)
    if only:
        print(json.dumps(measured(*only, place)))
        return
    rows = compare("MLP 1000 x 50", repeats, place)
    table(rows)
    if cnn:
        rows += (part := compare("CNN 32 x 16x16, depth 16", 1, place))
        table(part)
    save("exact_large", {"rate": product_rate(place), "sides": rows}, place, repeats=repeats)


if __name__ == "__main__":
    main()
