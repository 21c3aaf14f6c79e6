"""Random networks in NumPy, written apart from the library: what its theory is compared with here.

A layer is h = W φ(x) + b, or h = W x + b at the input, with W of entries N(0, σ_w²/n) or σ_w times
Haar orthogonal and b of entries N(0, σ_b²).
"""

from dataclasses import dataclass

import numpy as np

from isometry.distance import kolmogorov_smirnov
from isometry.meanfield import activation


@dataclass(frozen=True)
class Recipe:
    """All that a chain of equal layers needs; `q` is the variance at which signals start."""

    activation: str
    weights: str  # "gaussian" or "orthogonal"
    depth: int
    sigma_w: float
    sigma_b: float
    q: float


def weight(kind: str, n: int, sigma_w: float, rng: np.random.Generator) -> np.ndarray:
    """A square weight matrix."""
    g = rng.standard_normal((n, n))
    if kind == "gaussian":
        return sigma_w / n**0.5 * g
    q, r = np.linalg.qr(g)
    return sigma_w * q * np.sign(np.diag(r))


def chain_singular_values(recipe: Recipe, n: int, rng: np.random.Generator) -> np.ndarray:
    """Singular values of J = D^L W^L ⋯ D^1 W^1 at a random input that puts h^1 at variance q."""
    phi = activation(recipe.activation)
    x = rng.standard_normal(n)
    x *= ((recipe.q - recipe.sigma_b**2) * n) ** 0.5 / recipe.sigma_w / np.linalg.norm(x)
    product = np.eye(n)
    for _ in range(recipe.depth):
        w = weight(recipe.weights, n, recipe.sigma_w, rng)
        h = w @ x + recipe.sigma_b * rng.standard_normal(n)
        x = phi.function(h)
        product = phi.derivative(h)[:, None] * (w @ product)
    return np.linalg.svd(product, compute_uv=False)


def chains(recipe: Recipe, n: int, draws: int, seed: int) -> list[np.ndarray]:
    """Singular values of several networks of one recipe."""
    return [
        chain_singular_values(recipe, n, np.random.default_rng([seed, k])) for k in range(draws)
    ]


def floor(sigma: np.ndarray) -> float:
    """What an SVD in double precision can tell from zero."""
    return len(sigma) * np.finfo(float).eps * float(sigma.max())


def distance(draws: list[np.ndarray], law) -> float:
    """Kolmogorov–Smirnov distance of all draws together from a law, above the SVD's floor."""
    lowest = max(floor(sigma) for sigma in draws)
    sigma = np.concatenate(draws)
    log_sigma = np.log(
        np.where(sigma > lowest, sigma, 0.0),
        where=sigma > lowest,
        out=np.full(sigma.shape, -np.inf),
    )
    return kolmogorov_smirnov(
        log_sigma, np.full(sigma.shape, 1 / sigma.size), law, floor=np.log(lowest)
    )


def per_unit(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Heights of a histogram whose bars, with what lies outside, have the total area 1."""
    return np.histogram(values, edges)[0] / values.size / np.diff(edges)


def print_table(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """Print rows as Markdown."""
    print(f"\n{title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row) + " |")
