"""Orthogonal matrices: exact, uniform, and of the right size for layers of any shape."""

import math

import pytest
import torch
from torch import nn

from isometry.init import orthogonal_


def empty(*shape, dtype=torch.float64):
    return torch.full(shape, math.nan, dtype=dtype)


@pytest.mark.parametrize("shape", [(6, 6), (3, 7), (7, 3), (1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("preserve", ["norm", "variance"])
def test_all_singular_values_are_the_same(shape, preserve):
    w = orthogonal_(empty(*shape), 1.3, preserve=preserve)
    factor = max(1.0, shape[0] / shape[1]) ** 0.5 if preserve == "variance" else 1.0
    values = torch.linalg.svdvals(w)
    torch.testing.assert_close(values, torch.full_like(values, 1.3 * factor), rtol=1e-13, atol=0)


def test_it_fills_the_tensor_that_it_is_given_and_records_nothing():
    layer = nn.Linear(5, 5)
    version = layer.weight._version
    assert orthogonal_(layer.weight) is layer.weight
    assert layer.weight._version > version
    assert layer.weight.requires_grad
    assert layer.weight.grad_fn is None


def test_groups_are_matrices_of_their_own(seeded):
    w = orthogonal_(empty(12, 4), groups=3, generator=seeded())
    for block in w.split(4):
        torch.testing.assert_close(block @ block.T, torch.eye(4, dtype=torch.float64))
    assert not torch.allclose(w[:4], w[4:8])


@pytest.mark.parametrize(
    ("transposed", "sizes"), [(False, (3, 5)), (False, (2, 20)), (True, (20, 2)), (True, (5, 3))]
)
def test_patches_that_do_not_overlap_are_exact(
    transposed, sizes, convolution, dense_values, levels
):
    layer = convolution(2, *sizes, 2, stride=2, transposed=transposed)
    orthogonal_(layer.weight, transposed=transposed, preserve="norm")
    side = 2 if transposed else 4
    n_in, n_out = sizes[0] * (1 if transposed else 4), sizes[1] * (4 if transposed else 1)
    kept, forced = min(n_in, n_out), max(0, n_in - n_out)
    values = dense_values(layer, sizes[0], side, side)
    expected = [(1.0, 4 * kept), (0.0, 4 * min(forced, len(values) // 4 - kept))]
    assert levels(values) == [pair for pair in expected if pair[1]]


def entries(count, n, generator, draw):
    return torch.stack([draw(n, generator) for _ in range(count)])


def by_us(n, generator):
    return orthogonal_(empty(n, n), generator=generator)


def without_the_signs(n, generator):
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q


def standard_errors(samples, mean):
    return abs(float(samples.mean() - mean)) / float(samples.std() / len(samples) ** 0.5)


@pytest.mark.parametrize(("draw", "uniform"), [(by_us, True), (without_the_signs, False)])
def test_they_are_uniform_only_with_the_signs_mended(draw, uniform, seeded):
    q = entries(2000, 4, seeded(), draw)
    trace = q.diagonal(dim1=1, dim2=2).sum(1)
    first = q[:, 0, 0]
    # of Haar measure: E tr Q = 0, E (tr Q)² = 1, E (tr Q)⁴ = 3, E tr Q² = 1 and E Q_11 = 0
    squares = torch.linalg.eigvals(q).pow(2).real.sum(1)
    far = max(
        standard_errors(trace, 0.0),
        standard_errors(trace**2, 1.0),
        standard_errors(trace**4, 3.0),
        standard_errors(squares, 1.0),
        standard_errors(first, 0.0),
    )
    assert (far < 4.0) is uniform


def test_a_single_number_has_either_sign(seeded):
    signs = orthogonal_(empty(400, 1), groups=400, generator=seeded()).flatten()
    torch.testing.assert_close(signs.abs(), torch.ones_like(signs))
    assert 150 < int((signs > 0).sum()) < 250


def test_a_factor_of_zero_on_the_diagonal_does_not_empty_a_column(monkeypatch):
    singular = torch.linalg.qr(torch.eye(3, dtype=torch.float64))
    zero = type(singular)((singular.Q, torch.zeros_like(singular.R)))
    monkeypatch.setattr(torch.linalg, "qr", lambda a: zero)
    assert torch.linalg.matrix_rank(orthogonal_(empty(3, 3))) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_single_precision_rounded(dtype, seeded):
    half = orthogonal_(empty(8, 8, dtype=dtype), generator=seeded())
    single = orthogonal_(empty(8, 8, dtype=torch.float32), generator=seeded())
    assert torch.equal(half, single.to(dtype))


def test_double_precision_is_drawn_in_double_precision():
    w = orthogonal_(empty(30, 30))
    assert float((w @ w.T - torch.eye(30, dtype=torch.float64)).abs().max()) < 1e-14
