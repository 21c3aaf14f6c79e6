"""The printed reference rows, and the matrices whose spectra the laws predict."""

import json
from pathlib import Path

import numpy as np
import pytest

_ROWS = Path(__file__).parents[2] / "data" / "reference" / "laws_10_2.json"


def pytest_generate_tests(metafunc):
    if "row" in metafunc.fixturenames:
        rows = json.loads(_ROWS.read_text(encoding="utf-8"))["rows"]
        names = [f"{r['activation']}-{r['weights']}-{r['depth']}" for r in rows]
        metafunc.parametrize("row", rows, ids=names)


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
