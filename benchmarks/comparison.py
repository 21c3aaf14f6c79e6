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


def prepared(device: str, threads: int = 1) -> torch.device:
    """Choose where everything runs, and how many threads the processor has."""
    torch.set_num_threads(threads)
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.init()
    return place


def wait() -> None:
    """Let an accelerator end what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def clock() -> float:
    """Seconds of the processor; where an accelerator is in use, of the wall."""
    wait()
    return time.perf_counter() if torch.cuda.is_initialized() else time.process_time()


def clocked(run: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds on the wall and of the `clock`, and the result."""
    wall, start = time.perf_counter(), clock()
    result = run()
    seconds = clock() - start
    return {"wall s": time.perf_counter() - wall, "seconds": seconds}, result


def in_turn(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every side; all take turns, so that they meet the same load."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            times[name].append(clocked(run)[0]["seconds"])
    return times


def ratio(times: list[float], base: list[float]) -> float:
    """Median of the ratios of measurements that were made together."""
    return statistics.median(a / b for a, b in zip(times, base, strict=True))


def product_rate(place: torch.device, dtype: torch.dtype = torch.float64) -> float:
    """Floating-point operations a second, in products of square matrices."""
    size = 1024 if place.type == "cpu" else 8192
    a = torch.randn(size, size, dtype=dtype, device=place)
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


def save(name: str, result: dict[str, Any], place: torch.device, **setting: Any) -> None:
    """Write results/<name>-<device>.json with the machine and the setting in it."""
    machine: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if place.type == "cpu":
        machine["clock"] = "seconds of the processor; other programs were running: read the ratios"
        suffix = "cpu"
    else:
        machine["device"] = torch.cuda.get_device_name(place)
        machine["clock"] = "seconds on the wall, the device waited for"
        suffix = machine["device"].replace(" ", "-")
    if setting:
        machine["setting"] = setting
    target = ROOT / f"benchmarks/results/{name}-{suffix}.json"
    target.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n")
