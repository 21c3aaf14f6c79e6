"""How a weight is recognised by its singular values."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from isometry.part import Matrix
from isometry.theory import recognise
from isometry.theory.ensemble import of_matrix, summary


def name(matrix):
    return recognise(np.linalg.svd(matrix, compute_uv=False), *matrix.shape).name


@pytest.mark.parametrize("shape", [(24, 24), (64, 64), (100, 300), (300, 100)])
@pytest.mark.parametrize("seed", range(3))
def test_ensembles_are_recognised_at_any_scale(shape, seed):
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.01, 100)
    gaussian = rng.standard_normal(shape)
    assert name(scale * gaussian) == "gaussian"
    assert name(scale * rng.uniform(-1, 1, shape)) == "gaussian"
    assert name(scale * rng.choice([-1.0, 1.0], shape)) == "gaussian"
    u, _, v = np.linalg.svd(gaussian, full_matrices=False)
    assert name(scale * u @ v) == "orthogonal"
    assert name((scale * u @ v).astype(np.float32).astype(float)) == "orthogonal"


@pytest.mark.parametrize("n", [64, 200])
def test_structured_weights_are_not_recognised(n):
    rng = np.random.default_rng(0)
    g = rng.standard_normal((n, n)) / n**0.5
    q = np.linalg.qr(g)[0]
    half = g.copy()
    half[: n // 2] = 0
    for structured in (
        np.zeros((n, n)), g @ g, np.eye(n) + 0.5 * g, q * np.linspace(0.9, 1.1, n),
        np.diag(rng.standard_normal(n)), half,
    ):  # fmt: skip
        assert name(structured) == "other"


def test_the_scale_and_the_evidence_are_told():
    rng = np.random.default_rng(0)
    found = recognise(np.linalg.svd(rng.standard_normal((50, 200)) / 10)[1], 50, 200)
    assert found.sigma_w == pytest.approx(200**0.5 / 10, rel=0.02)
    assert "Marchenko–Pastur" in found.evidence
    assert "semi-orthogonal" in recognise(np.full(3, 2.0), 3, 5).evidence
    assert recognise(np.zeros(3), 3, 3).evidence == "it is zero"


def test_pytorchs_default_weights_count_as_independent():
    assert name(nn.Linear(64, 64).weight.detach().double().numpy()) == "gaussian"


@pytest.mark.parametrize("shape", [(23, 23), (16, 144), (8, 72), (10, 64)])
@pytest.mark.parametrize("seed", range(3))
def test_narrow_matrices_are_told_by_the_spread_of_their_singular_values(shape, seed):
    rng = np.random.default_rng(seed)
    iid = rng.standard_normal(shape)
    spike = 6 * rng.standard_normal((shape[0], 1)) @ rng.standard_normal((1, shape[1]))
    assert name(iid) == name(rng.uniform(-1, 1, shape)) == "gaussian"
    assert name(np.linalg.qr(iid.T)[0].T) == "orthogonal"
    for structured in (iid + spike, rng.standard_normal((shape[0], shape[0])) @ iid):
        assert name(structured) == "other"


def test_the_spread_has_the_mean_and_deviation_that_it_is_compared_with():
    rng = np.random.default_rng(0)
    m, n = 16, 144
    sigma = np.linalg.svd(rng.standard_normal((2000, m, n)), compute_uv=False)
    moment = m * n * (sigma**4).sum(1) / (sigma**2).sum(1) ** 2
    assert moment.mean() == pytest.approx(m + n + 1, abs=0.5)
    assert moment.std() == pytest.approx(2, rel=0.15)


def test_a_tiny_matrix_cannot_tell_whether_it_is_gaussian():
    rng = np.random.default_rng(0)
    found = recognise(np.linalg.svd(rng.standard_normal((8, 8)))[1], 8, 8)
    assert found.name == "other"
    assert "too few" in found.evidence
    assert name(np.linalg.qr(rng.standard_normal((8, 8)))[0]) == "orthogonal"


def test_spectral_normalisation_keeps_the_ensemble_and_its_scale():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(64, 64)).eval()
    weight = layer.weight.detach().double().numpy()
    found = recognise(np.linalg.svd(weight, compute_uv=False), 64, 64)
    assert found.name == "gaussian"
    assert found.sigma_w == pytest.approx(0.5, rel=0.1)  # σ_max = 2 σ_w = 1


def matrix(w, **more):
    kurtosis = float((w**4).mean() / (w**2).mean() ** 2)
    sigma = np.linalg.svd(w, compute_uv=False)
    return Matrix("w", w.shape, sigma, kurtosis=kurtosis, **more)


@pytest.mark.parametrize("seed", range(3))
def test_kinds_are_told_by_entries_offsets_and_shape(seed):
    rng = np.random.default_rng(seed)
    normal, square = rng.standard_normal((64, 96)), np.linalg.qr(rng.standard_normal((64, 64)))[0]
    assert of_matrix(matrix(normal)).kind == "Gaussian"
    assert of_matrix(matrix(rng.uniform(-1, 1, (64, 96)))).kind == "uniform"
    assert of_matrix(matrix(rng.choice([-1.0, 1.0], (64, 96)))).kind == "independent"
    assert of_matrix(matrix(square)).kind == "orthogonal"
    assert of_matrix(matrix(square[:40])).kind == "semi-orthogonal"
    assert of_matrix(matrix(square[:40], kernel=9)).kind == "delta-orthogonal"
    assert of_matrix(matrix(square[:40], kernel=1)).kind == "semi-orthogonal"
    assert of_matrix(matrix(square @ normal @ normal.T)).kind == "trained or other"
    top = np.linalg.norm(normal, 2)
    normalised = of_matrix(matrix(normal / top))
    assert (normalised.kind, normalised.name) == ("spectrally normalised", "gaussian")
    assert of_matrix(matrix(normal / top * 1.01)).kind == "Gaussian"


def test_the_summary_counts_by_kind():
    rng = np.random.default_rng(0)
    found = [of_matrix(matrix(rng.standard_normal((64, 64)) / 8)) for _ in range(3)]
    said = summary([*found, of_matrix(matrix(np.eye(30)))])
    assert said.startswith("3 Gaussian (σ_w ")
    assert said.endswith("1 orthogonal (σ_w 1)")
    assert " ± 0.0" in said
