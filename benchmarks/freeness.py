"""Fresh networks against doctored ones: what the theory of a network's own parts notices.

Question: how often is a fresh chain judged to agree with the free product of its own parts, with
no finding about its weights; and how often is a doctored one caught, with the right layer named?
Four ways to doctor one layer, drawn by the seed: *aligned* turns its leading right singular vector
onto the leading left one of the layer before, with or without the slopes between; *scaled*
multiplies the weight by 1.3; *spike* adds 3 σ_w u vᵀ; *dead* gives a fifth of its units no weights,
or a bias at which they are flat. Activation, weights and a last activation go round with the seed.
A second table follows a network of 5 layers while it learns the digits of ``data/digits.npz``.

    OMP_NUM_THREADS=1 python benchmarks/freeness.py   # writes results/freeness-cpu.json
"""

from __future__ import annotations

import itertools
import json
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

import isometry
from isometry import Report
from isometry.jacobian import Jacobian
from isometry.measure.parts import parts

ROOT = Path(__file__).resolve().parent.parent


class Erf(nn.Module):
    """The error function, through a call that no module makes for it."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return torch.erf(x)


#: activation, σ_w of Gaussian and orthogonal weights
ACTIVATIONS: list[tuple[Callable[[], nn.Module], float]] = [
    (nn.Tanh, 1.1),
    (nn.ReLU, 2**0.5),
    (nn.GELU, 1.4),
    (Erf, 1.0),
    (lambda: nn.LeakyReLU(0.2), 1.3),
]
WEIGHTS = ("gaussian", "orthogonal", "default")
KINDS = ("fresh", "aligned", "scaled", "spike", "dead")
STEPS = (0, 10, 30, 100, 300, 1000, 3000)
_CODES = {"aligned": "ISO401", "scaled": "ISO402", "spike": "ISO403", "dead": "ISO404"}


def network(width: int, depth: int, seed: int, weights: Iterable[str]) -> nn.Sequential:
    """A fresh chain; which one depends on the seed."""
    cases = list(itertools.product(ACTIVATIONS, weights))
    (activation, gain), kind = cases[seed % len(cases)]
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        if kind == "gaussian":
            nn.init.normal_(linear.weight, std=gain / width**0.5)
        elif kind == "orthogonal":
            nn.init.orthogonal_(linear.weight, gain)
            nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*(layers if seed % 2 else layers[:-1]))


def doctor(net: nn.Sequential, kind: str, x: Tensor, rng: np.random.Generator) -> str:
    """Change one layer, and return the place that should be named."""
    numbers = [i for i, m in enumerate(net) if isinstance(m, nn.Linear)]
    chosen = int(rng.choice(numbers[1:] if kind == "aligned" else numbers))
    layer, weight = net[chosen], net[chosen].weight
    n = len(weight)
    if kind == "aligned":
        before = net[chosen - 2].weight
        if rng.random() < 0.5:
            before = _slopes(net, chosen - 1, x)[:, None] * before
        u, v = torch.linalg.svd(before)[0][:, 0], torch.linalg.svd(weight)[2][0]
        mirror = (u - v) / (u - v).norm()  # swaps the two
        weight -= 2 * torch.outer(weight @ mirror, mirror)
        return f"{chosen - 2} → {chosen}"
    if kind == "scaled":
        weight *= 1.3
    elif kind == "spike":
        u, v = (torch.nn.functional.normalize(torch.randn(n), dim=0) for _ in range(2))
        weight += 3 * weight.norm() / n**0.5 * torch.outer(u, v)
    elif kind == "dead":
        units = rng.choice(n, n // 5, replace=False)
        flat = chosen + 1 < len(net) and not isinstance(net[chosen + 1], nn.LeakyReLU)
        if flat and rng.random() < 0.5:
            layer.bias[units] = -10.0
        else:
            weight[units] = 0
    return str(chosen)


def _slopes(net: nn.Sequential, activation: int, x: Tensor) -> Tensor:
    h = net[:activation](x).detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(net[activation](h).sum(), h)[0][0]


def caught(report: Report, kind: str, where: str) -> bool:
    """Whether a report says of a network what was done to it, and where."""
    free = next(p for p in report.theory if p.name == "free product")
    odd = {f.code: f.where for f in report.findings if f.code.startswith("ISO4")}
    if kind == "fresh":
        return free.judgement.word == "agrees" and not odd
    if kind == "aligned" and free.judgement.word != "departs":
        return False
    return odd.get(_CODES[kind]) == where


def trial(kind: str, width: int, depth: int, seeds: int) -> dict[str, object]:
    """Count over many seeds."""
    right, distances, missed = 0, [], []
    weights = [w for w in WEIGHTS if kind != "aligned" or w != "orthogonal"]
    began = time.perf_counter()
    for seed in range(seeds):
        torch.manual_seed(seed)
        net, x = network(width, depth, seed, weights), torch.randn(1, width)
        where = ""
        if kind != "fresh":
            with torch.no_grad():
                where = doctor(net, kind, x, np.random.default_rng(seed))
        report = isometry.analyze(net, x, check_itself=False)
        free = next(p for p in report.theory if p.name == "free product")
        distances.append(width * free.ks)
        if caught(report, kind, where):
            right += 1
        else:
            missed.append(seed)
    return {
        "right": right,
        "seeds": seeds,
        "missed": missed,
        "n KS mean": float(np.mean(distances)),
        "n KS std": float(np.std(distances)),
        "n KS largest": float(np.max(distances)),
        "seconds each": (time.perf_counter() - began) / seeds,
    }


def training() -> list[dict[str, object]]:
    """Measure the hidden layers of a network at some steps of its training, at one digit."""
    with np.load(ROOT / "data" / "digits.npz") as file:
        x, y = torch.from_numpy(file["x"]).float(), torch.from_numpy(file["y"]).long()
    torch.manual_seed(0)
    net = nn.Sequential(*(m for _ in range(5) for m in (nn.Linear(64, 64), nn.Tanh())))
    for layer in net[::2]:
        nn.init.normal_(layer.weight, std=1.1 / 8)
    head = nn.Linear(64, 10)
    optimiser = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
    rows: list[dict[str, object]] = []
    for step in range(STEPS[-1] + 1):
        batch = torch.randint(len(x), (64,))
        loss = nn.functional.cross_entropy(head(net(x[batch])), y[batch])
        if step in STEPS:
            right = (head(net(x)).argmax(1) == y).float().mean()
            rows.append({"step": step, "right": float(right), **_gap(net, x[:1])})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return rows


def _gap(net: nn.Module, x: Tensor) -> dict[str, object]:
    report = isometry.analyze(net, x, check_itself=False)
    free = next(p for p in report.theory if p.name == "free product")
    found = parts(Jacobian(net, x, self_check=False))
    each = [p.matrix.interface for p in found if p.matrix and p.matrix.interface]
    worst = max(each, key=lambda i: abs(i.z))
    return {
        "z": worst.z,
        "interface": f"{worst.before} → {worst.after}",
        "n KS": free.ks * min(report.jacobian.shape),
        "word": free.judgement.word,
        "score": report.score.value,
        "score of the free product": free.score,
    }


@click.command()
@click.option("--seeds", default=100, show_default=True)
@click.option("--depth", "depths", type=int, multiple=True, default=(5, 10), show_default=True)
@click.option("--width", "widths", type=int, multiple=True, default=(256,), show_default=True)
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, default=KINDS)
def main(seeds: int, depths: list[int], widths: list[int], kinds: list[str]) -> None:
    """Print the tables and write the JSON, where rows of an earlier run stay."""
    print("| network | width | depth | right | n·KS mean ± std, largest | s each |")
    print("|---|---|---|---|---|---|")
    target = ROOT / "benchmarks/results/freeness-cpu.json"
    rows = json.loads(target.read_text())["networks"] if target.exists() else {}
    for kind, width, depth in itertools.product(kinds, widths, depths):
        rows[f"{kind}, width {width}, depth {depth}"] = r = trial(kind, width, depth, seeds)
        print(
            f"| {kind} | {width} | {depth} | {r['right']} of {seeds} "
            f"| {r['n KS mean']:.2f} ± {r['n KS std']:.2f}, {r['n KS largest']:.2f} "
            f"| {r['seconds each']:.2f} |",
            flush=True,
        )
    print("\n| step | right | largest z | at | n·KS | free product | score, of the free product |")
    print("|---|---|---|---|---|---|---|")
    steps = training()
    for r in steps:
        print(
            f"| {r['step']} | {r['right']:.0%} | {r['z']:.1f} | {r['interface']} | {r['n KS']:.1f} "
            f"| {r['word']} | {r['score']:.3f}, {r['score of the free product']:.3f} |"
        )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    target.write_text(
        json.dumps({"machine": machine, "networks": rows, "training": steps}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
