"""How long until the density of log σ is right?

Question: processor time to reach a given Wasserstein-1 error in log σ, on networks small enough
for the truth to be known. Every side follows a ladder of ever more probes and steps; its error is
the mean over seeds, and it has reached an error once no cheaper rung has a smaller one.

Rivals, each left out where it is absent, are given JᵀJ, or J, of the same network:

    pip install curvlinops-for-pytorch hessian-eigenthings matfree "jax[cpu]"
    python benchmarks/density.py   # writes results/density-<device>.json

Of curvlinops and hessian-eigenthings there are two results: the raw nodes and weights, and the
smooth density in σ² that they return. matfree, in JAX, has J by a network of its own, compiled
before the clock starts.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from comparison import clocked, orthogonal_mlp, prepared, save, table
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from isometry.jacobian import Jacobian
from isometry.measure import quadrature

WIDTH = 1000
Measure = tuple[np.ndarray, np.ndarray]  # σ and weights
Side = Callable[[int, int, int], Measure]  # probes, steps, seed

#: Probes and steps, from cheap to dear.
LADDER = [(8, 4), (8, 8), (16, 8), (32, 8), (64, 8), (16, 16), (32, 16), (64, 16), (16, 32)]
LADDER += [(16, 64), (32, 64), (128, 8), (128, 16), (8, 100)]


def gaussian(depth: int) -> tuple[nn.Module, Tensor]:
    """A linear network of Gaussian weights: σ over many decades."""
    net, x = orthogonal_mlp(WIDTH, depth, activation=nn.Identity)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=WIDTH**-0.5)
    return net, x


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "tanh, orthogonal, depth 10": lambda: orthogonal_mlp(WIDTH, 10, 1.05),
    "linear, Gaussian, depth 5": lambda: gaussian(5),
    "isometry: linear, orthogonal, depth 5": lambda: orthogonal_mlp(
        WIDTH, 5, activation=nn.Identity
    ),
}


def ours(model: nn.Module, x: Tensor) -> dict[str, Side]:
    """Isometry."""
    jacobian = Jacobian(model, x)

    def run(probes: int, steps: int, seed: int) -> Measure:
        found = quadrature(jacobian, probes=probes, steps=steps, seed=seed).measure
        return found.nodes, found.weights

    return {"isometry": run}


def of_curvlinops(model: nn.Module, x: Tensor) -> dict[str, Side]:
    """Lanczos without reorthogonalisation, and its Gaussian bumps."""
    from curvlinops import LanczosApproximateSpectrumCached
    from curvlinops._torch_base import PyTorchLinearOperator
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    jacobian = Jacobian(model, x)
    n = jacobian.shape[1]

    class Square(PyTorchLinearOperator):
        SELF_ADJOINT = True

        def __init__(self) -> None:
            super().__init__([(n,)], [(n,)])

        device, dtype = jacobian.device, jacobian.dtype

        def _matmat(self, block: list[Tensor]) -> list[Tensor]:
            return [jacobian.T @ (jacobian @ block[0])]

    def raw(probes: int, steps: int, seed: int) -> Measure:
        torch.manual_seed(seed)
        runs = [fast_lanczos(Square(), steps) for _ in range(probes)]
        return _roots(torch.cat([t for t, _ in runs]), torch.cat([v[0] ** 2 for _, v in runs]))

    def smooth(probes: int, steps: int, seed: int) -> Measure:
        torch.manual_seed(seed)
        found = LanczosApproximateSpectrumCached(Square(), steps, boundaries=(0.0, None))
        return _roots(*found.approximate_spectrum(num_repeats=probes))

    return {"curvlinops, nodes": raw, "curvlinops, density": smooth}


def of_eigenthings(model: nn.Module, x: Tensor) -> dict[str, Side]:
    """Lanczos with a loop of reorthogonalisation, and its Gaussian bumps."""
    from hessian_eigenthings.algorithms.spectral_density import spectral_density
    from hessian_eigenthings.operators.base import LambdaOperator

    jacobian = Jacobian(model, x)
    square = LambdaOperator(
        lambda v: jacobian.T @ (jacobian @ v),
        jacobian.shape[1],
        dtype=jacobian.dtype,
        device=jacobian.device,
    )

    def found(probes: int, steps: int, seed: int) -> Any:
        return spectral_density(square, num_runs=probes, lanczos_steps=steps, seed=1000 * seed)

    def raw(probes: int, steps: int, seed: int) -> Measure:
        result = found(probes, steps, seed)
        return _roots(result.raw_eigenvalues.flatten(), result.raw_weights.flatten())

    def smooth(probes: int, steps: int, seed: int) -> Measure:
        result = found(probes, steps, seed)
        return _roots(result.grid, result.density)

    return {"hessian-eigenthings, nodes": raw, "hessian-eigenthings, density": smooth}


def of_matfree(model: nn.Module, x: Tensor) -> dict[str, Side]:
    """Golub-Kahan in JAX, all probes at once."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax import numpy as jnp
    from matfree import decomp

    weights = [jnp.asarray(p.detach().cpu().numpy()) for p in model.parameters()]
    bends = any(isinstance(m, nn.Tanh) for m in model.modules())
    at = jnp.asarray(x[0].cpu().numpy())

    def network(v: Any) -> Any:
        for w in weights:
            v = jnp.tanh(w @ v) if bends else w @ v
        return v

    product = jax.linearize(network, at)[1]
    compiled: dict[tuple[int, int], Any] = {}

    def run(probes: int, steps: int, seed: int) -> Measure:
        v = jnp.asarray(np.random.default_rng(seed).standard_normal((probes, WIDTH)))
        if (probes, steps) not in compiled:
            bidiagonal = decomp.bidiag(steps)

            def one(v: Any) -> Any:
                _, sigma, right = jnp.linalg.svd(bidiagonal(product, v).J_small)
                return sigma, right[:, 0] ** 2

            compiled[probes, steps] = jax.jit(jax.vmap(one))
        sigma, shares = compiled[probes, steps](v)
        return np.asarray(sigma).ravel(), np.asarray(shares).ravel()

    return {"matfree": run}


def _roots(squares: Tensor, weights: Tensor) -> Measure:
    """From λ = σ² to σ; what is NaN has been filled up."""
    values, shares = squares.cpu().numpy(), weights.cpu().numpy()
    return np.sqrt(np.maximum(values, 0.0)), np.where(np.isnan(values), 0.0, shares)


def distance(found: Measure, true: np.ndarray) -> float:
    """Wasserstein-1 in log σ, with all that is below rounding at rounding."""
    sigma, weights = found
    if not (np.all(np.isfinite(weights)) and weights.sum() > 0 and np.nanmax(sigma) > 0):
        return float("nan")
    least = 1e-16 * true.max()
    at = np.log(np.maximum(np.nan_to_num(sigma), least))
    return float(wasserstein_distance(at, np.log(np.maximum(true, least)), weights))


def climb(side: Side, true: np.ndarray, seeds: int, limit: float) -> list[dict[str, Any]]:
    """Time and error at every rung."""
    rungs = []
    for probes, steps in LADDER:
        runs = [clocked(partial(side, probes, steps, seed)) for seed in range(seeds + 1)]
        runs = runs[1:]  # the first one compiles
        seconds = float(np.median([time["seconds"] for time, _ in runs]))
        error = float(np.mean([distance(found, true) for _, found in runs]))
        rungs.append({"probes": probes, "steps": steps, "seconds": seconds, "error": error})
        if seconds > limit:
            break
    return rungs


def reached(rungs: list[dict[str, Any]], error: float) -> float:
    """Seconds of the cheapest rung as good as that."""
    return min((r["seconds"] for r in rungs if r["error"] <= error), default=float("inf"))


def compare(
    name: str, seeds: int, limit: float, place: torch.device
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Let every side climb; then ask each for the same errors."""
    model, x = (part.to(place) for part in NETWORKS[name]())
    true = torch.linalg.svdvals(Jacobian(model, x).dense()).cpu().numpy()
    ladders: dict[str, list[dict[str, Any]]] = {}
    for make in (ours, of_curvlinops, of_eigenthings, of_matfree):
        try:
            sides = make(model, x)
        except ImportError as e:
            print(f"left out, not installed: {e.name}\n")
            continue
        for side, run in sides.items():
            try:
                ladders[side] = climb(run, true, seeds, limit)
            except Exception as e:  # whatever a rival raises is its answer
                print(f"{side}: {type(e).__name__}: {str(e)[:80]}\n")
                ladders[side] = []
    return asked(name, ladders), ladders


def asked(name: str, ladders: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """How long each side takes to errors that isometry has at 4 and 8 steps, and at its best."""
    errors = {r["steps"]: 1.1 * r["error"] for r in ladders["isometry"]}
    goals = [float(f"{max(e, 1e-6):.2g}") for e in (errors[4], errors[8], min(errors.values()))]
    goals = list(dict.fromkeys(goals))
    rows = []
    for side, rungs in ladders.items():
        row: dict[str, Any] = {"network": name, "side": side}
        row["smallest error"] = min((r["error"] for r in rungs), default=float("nan"))
        for goal in goals:
            seconds = reached(rungs, goal)
            came = seconds < float("inf")
            quotient = seconds / reached(ladders["isometry"], goal)
            row[f"seconds to {goal:g}"] = seconds if came else "never"
            row[f"side / isometry to {goal:g}"] = quotient if came else "–"
        rows.append(row)
    return rows


@click.command()
@click.option("--seeds", default=2, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--limit", default=2.0, show_default=True, help="Seconds of the dearest rung.")
def main(seeds: int, device: str, limit: float) -> None:
    """Print the tables and write the JSON."""
    place = prepared(device)
    warnings.simplefilter("ignore")  # of the rivals
    rows, ladders = [], {}
    for name in NETWORKS:
        part, ladders[name] = compare(name, seeds, limit, place)
        table(part)
        rows += part
    save("density", {"width": WIDTH, "sides": rows, "ladders": ladders}, place, seeds=seeds)


if __name__ == "__main__":
    main()
