"""Moments from products alone, on spectra that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isometry.errors import InputError, MeasurementError
from isometry.measure import LambdaOperator, moments, quadrature

N = 120
KNOWN = {
    "isometry": np.ones(N),
    "flat": np.linspace(0.5, 1.5, N),
    "decaying": 0.8 ** np.arange(N),
    "rank deficient": np.r_[3.0, 2.0, np.zeros(N - 2)],
}
SEEDS = 200


def of(sigma, m: int = N, n: int = N, dtype: torch.dtype = torch.float64) -> LambdaOperator:
    """A map with these singular values, in random bases."""
    g = torch.Generator().manual_seed(7)
    q, p = (torch.linalg.qr(torch.randn(k, k, generator=g, dtype=dtype))[0] for k in (m, n))
    r = len(sigma)
    a = (q[:, :r] * torch.as_tensor(sigma).to(dtype)) @ p[:, :r].T
    return LambdaOperator((m, n), lambda v: a @ v, lambda u: a.T @ u, dtype=dtype)


def repeated(a, truth, **options):
    """Error of the fourth moment over many seeds, in itself and in standard errors."""
    found = [moments(a, seed=seed, **options).fourth for seed in range(SEEDS)]
    return np.array([[f.value - truth, f.error] for f in found]).T


@pytest.mark.parametrize("sketch", [0, 10])
@pytest.mark.parametrize("kind", ["flat", "decaying"])
def test_without_bias_and_as_far_off_as_the_standard_error_says(kind, sketch):
    gap, error = repeated(of(KNOWN[kind]), np.mean(KNOWN[kind] ** 4), probes=24, sketch=sketch)
    spread = gap.std(ddof=1)
    assert abs(gap.mean()) < 4 * spread / SEEDS**0.5
    # The mean square of the standard error is the variance, to chance: (n - 1) s² / σ² ~ χ².
    assert np.mean(error**2) / spread**2 == pytest.approx(1, abs=4 * (2 / SEEDS) ** 0.5)
    inside = np.abs(gap) <= 2.07 * error  # Student's t, 23 degrees of freedom: 95 %
    assert 0.88 <= inside.mean() <= 0.99


def test_a_sketch_pays_where_the_spectrum_decays_and_not_where_it_is_flat():
    # At equal cost: 2 products a probe, 4 a direction of the sketch.
    for kind, better in (("decaying", 0.01), ("flat", np.inf)):
        a, truth = of(KNOWN[kind]), np.mean(KNOWN[kind] ** 4)
        plain, _ = repeated(a, truth, probes=36)
        sketched, _ = repeated(a, truth, probes=12, sketch=12)
        assert sketched.std() < better * plain.std()
        assert (sketched.std() > plain.std()) == (kind == "flat")


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("options", [{"probes": N}, {"sketch": N}, {"probes": 999, "sketch": 50}])
def test_as_many_as_there_are_directions_are_exact(kind, options):
    found = moments(of(KNOWN[kind]), **options)
    for power, got in ((2, found.second), (4, found.fourth)):
        assert got.value == pytest.approx(np.mean(KNOWN[kind] ** power), rel=1e-12)
        assert got.error == 0


def test_an_isometry_leaves_nothing_to_chance():
    found = moments(of(KNOWN["isometry"]), probes=2)
    for got in (found.second, found.fourth):
        assert got.value == pytest.approx(1, rel=1e-13)
        assert got.error < 1e-14


@pytest.mark.parametrize(("m", "n"), [(1, 9), (9, 1), (1, 1), (30, 80), (80, 30)])
@pytest.mark.parametrize("sketch", [0, 3])
def test_any_shape_over_the_smaller_dimension(m, n, sketch):
    sigma = np.linspace(1, 2, min(m, n))
    found = moments(of(sigma, m, n), probes=30, sketch=sketch)
    assert found.second.value == pytest.approx(np.mean(sigma**2), rel=1e-12)
    assert found.fourth.value == pytest.approx(np.mean(sigma**4), rel=1e-12)


def test_float32_to_its_rounding():
    found = moments(of(KNOWN["flat"], dtype=torch.float32), probes=N)
    assert found.second.value == pytest.approx(np.mean(KNOWN["flat"] ** 2), rel=1e-5)


def test_products_are_counted():
    calls = []

    def product(v):
        calls.append(v.shape[1])
        return v

    found = moments(LambdaOperator((50, 50), product, product), probes=10, sketch=5)
    assert found.products == sum(calls) == 2 * 10 + 4 * 5


def test_the_quadrature_of_the_same_probes_holds_the_same_moments():
    a = of(KNOWN["flat"])
    measure = quadrature(a, probes=8, steps=3, seed=3).measure
    found = moments(a, probes=8, seed=3)
    for power, ours in ((2, found.second), (4, found.fourth)):
        assert measure.moment(power).value == pytest.approx(ours.value, rel=1e-12)
    # One error is that of the measure, the other the probes' own scatter: alike over many seeds.
    scatter = [moments(a, probes=8, seed=seed).second.error ** 2 for seed in range(50)]
    expected = pytest.approx(np.mean(scatter) ** 0.5, rel=2 * (2 / 7 / 50) ** 0.5)
    assert measure.moment(2).error == expected


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    a = of(KNOWN["flat"])
    first, again, other = (moments(a, sketch=4, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_zero_has_zero_moments():
    found = moments(of(np.zeros(N)), sketch=4)
    assert (*found.second, *found.fourth) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probes": 0}, "at least 2 probes and a sketch of 0 or more, got 0 and 0"),
        ({"probes": 1}, "got 1 and 0"),
        ({"sketch": -1}, "got 16 and -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        moments(of(KNOWN["flat"]), **options)


@pytest.mark.parametrize("sketch", [0, 4])
def test_a_product_that_is_not_finite_ends_it(sketch):
    bad = LambdaOperator((9, 9), lambda v: v * torch.inf, lambda u: u)
    with pytest.raises(MeasurementError, match="not finite"):
        moments(bad, sketch=sketch)
