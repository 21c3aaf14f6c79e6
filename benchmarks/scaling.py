"""How does the cost grow with width, depth, probes and processes?

Question: the exponent of the processor time, fitted on a log-log scale: the dense Jacobian with its
singular values (method exact) and the estimated spectrum of 16 probes and 16 steps, on orthogonal
tanh networks; and the wall time of one, two processes that torchrun starts.

    python benchmarks/scaling.py   # writes results/scaling-<device>.json
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import torch
from comparison import clocked, in_turn, orthogonal_mlp, prepared, save, table

from isometry.jacobian import Jacobian
from isometry.measure import exact, quadrature, torchrun

WIDTHS, DEPTHS, PROBES, STEPS = (500, 1000, 2000), (8, 16, 32), (8, 32, 128), (8, 16, 32, 64)


def by_exact(width: int, depth: int) -> Callable[[], Any]:
    """Every singular value."""
    jacobian = Jacobian(*orthogonal_mlp(width, depth), self_check=False)
    return lambda: exact(jacobian)


def by_probes(width: int, depth: int, probes: int = 16, steps: int = 16) -> Callable[[], Any]:
    """An estimate."""
    jacobian = Jacobian(*orthogonal_mlp(width, depth), self_check=False)
    _ = jacobian @ torch.ones(width, dtype=torch.float64)
    return lambda: quadrature(jacobian, probes=probes, steps=steps)


SWEEPS: dict[str, dict[int, Callable[[], Callable[[], Any]]]] = {
    "exact, width": {n: lambda n=n: by_exact(n, 8) for n in WIDTHS},
    "exact, depth": {d: lambda d=d: by_exact(500, d) for d in DEPTHS},
    "probes, width": {n: lambda n=n: by_probes(n, 8) for n in WIDTHS},
    "probes, depth": {d: lambda d=d: by_probes(500, d) for d in DEPTHS},
    "probes, number of probes": {p: lambda p=p: by_probes(500, 8, probes=p) for p in PROBES},
    "probes, steps": {k: lambda k=k: by_probes(500, 8, steps=k) for k in STEPS},
}


def sweep(name: str, repeats: int) -> dict[str, Any]:
    """Medians along one direction, and the exponent through them."""
    sides = {str(at): make() for at, make in SWEEPS[name].items()}
    times = {at: statistics.median(t) for at, t in in_turn(sides, repeats).items()}
    exponent = np.polyfit(np.log(list(SWEEPS[name])), np.log(list(times.values())), 1)[0]
    cpu = ", ".join(f"{at}: {seconds:.3g}" for at, seconds in times.items())
    return {"sweep": name, "seconds": cpu, "exponent": float(exponent)}


def rank() -> None:
    """Estimate as one of several processes; the first tells."""
    torch.set_num_threads(1)
    with torchrun() as ranks:
        run = by_probes(1000, 16, probes=64)
        run()
        seconds, found = clocked(run)
        if ranks.rank == 0:
            print(json.dumps({"wall s": seconds["wall s"], "score": found.measure.score.value}))


def shared(processes: int) -> dict[str, Any]:
    """Let torchrun start so many."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", __file__, "--rank"]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return {"processes": processes, **json.loads(done.stdout.splitlines()[-1])}


@click.command()
@click.option("--repeats", default=3, show_default=True)
@click.option("--rank", "is_rank", is_flag=True, help="What torchrun starts.")
def main(repeats: int, is_rank: bool) -> None:
    """Print the tables and write the JSON."""
    if is_rank:
        rank()
        return
    place = prepared("cpu")
    rows = [sweep(name, repeats) for name in SWEEPS]
    table(rows)
    ranks = [shared(processes) for processes in (1, 2)]
    for row in ranks:
        row["speed-up"] = ranks[0]["wall s"] / row["wall s"]
    table(ranks)
    save("scaling", {"sweeps": rows, "ranks": ranks}, place, repeats=repeats)


if __name__ == "__main__":
    main()
