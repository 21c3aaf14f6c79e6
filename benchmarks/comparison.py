"""What the benchmarks share: networks, timing of several sides in turn, tables and results."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def orthogonal_mlp(
    width: int,
    depth: int,
    gain: float = 1.0,
    activation: Callable[[], nn.Module] = nn.Tanh,
    dtype: torch.dtype = torch.float64,
) -> tuple[nn.Module, Tensor]:
    """Plain layers with orthogonal weights, and an input."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(width, width, bias=False)
        nn.init.orthogonal_(layer.weight, gain)
        layers += [layer, activation()]
    return nn.Sequential(*layers).to(dtype), torch.randn(1, width, dtype=dtype) / 2


def convolutions(
    channels: int, side: int, depth: int, *, delta: bool = True
) -> tuple[nn.Module, Tensor]:
    """3 x 3 convolutions and tanh: delta-orthogonal, or Gaussian kernels of unit gain."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, dtype=torch.float64)
        if delta:
            nn.init.zeros_(layer.weight)
            nn.init.orthogonal_(layer.weight.data[:, :, 1, 1])
        else:
            nn.init.normal_(layer.weight, std=(9 * channels) ** -0.5)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers), torch.randn(1, channels, side, side, dtype=torch.float64) / 2


def clocked(run: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds on the wall and of the processor, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return {"s": time.perf_counter() - wall, "cpu s": time.process_time() - cpu}, result


def in_turn(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of the processor; all sides take turns, so that they meet the same load."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            times[name].append(clocked(run)[0]["cpu s"])
    return times


def ratio(times: list[float], base: list[float]) -> float:
    """Median of the ratios of measurements that were made together."""
    return statistics.median(a / b for a, b in zip(times, base, strict=True))


def product_rate(size: int = 1024, dtype: torch.dtype = torch.float64) -> float:
    """Floating-point operations a second, in products of square matrices."""
    a = torch.randn(size, size, dtype=dtype)
    times = in_turn({"": lambda: a @ a}, 9)[""]
    return float(2 * size**3 / statistics.median(times[1:]))


def table(rows: list[dict[str, Any]]) -> None:
    """Print records of the same fields."""
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(_text(value) for value in row.values()) + " |")
    print(flush=True)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def save(name: str, result: dict[str, Any], threads: int) -> None:
    """Write results/<name>-cpu.json with the machine in it."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": threads,
        "shared": "other programs were running: ratios of processor time are what counts",
    }
    target = ROOT / f"benchmarks/results/{name}-cpu.json"
    target.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n")
