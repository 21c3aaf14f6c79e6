"""The reference tables, and the matrices whose spectra the laws predict."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from isometry.laws import FreeProduct, Gaussian, Isometry
from isometry.meanfield import slope_law

_REFERENCE = Path(__file__).parents[2] / "data" / "reference"


def reference(table):
    """The JSON of one table."""
    return json.loads((_REFERENCE / f"laws_{table}.json").read_text(encoding="utf-8"))


def _name(row):
    parts = [row[k] for k in ("activation", "q_star", "weights", "c", "residual_c") if k in row]
    parts += [str(row[k]) for k in ("depth", "seed") if k in row]
    return "-".join(parts)


_TABLES = {
    "row": "10_2",
    "deep_row": "10_3",
    "residual_row": "10_4",
    "score_row": "10_5",
    "network_row": "10_6",
}


def pytest_generate_tests(metafunc):
    for argument, table in _TABLES.items():
        if argument in metafunc.fixturenames:
            rows = reference(table)["rows"]
            metafunc.parametrize(argument, rows, ids=[_name(row) for row in rows])
    if "shallow_row" in metafunc.fixturenames:
        rows = [
            row
            for row in reference("10_6")["rows"]
            if 3 <= len(row["widths"]) - 1 <= 4 and row.get("activation") != "linear"
        ]
        metafunc.parametrize("shallow_row", rows, ids=[_name(row) for row in rows])


@pytest.fixture(scope="session")
def tables():
    """The JSON of a table, by its number."""
    return reference


@pytest.fixture(scope="session")
def recompute():
    """The scripts behind the tables, by their name."""

    def load(name):
        spec = importlib.util.spec_from_file_location(
            f"reference_{name}", _REFERENCE / f"{name}.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def slopes():
    """Values and weights of φ′² of some activations, by their names."""
    variances = {"tanh": 0.5, "erf": 1.0, "leaky_relu": 1.0, "silu": 0.5, "elu": 1.0}
    return {name: slope_law(name, q) for name, q in variances.items()}


@pytest.fixture(scope="session")
def chain():
    """Square Gaussian weights and masks, each in its own power."""

    def of(gaussians, masks, p=0.5, log_scale=0.0):
        factors = [(Gaussian(1, 1), gaussians)] if gaussians else []
        factors += [(Isometry.mask(1, p), masks)] if masks else []
        return FreeProduct(factors, log_scale=log_scale)

    return of


def _product(weights, depth, masks, n, p, seed):
    rng = np.random.default_rng(seed)
    product = np.eye(n)
    for layer in range(depth):
        w = rng.standard_normal((n, n))
        product = (w / np.sqrt(n) if weights == "gaussian" else np.linalg.qr(w)[0]) @ product
        if layer < masks:  # exactly p n ones: the fluctuation of the rank is not the law's
            kept = rng.permutation(n) < round(p * n)
            product = kept[:, None] * product
    return np.linalg.svd(product, compute_uv=False)


@pytest.fixture(scope="session")
def singular_values():
    """Singular values of one random chain of real n x n matrices."""
    cache = {}

    def of(weights, depth, masks, n=300, p=0.5, seed=0):
        key = weights, depth, masks, n, p, seed
        if key not in cache:
            cache[key] = _product(*key)
        return cache[key]

    return of
