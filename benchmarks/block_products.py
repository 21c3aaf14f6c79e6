"""Products in blocks of 32: the operator against plain ``vmap(vjp)`` and ``vmap(jvp)``.

Question: does the operator (context, lent weights, frozen buffers) cost more per vector than what
PyTorch does bare? Both sides run the same float64 network at the same point on the same block, a
matrix of columns, and give a matrix back; the rival's forward pass of reverse mode is made once,
outside the timing, as the operator's is. They run in pairs, each first in turn; the ratio is the
median over pairs, with its 95 % interval by the bootstrap.

    python benchmarks/block_products.py   # prints a table, writes results/block_products-cpu.json
"""

from __future__ import annotations

import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from isometry import Jacobian

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 32


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """Networks of three kinds, in float64, each with one input."""
    torch.manual_seed(0)
    mlp = nn.Sequential(*[m for _ in range(40) for m in (nn.Linear(256, 256), nn.Tanh())])
    convolutions = [
        m
        for _ in range(8)
        for m in (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    ]
    cnn = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *convolutions)
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    transformer = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    shapes = {
        "MLP 256 x 40": (1, 256),
        "CNN 16 x 16x16": (1, 3, 16, 16),
        "transformer": (1, 32, 64),
    }
    made = zip(shapes.items(), (mlp, cnn, transformer), strict=True)
    return {
        name: (net.double().eval(), torch.randn(shape, dtype=torch.float64))
        for (name, shape), net in made
    }


def compare(model: nn.Module, x: Tensor, repeats: int) -> dict[str, float]:
    """Time both sides in turn, so that they meet the same load, and compare what they return."""
    J = Jacobian(model, x)
    J.verify()
    bare = copy.deepcopy(model).requires_grad_(False)
    m, n = J.shape
    u, v = torch.randn(m, BLOCK, dtype=x.dtype), torch.randn(n, BLOCK, dtype=x.dtype)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no rule for forward mode
        y, pullback = vjp(bare, x)

    def plain_push() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            columns = vmap(lambda t: jvp(bare, (x,), (t,))[1])(v.T.reshape(BLOCK, *x.shape))
        return columns.reshape(BLOCK, m).T

    def plain_pull() -> Tensor:
        return vmap(lambda c: pullback(c)[0])(u.T.reshape(BLOCK, *y.shape)).reshape(BLOCK, n).T

    sides = {
        "Jᵀu": (lambda: J.T @ u, plain_pull),
        "J v": (lambda: J @ v, plain_push),
    }
    result = {}
    for product, (ours, plain) in sides.items():
        found, expected = ours(), plain()
        result[f"{product} difference"] = float((found - expected).norm() / expected.norm())
        times: list[tuple[float, float]] = []
        for i in range(repeats):
            first = _seconds(ours if i % 2 else plain)  # each goes first in turn
            second = _seconds(plain if i % 2 else ours)
            times.append((first, second) if i % 2 else (second, first))
        for name, column in zip(("isometry", "plain"), zip(*times, strict=True), strict=True):
            result[f"{product} {name} us per vector"] = 1e6 * statistics.median(column) / BLOCK
        ratios = np.array([a / b for a, b in times])
        result[f"{product} ratio"] = float(np.median(ratios))
        result[f"{product} low"], result[f"{product} high"] = _interval(ratios)
    return result


def _interval(ratios: np.ndarray) -> tuple[float, float]:
    """Return where the median lies with 95 % confidence, by the bootstrap."""
    again = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(again, axis=1), (0.025, 0.975))
    return float(low), float(high)


def _seconds(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@click.command()
@click.option("--repeats", default=31, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(repeats: int, threads: int) -> None:
    """Print the table and write the JSON."""
    torch.set_num_threads(threads)
    # The rival needs it off: PyTorch's fast path has no rule for forward mode.
    torch.backends.mha.set_fastpath_enabled(False)
    rows = {name: compare(model, x, repeats) for name, (model, x) in networks().items()}
    print(
        "| network | product | isometry µs/vector | plain µs/vector | ratio | 95 % | difference |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, r in rows.items():
        for p in ("Jᵀu", "J v"):
            ours, plain = (r[f"{p} {side} us per vector"] for side in ("isometry", "plain"))
            ratio, difference = r[f"{p} ratio"], r[f"{p} difference"]
            between = f"{r[f'{p} low']:.3f}–{r[f'{p} high']:.3f}"
            print(
                f"| {name} | {p} | {ours:.0f} | {plain:.0f} | {ratio:.3f} | {between} "
                f"| {difference:.0e} |"
            )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": threads,
        "repeats": repeats,
    }
    target = ROOT / "benchmarks/results/block_products-cpu.json"
    target.write_text(json.dumps({"machine": machine, "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
