"""The largest singular values, on maps that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isometry.errors import InputError, MeasurementError
from isometry.jacobian import Jacobian
from isometry.measure import LambdaOperator
from isometry.measure.largest import largest

N = 300
KNOWN = {
    "identity": np.ones(N),
    "zero": np.zeros(N),
    "cluster of 20": np.r_[np.full(20, 2.0), np.linspace(1, 0, N - 20)],
    "almost a cluster": np.r_[2 - 1e-9 * np.arange(20), np.linspace(1, 0, N - 20)],
    "one large": np.r_[100.0, np.ones(N - 1)],
    "heavy tail": np.sort(np.exp(1.5 * np.random.default_rng(0).standard_normal(N)))[::-1],
    "rank 3": np.r_[3.0, 2.0, 1.0, np.zeros(N - 3)],
}


def diagonal(sigma: np.ndarray, dtype: torch.dtype = torch.float64) -> LambdaOperator:
    at = torch.as_tensor(sigma.copy(), dtype=dtype)[:, None]
    return LambdaOperator((N, N), lambda v: at * v, lambda u: at * u, dtype=dtype)


@pytest.mark.parametrize("count", [1, 3, 25])
@pytest.mark.parametrize("kind", KNOWN)
def test_the_largest_with_all_their_copies(kind, count):
    true = KNOWN[kind][:count]
    found = largest(diagonal(KNOWN[kind]), count)
    assert found.values == pytest.approx(true, rel=1e-8, abs=1e-12)
    assert np.all(np.abs(found.values - true) <= found.residuals + 1e-14)
    assert np.all(found.residuals <= 1.0001e-6 * true[0])


def test_isometries_take_one_step():
    found = largest(diagonal(KNOWN["identity"]), 2)
    assert (found.steps, found.products) == (1, 4)


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (20, 60), (60, 20)])
def test_any_shape(shape):
    a = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = largest(LambdaOperator(shape, lambda v: a @ v, lambda u: a.T @ u), min(shape))
    assert found.values == pytest.approx(torch.linalg.svdvals(a).numpy(), rel=1e-9)


def test_float32_to_its_rounding():
    sigma = KNOWN["heavy tail"]
    found = largest(diagonal(sigma, torch.float32), 2)
    assert np.all(np.abs(found.values - sigma[:2]) <= found.residuals)
    assert np.all(found.residuals > 8e-7 * sigma[0])


def test_a_deep_convolutional_network_near_isometry():
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(16):
        layer = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        nn.init.zeros_(layer.weight)
        nn.init.orthogonal_(layer.weight.data[:, :, 1, 1])
        layers += [layer, nn.Tanh()]
    jacobian = Jacobian(nn.Sequential(*layers), torch.randn(1, 32, 8, 8) / 2)
    found = largest(jacobian, 2)
    # The kernels touch no neighbours: J is a block of 32 x 32 for every position.
    assert jacobian.shape == (2048, 2048)
    # 32 x 8 unit vectors, one channel at every position, give one column of every block.
    basis = torch.eye(32, dtype=torch.float64).repeat_interleave(64, dim=0)
    blocks = (jacobian @ basis).reshape(32, 64, 32).transpose(0, 1)
    true = torch.linalg.svdvals(blocks).flatten().sort(descending=True)[0][:2].numpy()
    assert found.values == pytest.approx(true, rel=1e-9)
    assert np.all(np.abs(found.values - true) <= found.residuals)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    a = diagonal(KNOWN["heavy tail"])
    first, again, other = (largest(a, 2, seed=seed).residuals for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_values_that_have_not_converged_are_not_returned():
    dense = np.linspace(1, 2, N)[::-1]
    with pytest.raises(MeasurementError, match=r"after 3 steps .* no\. \d+ is 1\.\d+ with a resid"):
        largest(diagonal(dense), 4, steps=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count must lie between 1 and 300, got 0"),
        ({"count": 301}, "count must lie between 1 and 300, got 301"),
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"tolerance": 0.0}, "tolerance must be at least 2e-15, the rounding of torch.float64"),
        ({"tolerance": float("nan")}, "got nan"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        largest(diagonal(KNOWN["identity"]), **options)


def test_a_product_that_is_not_finite_ends_it():
    bad = LambdaOperator((9, 9), lambda v: v * torch.inf, lambda u: u)
    with pytest.raises(MeasurementError, match="not finite"):
        largest(bad)
