"""Bidiagonalisation by its defining identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isometry.measure import LambdaOperator
from isometry.measure.bidiagonal import Bidiagonalisation

N = 200
SPECTRA = {
    "identity": np.ones(N),
    "one large": np.r_[1e3, np.ones(N - 1)],
    "clusters": np.r_[np.full(5, 3.0), np.full(N - 5, 1.0)],
    "nearly one": 1 + 1e-9 * np.linspace(0, 1, N),
    "eight decades": np.logspace(-8, 0, N),
    "rank deficient": np.r_[np.linspace(1, 2, 30), np.zeros(N - 30)],
    "of tiny scale": np.linspace(1e-180, 1e-179, N),
}


@pytest.mark.parametrize("kind", SPECTRA)
def test_bases_are_orthonormal_and_turn_a_into_b(kind):
    g = torch.Generator().manual_seed(0)
    draw = [torch.randn(N, N, generator=g, dtype=torch.float64) for _ in range(3)]
    q, p, start = (torch.linalg.qr(drawn)[0] for drawn in draw)
    a = (q * torch.as_tensor(SPECTRA[kind])) @ p.T
    operator = LambdaOperator((N, N), lambda v: a @ v, lambda u: a.T @ u)
    grown = Bidiagonalisation(operator, start[:, :8], 20)
    while grown.steps < 20 and not grown.exhausted:
        grown.step()
    v, u = (basis.rows[: basis.size].T for basis in (grown._v, grown._u))
    for basis in (v, u):
        loss = basis.T @ basis - torch.eye(basis.shape[1], dtype=torch.float64)
        assert float(loss.abs().max()) < 1e-14
    b = torch.as_tensor(grown.matrix())
    assert float((a @ v - u @ b).abs().max()) < 1e-14 * SPECTRA[kind].max()
