"""What does a chain of thousands of layers cost?

Question: every singular value of a delta-orthogonal tanh CNN, 16 channels of 4 x 4, of depth 1,000
to 10,000: time, and the memory of a process of its own. Weights take 18 KiB a layer, and grow
with the depth as they must; what the measurement adds should not.

    python benchmarks/deep.py --depths 1000,3000,10000   # writes results/deep-<device>.json
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any

import click
import numpy as np
import torch
from comparison import clocked, convolutions, prepared, save, table

from isometry.measure.chain import chain

CHANNELS, SIDE = 16, 4


def megabytes(place: torch.device) -> float:
    """Most memory that this process has held, or that it has held on a device."""
    if place.type == "cuda":
        return torch.cuda.max_memory_allocated(place) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measured(depth: int, place: torch.device) -> dict[str, Any]:
    """Measure one chain, in a process that does nothing else."""
    model, x = (part.to(place) for part in convolutions(CHANNELS, SIDE, depth))
    with torch.no_grad():
        model(x)
    before = megabytes(place)
    seconds, found = clocked(lambda: chain(model, x))
    log10 = found.log_sigma / np.log(10)
    return {
        "depth": depth,
        "wall s": seconds["wall s"],
        "seconds": seconds["seconds"],
        "ms a layer": 1e3 * seconds["seconds"] / depth,
        "MiB before": before,
        "MiB at most": megabytes(place),
        "log10 of the largest": float(log10[0]),
        "log10 of the smallest": float(log10[-1]),
        "values": len(log10),
        "unresolved": found.unresolved,
    }


@click.command()
@click.option("--depths", default="300,1000,3000", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--only", type=int, help="Measure this depth here, and print it as JSON.")
def main(depths: str, device: str, only: int | None) -> None:
    """Print the table and write the JSON."""
    place = prepared(device)
    if only is not None:
        print(json.dumps(measured(only, place)))
        return
    rows = []
    for depth in depths.split(","):
        command = [sys.executable, __file__, "--only", depth, "--device", device]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
    table(rows)
    save("deep", {"channels": CHANNELS, "side": SIDE, "depths": rows}, place)


if __name__ == "__main__":
    main()
