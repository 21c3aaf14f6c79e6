"""The score I = E[sech(2 log σ)]."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry import Spectrum
from isometry.score import QUANTILES, isometry_score, score

sigmas = st.lists(st.floats(1e-100, 1e100), min_size=1, max_size=20)


def uniform(values, dead=0.0):
    values = np.asarray(values, float)
    return Spectrum.of(values, np.full(len(values), (1 - dead) / len(values)), dead=dead)


# ------------------------------------------------------------------ identities


@given(sigmas)
def test_the_score_is_that_of_the_inverse(values):
    values = np.array(values)
    assert isometry_score(uniform(1 / values)) == pytest.approx(
        isometry_score(uniform(values)), rel=1e-12
    )


@given(sigmas)
def test_the_score_lies_between_zero_and_one(values):
    assert 0 <= isometry_score(uniform(values)) <= 1 + 1e-15


@given(st.lists(st.floats(1e-70, 1e70), min_size=1, max_size=20))
def test_the_two_forms_of_the_score_agree(values):
    s = np.array(values)
    assert isometry_score(uniform(s)) == pytest.approx(np.mean(2 / (s**2 + s**-2)), rel=1e-12)


@given(sigmas, st.floats(0, 0.9))
def test_zeros_contribute_nothing(values, dead):
    assert isometry_score(uniform(values, dead)) == pytest.approx(
        (1 - dead) * isometry_score(uniform(values)), rel=1e-9
    )


# ------------------------------------------------------------------ closed forms


def test_an_isometry_scores_one():
    assert isometry_score(uniform(np.ones(7))) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("c", [0.1, 0.5, 0.99, 1.3, 2, 10, 1e5])
def test_a_multiple_of_an_isometry_scores_sech_of_twice_its_logarithm(c):
    assert isometry_score(uniform([c] * 3)) == pytest.approx(1 / math.cosh(2 * math.log(c)))


def test_a_projection_scores_its_rank():
    assert isometry_score(uniform([1, 1], dead=0.5)) == 0.5
    unresolved = Spectrum.of([1.0], [0.25], floor=1e-9, unresolved=0.75)
    assert isometry_score(unresolved) == 0.25


@pytest.mark.parametrize("sigma", [1e-300, 1e300, 5e-324, 1.7e308])
def test_the_ends_of_floating_point_score_zero_without_overflow(sigma):
    assert isometry_score(uniform([sigma])) == pytest.approx(0, abs=1e-200)
    full = score(uniform([sigma]), [uniform([sigma])])
    assert full.gain == pytest.approx(sigma)
    assert full.log_gain == pytest.approx(math.log(sigma), rel=1e-15)
    assert full.drift == pytest.approx(math.log(sigma))


def test_a_large_gaussian_matrix_scores_what_marchenko_and_pastur_say():
    n, draws = 300, 4
    rng = np.random.default_rng(0)
    scores = [
        isometry_score(
            uniform(np.linalg.svd(rng.standard_normal((n, n)) / n**0.5, compute_uv=False))
        )
        for _ in range(draws)
    ]
    # Linear statistics of n eigenvalues fluctuate by O(1/n); so do their finite-n corrections.
    assert np.mean(scores) == pytest.approx(0.600485180440, abs=2 / n)
    assert abs(np.mean(scores) - 0.600485180440) < 0.01 < abs(np.mean(scores) - 0.5)


# ------------------------------------------------------------------ the record


def test_the_record_holds_the_moments_of_the_pooled_spectrum():
    a, b = uniform([1.0, 2.0]), uniform([4.0], dead=0.5)
    whole = uniform([1.0, 2.0, 4.0], dead=0.25)
    s = score(whole, [a, b])
    assert s.value == isometry_score(whole)
    assert s.dead == 0.25
    assert s.drift == pytest.approx(math.log(2))
    assert s.spread == pytest.approx(math.log(2) * (2 / 3) ** 0.5)
    assert s.gain == pytest.approx((21 / 4) ** 0.5)
    assert s.condition == math.inf
    assert s.per_input == (isometry_score(a), isometry_score(b))
    assert [p for p, _ in s.quantiles] == list(QUANTILES)
    assert [q for _, q in s.quantiles] == pytest.approx([0, 0, 1, 2, 4], rel=1e-15)
    assert [p for p, _ in s.log_quantiles] == list(QUANTILES)
    logs = [-math.inf, -math.inf, 0, math.log(2), math.log(4)]
    assert [q for _, q in s.log_quantiles] == pytest.approx(logs, rel=1e-15)
    assert s.log_gain == pytest.approx(math.log(21 / 4) / 2)
    assert s.log_condition == math.inf
    assert s.spread_between_inputs == pytest.approx(np.std(s.per_input, ddof=1))


@pytest.mark.parametrize(("log_sigma", "rounded"), [(-3466.0, 0.0), (5000.0, math.inf)])
def test_beyond_the_range_of_float64_the_logarithms_hold_the_record(log_sigma, rounded):
    whole = Spectrum([log_sigma - 2000, log_sigma], [0.5, 0.5])
    s = score(whole, [whole])
    assert s.value == 0
    assert (s.gain, s.condition, s.quantiles[-1]) == (rounded, math.inf, (0.95, rounded))
    assert s.log_gain == pytest.approx(log_sigma - math.log(2) / 2, rel=1e-15)
    assert (s.log_condition, s.log_quantiles[-1]) == (2000, (0.95, log_sigma))
    assert (s.drift, s.spread) == (log_sigma - 1000, 1000)


def test_one_input_has_no_spread_between_inputs():
    s = score(uniform([1.0]), [uniform([1.0])])
    assert math.isnan(s.spread_between_inputs)
