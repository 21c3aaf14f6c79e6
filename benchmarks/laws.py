"""Limiting laws: how long they take, and how close they are to random matrices and networks.

Questions: do the laws come as fast as was aimed at on one core, at every depth? And for chains of
Gaussian weights and ReLU, which FreeNN (arXiv 2111.00841) also computes, is the largest error of
the CDF against Monte-Carlo smaller, and is there an answer at depth 50 and beyond?

Two kinds of Monte-Carlo: random matrices, products of Gaussian weights and masks that keep n/2 of n
units, which is what the law is the limit of; and real networks at a random input, whose masks keep
n/2 ± √n/2 units and whose narrowest mask decides the rank.

    OMP_NUM_THREADS=1 python benchmarks/laws.py   # prints tables, writes results/laws-cpu.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from examples.random_networks import Recipe, chains, distance, print_table, weight  # noqa: E402
from isometry.laws import Diagonal, Gaussian, Law, chain_law, free_product  # noqa: E402
from isometry.meanfield import activation, critical_point  # noqa: E402
from isometry.wide import WideNetwork  # noqa: E402

DEPTHS = (2, 5, 10, 20, 50, 200)
#: largest error of the CDF and time, measured once on another machine
FREENN = {
    **dict.fromkeys((2, 5, 10, 20), "0.012 to 0.016 in 0.7 to 5.7 s"),
    50: "no answer in 150 s",
    200: "not tried",
}


def tanh_chain(depth: int, weights: str) -> Law:
    """A critical tanh chain at q* = 0.5, its slopes and scales found anew."""
    point = critical_point("tanh", q_star=0.5)
    return WideNetwork("tanh", weights, depth, point.sigma_w, point.sigma_b).law


def relu_chain(depth: int) -> Law:
    """ReLU with Gaussian weights of variance 2/n, an activation after every weight."""
    return chain_law("gaussian", depth, depth, 0.5, 0.5 * depth * np.log(2))


def on_grid(law: Law, points: int) -> None:
    """Density and CDF on a grid that covers the support."""
    grid = law.grid(points)
    law.density(grid)
    law.cdf(grid)


def measured_layers(layers: int, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Singular values of the weights, and slopes, of each layer of one tanh network."""
    rng, phi = np.random.default_rng(0), activation("tanh")
    point = critical_point("tanh", q_star=0.5)
    h, found = rng.standard_normal(n) * 0.5**0.5, []
    for _ in range(layers):
        found.append((weight("gaussian", n, point.sigma_w, rng), phi.derivative(h)))
        h = found[-1][0] @ np.tanh(h) + point.sigma_b * rng.standard_normal(n)
    return [(np.linalg.svd(w, compute_uv=False), d) for w, d in found]


def jobs() -> dict[str, tuple[float, Callable[[], object]]]:
    """What is timed, with the seconds it may take; everything is computed anew each time."""
    layers, n = measured_layers(100, 200), 200
    places = np.linspace(-60.0, 3.0, 100)

    def measured() -> Law:
        factors = [f for _, d in layers for f in (Gaussian(n, n, 1.7), Diagonal(d**2, rows=n))]
        return free_product(factors)

    def all_measured() -> Law:
        return free_product([Diagonal.measured(v, n, n) for pair in layers for v in pair])

    found: dict[str, tuple[float, Callable[[], object]]] = {}
    for depth in (1, 100, 10_000):
        found[f"Gaussian linear, depth {depth}, 2,000 points"] = (
            0.1,
            lambda L=depth: on_grid(chain_law("gaussian", L, 0), 2000),
        )
        found[f"ReLU, Gaussian, depth {depth}, 2,000 points"] = (
            0.1,
            lambda L=depth: on_grid(relu_chain(L), 2000),
        )
    for depth in (3, 100, 10_000):
        for weights in ("gaussian", "orthogonal"):
            found[f"tanh, {weights}, depth {depth}, 500 points"] = (
                0.3,
                lambda L=depth, w=weights: on_grid(tanh_chain(L, w), 500),
            )
    found["100 measured layers of width 200, CDF at 100 points"] = (
        1.0,
        lambda: measured().cdf(places),
    )
    found["the same, weights measured too"] = (1.0, lambda: all_measured().cdf(places))
    found["100 measured layers, density and CDF on a grid of 100 points"] = (
        1.0,
        lambda: on_grid(measured(), 100),
    )
    found["the same grid, weights measured too"] = (1.0, lambda: on_grid(all_measured(), 100))
    found["score of that law"] = (0.02, lambda: all_measured().score)
    found["mean and std of log σ of that law"] = (0.02, lambda: all_measured().std_log_sigma)
    found["score, tanh, orthogonal, depth 100"] = (
        0.02,
        lambda: tanh_chain(100, "orthogonal").score,
    )
    found["mean and std of log σ, tanh, orthogonal, depth 100"] = (
        0.02,
        lambda: tanh_chain(100, "orthogonal").std_log_sigma,
    )
    return found


def seconds(job: Callable[[], object], repeats: int) -> float:
    """Median processor time of several runs, after one that warms up.

    On one thread it is the time that passes where nothing else runs.
    """
    job()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return statistics.median(times)


def random_matrices(depth: int, n: int, draws: int) -> list[np.ndarray]:
    """Singular values of products of Gaussian weights and masks that keep n/2 units."""
    found = []
    for draw in range(draws):
        rng, product = np.random.default_rng([draw, depth]), np.eye(n)
        for _ in range(depth):
            kept = rng.permutation(n) < n // 2
            product = kept[:, None] * (weight("gaussian", n, 2**0.5, rng) @ product)
        found.append(np.linalg.svd(product, compute_uv=False))
    return found


def accuracy(depth: int, n: int, draws: int) -> dict[str, float]:
    """Largest error of the CDF, over all draws together, and the time for 500 points."""
    law = relu_chain(depth)
    real = chains(Recipe("relu", "gaussian", depth, 2**0.5, 0.0, 1.0), n, draws, seed=depth)
    return {
        "random matrices": distance(random_matrices(depth, n, draws), law),
        "networks": distance(real, law),
        "seconds": seconds(lambda: on_grid(relu_chain(depth), 500), 5),
    }


def reference_errors() -> dict[str, float]:
    """Largest relative difference from each column of data/reference/laws_10_2.json."""
    worst: dict[str, float] = {}
    table = json.loads((ROOT / "data/reference/laws_10_2.json").read_text())
    for row in table["rows"]:
        point = critical_point(row["activation"], q_star=float(row["q_star"]))
        scales = point.sigma_w, point.sigma_b
        law = WideNetwork(row["activation"], row["weights"], row["depth"], *scales).law
        for key, value in columns_of(law).items():
            if row[key] is not None:
                expected = float(row[key])
                error = abs(value - expected) / max(abs(expected), 1e-4)
                worst[key] = max(error, worst.get(key, 0.0))
    return worst


def columns_of(law: Law) -> dict[str, float]:
    """What the reference table has of a law."""
    first, second = law.moments(2)
    alive = [atom for atom in law.atoms if atom.sigma > 0]
    return {
        "rank_fraction": 1.0 - sum(atom.mass for atom in law.atoms if atom.sigma == 0),
        "m2_over_m1_squared": float(second / first**2),
        "mean_log_sigma": law.mean_log_sigma,
        "std_log_sigma": law.std_log_sigma,
        "max_log_sigma": max([law.support[1], *(float(np.log(a.sigma)) for a in alive)]),
        "density_log_x_at_0": 0.5 * float(law.density(0.0)),
        "mass_above_1": 1.0 - float(law.cdf(0.0)),
        "score": law.score,
    }


def machine(repeats: int) -> dict[str, object]:
    """Where the numbers were measured."""
    return {
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "repeats": repeats,
    }


@click.command()
@click.option("--width", default=1000, show_default=True)
@click.option("--draws", default=4, show_default=True, help="Products of each kind and depth.")
@click.option("--repeats", default=7, show_default=True)
@click.option("--out", type=Path, default=ROOT / "benchmarks/results/laws-cpu.json")
def main(width: int, draws: int, repeats: int, out: Path) -> None:
    """Print the tables and write the JSON."""
    timings = {
        name: {"seconds": seconds(job, repeats), "aim": aim} for name, (aim, job) in jobs().items()
    }
    rows: list[list[object]] = [[k, v["seconds"], v["aim"]] for k, v in timings.items()]
    print_table("Time on one core", ["law", "seconds", "aim"], rows)
    reference = reference_errors()
    title = "Largest relative difference from the reference table"
    print_table(title, list(reference), [[f"{e:.0e}" for e in reference.values()]])
    errors = {depth: accuracy(depth, width, draws) for depth in DEPTHS}
    rows = []
    for depth, e in errors.items():
        rows.append([depth, e["random matrices"], e["networks"], e["seconds"], FREENN[depth]])
    columns = ["depth", "random matrices", "networks", "seconds", "FreeNN"]
    title = f"ReLU, Gaussian: largest error of the CDF; {draws} draws of width {width}"
    print_table(title, columns, rows)
    record = {
        "machine": machine(repeats),
        "width": width,
        "draws": draws,
        "timings": timings,
        "largest relative difference from the reference": reference,
        "largest error of the CDF": {str(depth): e for depth, e in errors.items()},
    }
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
