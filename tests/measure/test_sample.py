"""Several inputs measured in turn: what is kept of each, and what is not."""

from __future__ import annotations

import sys
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import InputError, Jacobian, analysis
from isometry.measure import Options, Sample, sample
from isometry.trust import SelfCheck

MODULE = sys.modules[Sample.__module__]  # the package has a function of that name


def network(width=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))


class Census:
    """Counts how many of the things that a method made or served are alive at once."""

    def __init__(self):
        self.seen, self.most = [], 0

    def count(self, thing):
        self.seen.append(weakref.ref(thing))
        self.most = max(self.most, sum(ref() is not None for ref in self.seen))


@pytest.fixture
def alive(monkeypatch):
    """The dense Jacobians and the operators that are alive when one is formed."""
    dense, operators = Census(), Census()
    original = Jacobian.dense

    def formed(self, **options):
        operators.count(self)
        matrix = original(self, **options)
        dense.count(matrix)
        return matrix

    monkeypatch.setattr(Jacobian, "dense", formed)
    return dense, operators


# ------------------------------------------------------------------ memory


def test_one_dense_jacobian_is_alive_at_a_time(alive):
    dense, operators = alive
    report = isometry.analyze(network(), samples=5)
    assert report.input.samples == len(dense.seen) == 5
    assert dense.most == operators.most == 1
    assert all(ref() is None for ref in (*dense.seen, *operators.seen))


def test_a_route_that_is_left_takes_its_dense_jacobian_with_it(alive, monkeypatch):
    dense, _ = alive
    answers = iter(["reverse", "forward", ""])
    honest = SelfCheck(True, 0.0, 0.0, 0.0, False, ())
    monkeypatch.setattr(MODULE, "self_check", lambda *_, **__: (honest, next(answers)))
    isometry.analyze(network(), samples=1)
    assert len(dense.seen) == 3
    assert dense.most == 1


def test_the_census_would_notice():
    census, kept = Census(), []
    for _ in range(3):
        kept.append(torch.ones(1))
        census.count(kept[-1])
    assert census.most == 3


# ------------------------------------------------------------------ several as one


def test_several_inputs_are_those_measured_one_by_one():
    x = 3 * torch.randn(4, 6)
    rows = [x[i : i + 1] for i in range(4)]
    together = sample(network(), rows, Options())
    single = [sample(network(), [row], Options()) for row in rows]
    assert together.spectra == tuple(s.spectra[0] for s in single)
    assert together.spectrum.singular_values.shape == (24,)
    assert together.input.samples == 4
    assert together.input.rms == pytest.approx(float(x.double().square().mean()) ** 0.5)
    assert together.jacobian.shape == (6, 6)
    assert (together.jacobian.rank, together.jacobian.dtype) == (6, "float64")
    assert together.jacobian.self_check in [s.jacobian.self_check for s in single]


def test_the_self_check_is_that_of_the_worst_input(monkeypatch):
    kinked = SelfCheck(True, 0.0, 0.0, 0.0, True, ())
    fine = SelfCheck(True, 0.0, 0.0, 0.0, False, ())
    failed = SelfCheck(True, 1.0, 0.0, 0.0, False, ("ISO302",))
    for order in ([fine, failed, kinked], [kinked, fine, failed], [failed, kinked, fine]):
        answers = iter(order)
        monkeypatch.setattr(MODULE, "self_check", lambda *_, a=answers, **__: (next(a), ""))
        found = sample(network(), [torch.randn(1, 6) for _ in range(3)], Options())
        assert found.jacobian.self_check is failed
        assert not found.trustworthy


class Narrowing(nn.Module):
    """Two directions are left where the first number is negative, six elsewhere."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(6, 2), nn.Linear(2, 6)

    def forward(self, x):
        return x.sinh() if x[0, 0] > 0 else self.up(self.down(x).tanh())


@pytest.mark.parametrize("signs", [(1, -1), (-1, 1)])
def test_the_rank_is_the_largest(signs):
    torch.manual_seed(0)
    found = sample(Narrowing(), [sign * torch.ones(1, 6) for sign in signs], Options())
    assert sorted(len(s.singular_values) for s in found.spectra) == [2, 6]
    assert found.jacobian.rank == 6


def test_a_note_that_all_inputs_share_is_said_once():
    narrow = nn.Sequential(nn.Linear(6, 2), nn.Tanh(), nn.Linear(2, 6))
    found = sample(narrow, [torch.randn(1, 6) for _ in range(3)], Options(check_itself=False))
    assert found.notes == (
        "the narrowest layer leaves 2 of 6 directions; the zeros that it forces are not counted",
        "the self-check was switched off: wrong derivatives would go unnoticed",
    )
    assert found.jacobian.rank == 2
    assert found.jacobian.self_check is None
    assert found.trustworthy


# ------------------------------------------------------------------ the spectrum alone


def test_the_spectrum_alone_reads_no_weights_and_asks_no_theory(monkeypatch):
    expected = isometry.analyze(network(), torch.ones(1, 6)).spectrum

    def never(*_arguments, **_options):
        raise AssertionError("called")

    for part in (analysis.theory, "predict"), (analysis.diagnosis, "diagnose"):
        monkeypatch.setattr(*part, never)
    monkeypatch.setattr(analysis.anatomy, "read", never)
    assert isometry.spectrum(network(), torch.ones(1, 6)) == expected
    with pytest.raises(AssertionError, match="called"):
        isometry.analyze(network(), torch.ones(1, 6))


def test_the_spectrum_takes_the_options_of_analyze():
    options = {"shape": 6, "samples": 3, "seed": 4, "input_scale": 2.0, "dtype": "float32"}
    expected = isometry.analyze(network(), **options).spectrum
    assert isometry.spectrum(network(), **options) == expected
    assert isometry.spectrum(network(), **{**options, "seed": 5}) != expected
    part = isometry.spectrum(network(), torch.ones(1, 6), stop="0").singular_values
    assert np.allclose(part, torch.linalg.svdvals(network()[0].weight.detach().double()).numpy())
    with pytest.raises(TypeError, match="'sampels'"):
        isometry.spectrum(network(), sampels=3)


def test_options_stay_what_they_are():
    options = Options(samples=np.int64(3), seed=1, memory="4GB")
    assert (options.samples, options.seed, options.memory) == (3, 1, 4 * 2**30)
    assert type(options.samples) is int
    with pytest.raises(AttributeError):
        options.samples = 4
    for seed in (2**63, -(2**63), 10**99):
        with pytest.raises(InputError, match="seed must lie within ±9223372036854775807, got"):
            Options(seed=seed)
    assert isometry.analyze(network(), seed=2**63 - 1).trustworthy
