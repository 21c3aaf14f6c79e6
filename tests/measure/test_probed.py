"""How sure a measure from probes is, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isometry.measure import LambdaOperator, quadrature
from isometry.score import sech

N = 200
SIGMA = np.linspace(0.05, 2, N)
SEEDS = 150


def of(sigma: np.ndarray) -> LambdaOperator:
    """A diagonal map: random probes cannot tell it from any other with these values."""
    s = torch.as_tensor(sigma)[:, None]
    return LambdaOperator((len(s), len(s)), lambda v: s * v, lambda u: s * u)


@pytest.fixture(scope="module")
def measures():
    return [quadrature(of(SIGMA), probes=12, steps=8, seed=seed).measure for seed in range(SEEDS)]


def standardised(measures, values, true):
    found = [m.mean(values(m)) for m in measures]
    return np.array([(f.value - true) / f.error for f in found])


@pytest.mark.parametrize(
    ("values", "true"),
    [
        (lambda m: m.nodes**2, np.mean(SIGMA**2)),
        (lambda m: sech(np.log(m.nodes)), np.mean(sech(np.log(SIGMA)))),
        (lambda m: m.above(1.0), np.mean(SIGMA > 1)),
        (lambda m: m.above(0.6), np.mean(SIGMA > 0.6)),
        (lambda m: m.above(1.7), np.mean(SIGMA > 1.7)),
    ],
    ids=["second moment", "score", "share above 1", "above 0.6", "above 1.7"],
)
def test_errors_are_what_they_are_said_to_be(measures, values, true):
    z = standardised(measures, values, true)
    assert np.mean(z**2) == pytest.approx(1, abs=4 * (2 / SEEDS) ** 0.5)
    assert 0.88 <= np.mean(np.abs(z) < 1.96) <= 0.99


def test_steps_at_the_nodes_are_off_by_half_a_group(measures):
    missed = [
        standardised(measures, lambda m, c=c: 1.0 * (m.nodes > c), float(np.mean(c < SIGMA)))
        for c in (0.3, 0.6, 1.0)
    ]
    assert max(np.mean(z**2) for z in missed) > 2


def test_what_is_known_has_a_step_and_no_error():
    m = quadrature(of(np.r_[50.0, 30.0, SIGMA]), probes=8, steps=8).measure
    assert m.known.sum() == 2
    found = m.mean(m.above(10.0))
    assert found == pytest.approx((2 / (N + 2), 0), abs=1e-15)
    assert m.mean(m.above(40.0)).value == pytest.approx(1 / (N + 2))


def test_an_atom_is_not_spread():
    m = quadrature(of(np.r_[np.full(60, 2.0), np.ones(60)]), probes=8).measure
    for sigma in (0.999, 1.001, 1.999, 2.001):
        assert np.array_equal(m.above(sigma), m.nodes > sigma)


def test_one_probe_says_how_sure_it_is_and_all_leave_nothing_open():
    one, all_ = (quadrature(of(SIGMA), probes=p).measure for p in (1, N))
    error = (2 * np.var(SIGMA**2) / (N + 2)) ** 0.5
    assert one.moment(2).error == pytest.approx(error, rel=0.3)
    assert all_.moment(2) == pytest.approx((np.mean(SIGMA**2), 0), rel=1e-12)
