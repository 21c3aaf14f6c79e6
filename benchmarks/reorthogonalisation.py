"""What does full reorthogonalisation cost, and does it hold?

Question: 80 vectors of length 100,000 on either side of a bidiagonalisation whose products cost
next to nothing: ours, 10 blocks of 8, against one vector at a time, orthogonalised by a loop over
all earlier ones (modified Gram-Schmidt, once or twice) or by two products with their matrix, done
twice. hessian-eigenthings has a loop, on one side of AᵀA (pip install hessian-eigenthings).

    python benchmarks/reorthogonalisation.py   # writes results/reorthogonalisation-<device>.json
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import click
import torch
from comparison import in_turn, prepared, ratio, save, table
from torch import Tensor

from isometry.measure import LambdaOperator
from isometry.measure.bidiagonal import Bidiagonalisation

LENGTH, VECTORS, BLOCK = 100_000, 80, 8


def blocked(sigma: Tensor, start: Tensor) -> Tensor:
    """Ours."""
    a = LambdaOperator(
        (LENGTH, LENGTH), lambda v: sigma * v, lambda u: sigma * u, device=sigma.device
    )
    grown = Bidiagonalisation(a, torch.linalg.qr(start)[0], VECTORS // BLOCK)
    for _ in range(VECTORS // BLOCK):
        grown.step()
    return grown._v.rows[:VECTORS]


def by_vector(
    orthogonalised: Callable[[Tensor, Tensor], Tensor], sigma: Tensor, start: Tensor
) -> Tensor:
    """Golub-Kahan, a vector at a time."""
    v, u = sigma.new_zeros(2, VECTORS, LENGTH)
    sigma, new = sigma[:, 0], start[:, 0]
    for i in range(VECTORS):
        v[i] = new / new.norm()
        image = orthogonalised(sigma * v[i], u[:i])
        u[i] = image / image.norm()
        new = orthogonalised(sigma * u[i], v[: i + 1])
    return v


def loop(vector: Tensor, basis: Tensor) -> Tensor:
    """One after the other, each with its own number."""
    for b in basis:
        vector = vector - float(b @ vector) * b
    return vector


def looped_twice(vector: Tensor, basis: Tensor) -> Tensor:
    """Enough, as `matrix` does it."""
    return loop(loop(vector, basis), basis)


def matrix(vector: Tensor, basis: Tensor) -> Tensor:
    """All at once, twice."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector


def rival(sigma: Tensor, start: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Lanczos on AᵀA as hessian-eigenthings does it, if it is installed."""
    try:
        from hessian_eigenthings.algorithms.lanczos import lanczos_tridiagonal
        from hessian_eigenthings.operators.base import LambdaOperator as Symmetric
    except ImportError:
        print("hessian-eigenthings is not installed, and left out\n")
        return {}
    square = sigma[:, 0] ** 2
    a = Symmetric(lambda v: square * v, LENGTH, dtype=torch.float64, device=sigma.device)

    def run() -> Tensor:
        return torch.stack(lanczos_tridiagonal(a, start[:, 0], VECTORS).basis)

    return {"hessian-eigenthings, one side": run}


@click.command()
@click.option("--repeats", default=7, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(repeats: int, threads: int, device: str) -> None:
    """Print the table and write the JSON."""
    place = prepared(device, threads)
    g = torch.Generator().manual_seed(0)
    start = torch.randn(LENGTH, BLOCK, generator=g, dtype=torch.float64).to(place)
    sigma = torch.logspace(-8, 0, LENGTH, dtype=torch.float64, device=place)[:, None]
    sides = {
        "isometry, blocks of 8": lambda: blocked(sigma, start),
        "loop over vectors": lambda: by_vector(loop, sigma, start),
        "loop over vectors, twice": lambda: by_vector(looped_twice, sigma, start),
        "matrix and vector, twice": lambda: by_vector(matrix, sigma, start),
        **rival(sigma, start),
    }
    times = in_turn(sides, repeats)
    ours = times["isometry, blocks of 8"]
    rows = [
        {
            "side": name,
            "seconds": statistics.median(times[name]),
            "side / isometry": ratio(times[name], ours),
            "largest entry of VᵀV - 1": _loss(run()),
        }
        for name, run in sides.items()
    ]
    table(rows)
    save(
        "reorthogonalisation",
        {"length": LENGTH, "vectors": VECTORS, "sides": rows},
        place,
        repeats=repeats,
    )


def _loss(rows: Tensor) -> float:
    return float(
        (rows @ rows.T - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)).abs().max()
    )


if __name__ == "__main__":
    main()
