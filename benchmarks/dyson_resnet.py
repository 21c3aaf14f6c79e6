"""Real residual networks against the Dyson equation of their own slopes.

Question: how far is the Jacobian of one random network x_l = x_{l-1} + W_l φ(x_{l-1}), at one
input, from the law that its measured slopes predict, and from the law of the same slopes made
independent of each other across layers (each layer's are dealt out anew), which is all that a
product of free factors can know? KS distance over all σ; times on one core.

    OMP_NUM_THREADS=1 python benchmarks/dyson_resnet.py   # writes results/dyson_resnet-cpu.json
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from isometry.distance import kolmogorov_smirnov
from isometry.laws.dyson import DysonLaw
from isometry.laws.dyson.types import NeuronTypes

ROOT = Path(__file__).resolve().parent.parent
Array = NDArray[np.float64]
POINTS = 160


def relu(h: Array) -> tuple[Array, Array]:
    """φ and φ'."""
    return np.maximum(h, 0.0), (h > 0).astype(float)


def tanh(h: Array) -> tuple[Array, Array]:
    """φ and φ'."""
    return np.tanh(h), 1.0 - np.tanh(h) ** 2


#: activation, mean square slope, depth, width, types told apart
CASES: list[tuple[Callable[[Array], tuple[Array, Array]], float, int, int, int]] = [
    (relu, 0.5, 4, 400, 64),
    (relu, 0.5, 4, 1000, 64),
    (relu, 0.5, 4, 1000, 8),
    (tanh, 1.0, 4, 1000, 16),
    (tanh, 1.0, 4, 1000, 64),
    (relu, 0.5, 12, 1000, 16),
    (relu, 0.5, 12, 1000, 64),
]


def network(
    activation: Callable[[Array], tuple[Array, Array]],
    variance: float,
    depth: int,
    n: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Measured slopes (depth, n), and the singular values of J."""
    x, J, slopes = rng.standard_normal(n), np.eye(n), []
    for _ in range(depth):
        W = rng.standard_normal((n, n)) * np.sqrt(variance / n)
        value, slope = activation(x)
        slopes.append(slope)
        J, x = J + W @ (slope[:, None] * J), x + W @ value
    return np.array(slopes), np.linalg.svd(J, compute_uv=False)


def compare(
    case: tuple[Callable[[Array], tuple[Array, Array]], float, int, int, int], seeds: int
) -> dict[str, float | list[float]]:
    """KS distances for each seed; times and moments for the last."""
    activation, mean_square, depth, n, types = case
    variance = 1.0 / (mean_square * depth)
    own, dealt, row = [], [], {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        slopes, sigma = network(activation, variance, depth, n, rng)
        start = time.perf_counter()
        law = DysonLaw.from_masks(slopes, variance, max_types=types)
        made = time.perf_counter()
        low, high = law.support
        edges = time.perf_counter()
        law.density(np.linspace(low, high, POINTS + 2)[1:-1])
        end = time.perf_counter()
        apart = DysonLaw.from_masks([rng.permutation(d) for d in slopes], variance, max_types=types)
        weights = np.full(n, 1.0 / n)
        own.append(kolmogorov_smirnov(np.log(sigma), weights, law))
        dealt.append(kolmogorov_smirnov(np.log(sigma), weights, apart))
        row = {
            "types": len(NeuronTypes.of(slopes, types).fractions),
            "merged": law.merged,
            "KS own slopes": own,
            "KS independent slopes": dealt,
            "var log x measured": float(np.var(2 * np.log(sigma))),
            "var log x own slopes": 4 * law.std_log_sigma**2,
            "var log x independent slopes": 4 * apart.std_log_sigma**2,
            "score measured": float(np.mean(2 * sigma**2 / (1 + sigma**4))),
            "score own slopes": law.score,
            "score independent slopes": apart.score,
            "seconds to make": made - start,
            "seconds for the edges": edges - made,
            f"seconds for {POINTS} points": end - edges,
        }
    return row


@click.command()
@click.option("--seeds", default=3, show_default=True)
def main(seeds: int) -> None:
    """Print the table and write the JSON."""
    print(
        "| network | types | KS own | KS independent | var log x measured, own, independent | s |"
    )
    print("|---|---|---|---|---|---|")
    rows = {}
    for case in CASES:
        activation, _, depth, n, limit = case
        name = f"{activation.__name__} L={depth} n={n}, at most {limit} types"
        rows[name] = r = compare(case, seeds)
        own, apart = np.mean(r["KS own slopes"]), np.mean(r["KS independent slopes"])
        variances = ", ".join(
            f"{r[f'var log x {which}']:.3f}"
            for which in ("measured", "own slopes", "independent slopes")
        )
        seconds = r[f"seconds for {POINTS} points"]
        print(
            f"| {name} | {r['types']} | {own:.4f} | {apart:.4f} | {variances} | {seconds:.2f} |",
            flush=True,
        )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "numpy": np.__version__,
        "seeds": seeds,
    }
    target = ROOT / "benchmarks/results/dyson_resnet-cpu.json"
    target.write_text(json.dumps({"machine": machine, "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
