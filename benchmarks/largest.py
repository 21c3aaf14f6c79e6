"""How fast are the largest singular values found, to a residual of 1e-6?

Question: isometry's block bidiagonalisation against SciPy's `svds` (ARPACK on JᵀJ, PROPACK), on the
products of isometry, and on those of curvlinops, whose Jacobian is by the parameters: the input is
made one. `svds` hands the square of its tolerance to ARPACK and PROPACK: with 1e-3 it stops where
isometry does, at ‖JᵀJ v - σ²v‖ <= 1e-6·σ²; its default is 0, rounding. The error is that of σ_max
against a run to 1e-10. A side that takes longer than the limit is ended.

    pip install curvlinops-for-pytorch   # a rival; left out where it is absent
    python benchmarks/largest.py         # writes results/largest-<device>.json
"""

from __future__ import annotations

import os
import signal
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import click
import numpy as np
import torch
from comparison import clock, convolutions, orthogonal_mlp, prepared, save, table
from scipy.sparse.linalg import ArpackError, LinearOperator, aslinearoperator, svds
from torch import Tensor, nn

from isometry.jacobian import Jacobian
from isometry.measure.largest import largest

TOLERANCE = 1e-6
Counted = list[int]


def features() -> tuple[nn.Module, Tensor]:
    """224 x 224 pixels in three colours to 1,000 features: n = 150,528."""
    torch.manual_seed(0)
    widths, strides = (3, 16, 32, 64, 64), (4, 2, 2, 2)
    layers: list[nn.Module] = []
    for i, stride in enumerate(strides):
        layer = nn.Conv2d(widths[i], widths[i + 1], 5, stride, padding=2)
        nn.init.normal_(layer.weight, std=(2 / (25 * widths[i])) ** 0.5)
        layers += [layer, nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(64 * 49, 1000)]
    return nn.Sequential(*layers).double(), torch.randn(1, 3, 224, 224, dtype=torch.float64)


def faint(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Nearly linear: nearly an isometry."""
    return model, x / 20


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "CNN 32 x 16x16, depth 16, delta-orthogonal": lambda: convolutions(32, 16, 16),
    "the same, a twentieth of the input": lambda: faint(*convolutions(32, 16, 16)),
    "CNN 32 x 16x16, depth 16, Gaussian": lambda: convolutions(32, 16, 16, delta=False),
    "MLP 1000 x 20, orthogonal": lambda: orthogonal_mlp(1000, 20, 1.05),
    "pixels to features": features,
}


class AtInput(nn.Module):
    """A network whose input is its only parameter."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.point = nn.Parameter(x.clone())
        model.requires_grad_(False)
        self.run = lambda: model(self.point)

    def forward(self, _: Tensor) -> Tensor:
        """Ignore the data."""
        return self.run()


def of_curvlinops(model: nn.Module, x: Tensor) -> LinearOperator | None:
    """J from curvlinops, if it is installed."""
    try:
        from curvlinops import JacobianLinearOperator
    except ImportError:
        return None
    net, data = AtInput(model, x), [(x.new_zeros(1, 1), x.new_zeros(1, 1))]
    operator = JacobianLinearOperator(net, [net.point], data, check_deterministic=False, num_data=1)
    return aslinearoperator(operator.to_scipy())


def counted(a: LinearOperator, products: Counted) -> LinearOperator:
    """Count the vectors that it is applied to."""

    def one(product: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def apply(v: Any) -> Any:
            products[0] += 1
            return product(v)

        return apply

    return LinearOperator(
        a.shape, matvec=one(a.matvec), rmatvec=one(a.rmatvec), dtype=np.dtype(float)
    )


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where it takes longer."""

    def ring(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def measured(run: Callable[[], Any], limit: int) -> tuple[float, float, str]:
    """Seconds, σ_max and what went wrong."""
    start = clock()
    try:
        with limited(limit):
            value = float(np.max(run()))
            return clock() - start, value, ""
    except (ArpackError, np.linalg.LinAlgError) as e:
        return clock() - start, np.nan, type(e).__name__
    except TimeoutError:
        return clock() - start, np.nan, "ended"


@cache
def placed(name: str, place: torch.device) -> tuple[nn.Module, Tensor, Jacobian, float]:
    """A network, its J, and σ_max as well as may be."""
    model, x = (part.to(place) for part in NETWORKS[name]())
    jacobian = Jacobian(model, x)
    return model, x, jacobian, float(largest(jacobian, tolerance=1e-10, steps=999).values[0])


def compare(
    name: str, count: int, repeats: int, limit: int, place: torch.device
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time the sides in turn."""
    model, x, jacobian, reference = placed(name, place)
    found: dict[str, Any] = {}

    def ours() -> Any:
        found["ours"] = largest(jacobian, count, tolerance=TOLERANCE)
        return found["ours"].values

    operators = {"isometry": jacobian.as_linear_operator()}
    if (rival := of_curvlinops(model, x)) is not None:
        operators["curvlinops"] = rival
    else:
        print("curvlinops is not installed, and left out\n")
    sides: dict[str, tuple[Callable[[], Any], Counted]] = {"isometry": (ours, [0])}
    for whose, solver, tol in (
        ("isometry", "arpack", 1e-3),
        ("isometry", "arpack", 0.0),
        ("isometry", "propack", 1e-3),
        ("curvlinops", "arpack", 1e-3),
    ):
        if whose in operators:
            products = [0]
            options = {"tol": tol, "solver": solver, "return_singular_vectors": False, "rng": 0}
            run = partial(svds, counted(operators[whose], products), count, **options)
            sides[f"svds, {solver} to {tol:g}, products of {whose}"] = (run, products)
    times: dict[str, list[float]] = {side: [] for side in sides}
    last: dict[str, tuple[float, str]] = {}
    for _ in range(repeats):
        for side, (run, _products) in sides.items():
            if last.get(side, (0, ""))[1]:
                continue
            seconds, value, wrong = measured(run, limit)
            times[side].append(seconds)
            last[side] = abs(value / reference - 1), wrong
    rows = []
    for side, (_, products) in sides.items():
        error, wrong = last[side]
        ours_paired = times["isometry"][: len(times[side])]
        quotient = statistics.median(b / a for a, b in zip(ours_paired, times[side], strict=True))
        rows.append(
            {
                "network": name,
                "values": count,
                "side": side,
                "seconds": statistics.median(times[side]),
                "side / isometry": _quoted(quotient, wrong),
                "products": found["ours"].products
                if side == "isometry"
                else products[0] // len(times[side]),
                "error of the largest": wrong or error,
            }
        )
    return rows, {"shape": jacobian.shape, "largest": reference}


def _quoted(quotient: float, wrong: str) -> str:
    if wrong:
        return f">= {quotient:.3g}" if wrong == "ended" else "failed"
    return f"{quotient:.3g}"


@click.command()
@click.option("--repeats", default=2, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--limit", default=60, show_default=True, help="Seconds a side may take.")
def main(repeats: int, threads: int, device: str, limit: int) -> None:
    """Print the table and write the JSON."""
    place = prepared(device, threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    rows: list[dict[str, Any]] = []
    networks = {}
    for name in NETWORKS:
        for count in (1, 6):
            part, networks[name] = compare(name, count, repeats, limit, place)
            table(part)
            rows += part
    save(
        "largest",
        {"tolerance": TOLERANCE, "networks": networks, "sides": rows},
        place,
        repeats=repeats,
    )


if __name__ == "__main__":
    main()
