"""Finite random networks, whose singular values the limiting laws predict."""

import itertools

import numpy as np
from scipy import special

_ACTIVATIONS = {
    "linear": (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: (x > 0).astype(float)),
    "hard_tanh": (lambda x: np.clip(x, -1, 1), lambda x: (np.abs(x) < 1).astype(float)),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "scaled_erf": (
        lambda x: special.erf(0.5 * np.sqrt(np.pi) * x),
        lambda x: np.exp(-0.25 * np.pi * x**2),
    ),
}


def singular_values(row, repetition=0):
    """Singular values of one network's Jacobian, over the directions that its shape allows.

    Parameters
    ----------
    row : dict
        `activation`; `weights`, "gaussian" or "orthogonal"; `widths`, from the input on;
        `sigma_w2`, `sigma_b2`; `q`, the variance of the first pre-activations; `seed`. With a
        `branch_variance` b² it is a chain of I + b W₂ D W₁ or I + b W D instead, D a fresh 0/1
        mask with half its entries 1 and W of variance 2: no forward pass.
    repetition : int
        Which of the networks of this row.
    """
    rng = np.random.default_rng([row["seed"], repetition])
    product = _residual(row, rng) if "branch_variance" in row else _chain(row, rng)
    return np.linalg.svd(product, compute_uv=False)[: min(row["widths"])]


def _weight(n_out, n_in, row, rng):
    """Gaussian, or Haar with the per-output variance of a Gaussian."""
    g = rng.standard_normal((n_out, n_in))
    if row["weights"] == "gaussian":
        return np.sqrt(row["sigma_w2"] / n_in) * g
    q, r = np.linalg.qr(g if n_out >= n_in else g.T)
    q = q * np.sign(np.diag(r))
    return np.sqrt(row["sigma_w2"] * max(1.0, n_out / n_in)) * (q if n_out >= n_in else q.T)


def _chain(row, rng):
    phi, derivative = _ACTIVATIONS[row["activation"]]
    n = row["widths"][0]
    x = rng.standard_normal(n)
    x *= np.sqrt((row["q"] - row["sigma_b2"]) / row["sigma_w2"] * n) / np.linalg.norm(x)
    product = np.eye(n)
    for n_in, n_out in itertools.pairwise(row["widths"]):
        w = _weight(n_out, n_in, row, rng)
        h = w @ x + np.sqrt(row["sigma_b2"]) * rng.standard_normal(n_out)
        x = phi(h)
        product = derivative(h)[:, None] * (w @ product)
    return product


def _residual(row, rng):
    n = row["widths"][0]
    product, b = np.eye(n), np.sqrt(row["branch_variance"])
    for _ in row["widths"][1:]:
        mask = rng.permutation(n) < n // 2
        branch = mask[:, None] * (_weight(n, n, row, rng) @ product)
        if row["two_weights"]:
            branch = _weight(n, n, row | {"sigma_w2": 1.0}, rng) @ branch
        product = product + b * branch
    return product


def statistics(row):
    """Mean and standard error, over the networks of a row, of what is stable at finite width."""
    draws = [singular_values(row, k) for k in range(row["networks"])]
    found = {
        "score": [np.mean(2 * s**2 / (1 + s**4)) for s in draws],
        "mass_above_1": [np.mean(s > 1) for s in draws],
        "mean_square": [np.mean(s**2) for s in draws],
        "max_log_sigma": [np.log(s[0]) for s in draws],
    }
    return {
        key: [float(np.mean(v)), float(np.std(v, ddof=1) / np.sqrt(len(v)))]
        for key, v in found.items()
    }
