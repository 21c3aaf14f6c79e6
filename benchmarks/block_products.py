"""Products in blocks of 32: the operator against plain ``vmap(vjp)`` and ``vmap(jvp)``.

Question: does the operator (context, lent weights, frozen buffers) cost more per vector than what
PyTorch does bare? Both sides run the same float64 network at the same point on the same block, a
matrix of columns, and give a matrix back; the rival's forward pass of reverse mode is made once,
outside the timing, as the operator's is. They run in triples, ours between two of the rival's or
the other way round in turn, timed by the thread's own clock. Where in memory a graph comes to lie
makes a difference of a per cent or two: every round of triples makes both sides anew. The ratio is
the median over all triples, with its 95 % interval by the bootstrap over rounds.

    python benchmarks/block_products.py   # prints a table, writes results/block_products-cpu.json
"""

from __future__ import annotations

import copy
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from isometry import Jacobian

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 32
TRIPLES = 10  # a round
Times = list[tuple[float, float]]  # ours, and the rival's


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


def compare(model: nn.Module, x: Tensor, rounds: int) -> dict[str, float]:
    """Time both sides round by round, each round with operators made anew."""
    found = [_round(model, x, ours_first=bool(i % 2)) for i in range(rounds)]
    result = {}
    for product in found[0]:
        times = np.array([each[product][1] for each in found])  # (round, triple, side)
        for name, column in zip(("isometry", "plain"), np.median(times, axis=(0, 1)), strict=True):
            result[f"{product} {name} us per vector"] = 1e6 * float(column) / BLOCK
        ratios = times[..., 0] / times[..., 1]
        result[f"{product} ratio"] = float(np.median(ratios))
        result[f"{product} low"], result[f"{product} high"] = _interval(ratios)
        result[f"{product} difference"] = max(each[product][0] for each in found)
    return result


def _round(model: nn.Module, x: Tensor, *, ours_first: bool) -> dict[str, tuple[float, Times]]:
    """Return for each product how far the two sides differ, and their times."""
    if ours_first:
        J, (bare, y, pullback) = _ours(model, x), _plain(model, x)
    else:
        (bare, y, pullback), J = _plain(model, x), _ours(model, x)
    m, n = J.shape
    u, v = torch.randn(m, BLOCK, dtype=x.dtype), torch.randn(n, BLOCK, dtype=x.dtype)

    def plain_push() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            columns = vmap(lambda t: jvp(bare, (x,), (t,))[1])(v.T.reshape(BLOCK, *x.shape))
        return columns.reshape(BLOCK, m).T

    def plain_pull() -> Tensor:
        return vmap(lambda c: pullback(c)[0])(u.T.reshape(BLOCK, *y.shape)).reshape(BLOCK, n).T

    sides = {"Jᵀu": (lambda: J.T @ u, plain_pull), "J v": (lambda: J @ v, plain_push)}
    result = {}
    for product, (ours, plain) in sides.items():
        found, expected = ours(), plain()
        times: Times = []
        for i in range(TRIPLES):
            outer, inner = (plain, ours) if i % 2 else (ours, plain)
            before, between, after = _seconds(outer), _seconds(inner), _seconds(outer)
            around = (before + after) / 2
            times.append((between, around) if i % 2 else (around, between))
        result[product] = float((found - expected).norm() / expected.norm()), times
    return result


def _ours(model: nn.Module, x: Tensor) -> Jacobian:
    J = Jacobian(model, x)
    J.verify()
    return J


def _plain(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor, Callable[..., Any]]:
    bare = copy.deepcopy(model).requires_grad_(False)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no rule for forward mode
        return bare, *vjp(bare, x)


def _interval(ratios: np.ndarray) -> tuple[float, float]:
    """Return where the median lies with 95 % confidence, by the bootstrap over rounds."""
    rounds = np.random.default_rng(0).choice(len(ratios), (2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[rounds], axis=(1, 2)), (0.025, 0.975))
    return float(low), float(high)


def _seconds(run: Callable[[], Tensor]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


@click.command()
@click.option("--rounds", default=31, show_default=True)
def main(rounds: int) -> None:
    """Print the table and write the JSON."""
    torch.set_num_threads(1)  # whose clock is the one that is read
    # The rival needs it off: PyTorch's fast path has no rule for forward mode.
    torch.backends.mha.set_fastpath_enabled(False)
    rows = {name: compare(model, x, rounds) for name, (model, x) in networks().items()}
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
        "threads": 1,
        "rounds": rounds,
    }
    target = ROOT / "benchmarks/results/block_products-cpu.json"
    target.write_text(json.dumps({"machine": machine, "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
