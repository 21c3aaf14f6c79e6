"""Spectra from probes, on matrices whose singular values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isometry.errors import InputError, MeasurementError
from isometry.jacobian.bottleneck import Bottleneck
from isometry.measure import LambdaOperator, quadrature
from isometry.score import isometry_score, sech

N = 400
DTYPES = [torch.float64, torch.float32]
KNOWN = {
    "identity": np.ones(N),
    "scaled": np.full(N, 1e-3),
    "one large": np.r_[100.0, np.ones(N - 1)],
    "two clusters": np.r_[np.full(50, 3.0), np.full(N - 50, 0.5)],
    "eight decades": np.logspace(-8, 0, N),
    "heavy tail": np.exp(1.5 * np.random.default_rng(0).standard_normal(N)),
    "rank deficient": np.r_[np.linspace(1, 3, 150), np.zeros(N - 150)],
    "hilbert": np.linalg.svd(1 / (1 + np.add.outer(np.arange(N), np.arange(N))))[1],
}


def of(a: torch.Tensor) -> LambdaOperator:
    return LambdaOperator(tuple(a.shape), lambda v: a @ v, lambda u: a.T @ u, dtype=a.dtype)


def matrix(sigma: np.ndarray, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    shape = len(sigma), len(sigma)
    q, p = (
        torch.linalg.qr(torch.randn(shape, generator=g, dtype=torch.float64))[0] for _ in range(2)
    )
    return ((q * torch.as_tensor(sigma)) @ p.T).to(dtype)


def mass(spectrum, sigma: float) -> float:
    near = np.abs(spectrum.singular_values / sigma - 1) < 1e-5
    return float(spectrum.weights[near].sum())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KNOWN)
def test_no_ghosts_and_all_the_mass(kind, dtype):
    a = matrix(KNOWN[kind], dtype)
    true = torch.linalg.svdvals(a).double().numpy()
    found = quadrature(of(a))
    s = found.spectrum
    assert abs(s.weights.sum() + s.unresolved + s.dead - 1) < 1e-6
    noise = 10 * torch.finfo(dtype).eps * true[0]
    for run in found.runs:  # as many values as there are, and no more, above each that was found
        values = run.ritz.values[run.ritz.residuals < noise]
        at_least = (true >= values[:, None] - 2 * noise).sum(axis=1)
        assert np.all(np.arange(1, len(values) + 1) <= at_least)


def test_a_run_through_the_whole_space_is_exact():
    sigma = KNOWN["heavy tail"]
    s = quadrature(of(matrix(sigma)), probes=8, steps=N).spectrum
    assert s.singular_values == pytest.approx(np.sort(sigma)[::-1], rel=1e-10)
    assert s.weights == pytest.approx(np.full(N, 1 / N))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KNOWN)
def test_the_largest_values_to_their_residuals(kind, dtype):
    a = matrix(KNOWN[kind], dtype)
    true = torch.linalg.svdvals(a.double()).numpy()
    noise = 10 * torch.finfo(dtype).eps * true[0]
    for run in quadrature(of(a)).runs:
        gap = np.abs(run.ritz.values[:, None] - true).min(axis=1)
        assert np.all(gap <= run.ritz.residuals + noise)
        assert run.ritz.values[0] <= true[0] + noise


@pytest.mark.parametrize("kind", ["identity", "scaled", "one large"])
def test_atoms_are_one_point_with_their_mass(kind):
    s = quadrature(of(matrix(KNOWN[kind]))).spectrum
    places, counts = np.unique(KNOWN[kind], return_counts=True)
    assert len(s.singular_values) == len(places)
    for sigma, count in zip(places, counts, strict=True):
        assert mass(s, sigma) == pytest.approx(count / N, abs=1e-12)


def test_masses_of_two_clusters_are_as_sure_as_they_say():
    a = of(matrix(KNOWN["two clusters"]))
    for probes in (16, 64, 256):
        q = quadrature(a, probes=probes)
        seen = q.measure.mean((q.measure.nodes > 1).astype(float))
        assert abs(seen.value - 50 / N) < 4 * seen.error
        assert mass(q.spectrum, 3.0) == pytest.approx(seen.value, abs=1e-9)
    assert mass(quadrature(a, probes=N).spectrum, 3.0) == pytest.approx(50 / N, abs=1e-3)


def test_float32_with_condition_a_million_is_right_above_its_resolution():
    a = matrix(np.logspace(-6, 0, 512), torch.float32)
    true = torch.linalg.svdvals(a.double()).numpy()
    s = quadrature(of(a), probes=8, steps=512).spectrum
    large = true[true > 1e-5 * true[0]]
    found = s.singular_values[: len(large)]
    assert np.all(np.abs(found / large - 1) < 0.01)


@pytest.mark.parametrize("kind", ["heavy tail", "eight decades", "two clusters", "rank deficient"])
def test_the_score_lies_in_its_interval(kind):
    true = sech(np.log(np.maximum(KNOWN[kind], 1e-300))).mean()
    a, hits = of(matrix(KNOWN[kind])), 0
    for seed in range(12):
        q = quadrature(a, seed=seed, probes=16)
        width = q.measure.half_width(q.measure.score.error) + max(r.change for r in q.runs)
        hits += abs(q.measure.score.value - true) <= width + 1e-9
    assert hits >= 9  # of 12, at 95 %: fewer happen once in 4,000 times


def test_an_ill_conditioned_product_is_not_said_to_be_resolved():
    rng = np.random.default_rng(1)
    j = np.eye(N)
    for _ in range(5):
        j = rng.standard_normal((N, N)) / N**0.5 @ j
    true = np.linalg.svd(j)[1]
    s = quadrature(of(torch.as_tensor(j)), steps=10).spectrum
    assert s.floor > 20 * true[-1]
    below = np.mean(true <= s.floor)
    assert s.unresolved > below > 0.1


def test_tolerance_is_kept_by_more_probes():
    a = of(matrix(KNOWN["two clusters"]))
    loose, tight = quadrature(a, tolerance=0.02), quadrature(a, tolerance=0.002)
    for q, tolerance in ((loose, 0.02), (tight, 0.002)):
        assert q.measure.half_width(q.measure.score.error) <= tolerance
    assert tight.measure.probes > loose.measure.probes


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (30, 100), (100, 30), (1, 1)])
def test_zeros_forced_by_shape_are_not_counted(shape):
    a = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s = quadrature(of(a), probes=100).spectrum
    assert s.singular_values == pytest.approx(torch.linalg.svdvals(a).numpy(), rel=1e-10)
    assert (s.dead, s.unresolved) == (0, pytest.approx(0, abs=1e-12))


def test_what_the_structure_proves_is_known_and_not_estimated():
    sigma = np.r_[np.full(100, 2.0), np.zeros(N - 100)]
    s = quadrature(of(matrix(sigma)), caps=Bottleneck(width=200, alive=100)).spectrum
    assert s.dead == 0.5
    assert s.singular_values == pytest.approx([2.0])
    assert s.weights == pytest.approx([0.5], abs=1e-12)
    assert s.unresolved == pytest.approx(0, abs=1e-12)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    a = of(matrix(KNOWN["two clusters"]))
    first, again, other = (quadrature(a, seed=s).spectrum for s in (3, 3, 4))
    assert first == again
    assert isometry_score(first) != isometry_score(other)


def test_a_run_goes_on_from_what_was_kept():
    a = of(matrix(KNOWN["two clusters"]))
    runs = []
    whole = quadrature(a, probes=40, each=runs.append)
    resumed = []
    again = quadrature(a, probes=40, kept=runs[:2], each=resumed.append)
    assert again.spectrum == whole.spectrum
    assert len(resumed) == len(runs) - 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probes": 0}, "probes must be positive, got 0"),
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"tolerance": 0.0}, "tolerance must be positive, got 0.0"),
        ({"tolerance": float("nan")}, "tolerance must be positive, got nan"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        quadrature(of(torch.eye(3, dtype=torch.float64)), **options)


def test_more_steps_and_probes_than_dimensions_are_as_good_as_all():
    a = matrix(np.array([3.0, 2.0, 1.0]))
    s = quadrature(of(a), probes=99, steps=99).spectrum
    assert s.singular_values == pytest.approx([3, 2, 1], rel=1e-13)


def test_zero_is_said_to_be_zero():
    with pytest.raises(MeasurementError, match="J = 0"):
        quadrature(of(torch.zeros(5, 4, dtype=torch.float64)))


def test_a_product_that_is_not_finite_ends_it():
    calls = []

    def breaks(v):
        calls.append(1)
        return (
            torch.full_like(v, float("inf"))
            if len(calls) > 2
            else v * torch.arange(1.0, 51)[:, None].to(v)
        )

    with pytest.raises(MeasurementError, match="not finite"):
        quadrature(LambdaOperator((50, 50), breaks, breaks))


def test_a_product_of_the_wrong_shape_is_named():
    bad = LambdaOperator((5, 5), lambda v: v[:3], lambda u: u)
    with pytest.raises(MeasurementError, match=r"has the shape \(3, 5\); expected \(5, 5\)"):
        quadrature(bad)
