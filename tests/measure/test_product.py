"""The product of stages as a method: whole reports, and what "auto" makes of it."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import InputError, Jacobian, MeasurementError
from isometry.measure import Options, exact, sample
from isometry.measure.method import too_dear

MODULE = sys.modules[Options.__module__.replace("options", "sample")]
X = torch.linspace(-1, 1, 16).reshape(1, 16)


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, x):
        return x + 1e-9 * self.inner(x[:, :1] @ torch.ones(1, 16, dtype=x.dtype)) - x


def said(report, words):
    return any(words in note for note in report.notes)


# ------------------------------------------------------------------ asked for


def test_a_report_of_the_product_agrees_with_the_exact_one(chain):
    net = chain(nn.GELU, 5, 16, weights="orthogonal", bias=True)
    exactly, found = (isometry.analyze(net, X, method=m) for m in ("exact", "product"))
    assert found.spectrum.method == "graded product"
    assert found.spectrum.log_sigma == pytest.approx(exactly.spectrum.log_sigma, abs=1e-11)
    assert found.score.value == pytest.approx(exactly.score.value, rel=1e-11)
    assert found.jacobian.rank == exactly.jacobian.rank == 16
    assert found.verdict.status == exactly.verdict.status
    check = found.jacobian.self_check
    assert check.passed
    assert check.dense_error < 1e-10
    assert check.difference_error is not None


def test_dead_directions_and_narrow_layers_are_those_of_the_exact_report():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(16, 10), nn.Tanh(), nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 16)
    )
    exactly, found = (isometry.analyze(net, X, method=m) for m in ("exact", "product"))
    assert (found.score.dead, found.jacobian.rank) == (exactly.score.dead, 10)
    assert found.score.dead > 0
    assert said(found, "the narrowest layer leaves 10 of")


@pytest.mark.parametrize("gain", [0.02, 40.0])
def test_a_report_beyond_float64_is_sane(chain, gain):
    net = chain(nn.Tanh, 250, 4, weights="orthogonal", gain=gain)
    report = isometry.analyze(net, torch.zeros(1, 4), method="product")
    assert report.score.log_gain == pytest.approx(250 * math.log(gain), rel=1e-12)
    assert report.score.condition == pytest.approx(1, abs=1e-9)
    assert report.verdict.status == "FAIL"
    assert ("vanish" if gain < 1 else "explode") in report.verdict.reason
    assert said(report, "not compared with the whole network")
    again = isometry.Report.from_json(report.to_json())
    assert again == report


def test_without_a_self_check_the_report_says_so(chain):
    found = sample(chain(nn.Tanh, 3, 16), [X], Options(method="product", check_itself=False))
    assert found.jacobian.self_check is None
    assert any("self-check was switched off" in note for note in found.notes)


def test_float32_is_warned_of(chain):
    report = isometry.analyze(chain(nn.Tanh, 3, 16), X, method="product", dtype="float32")
    assert said(report, "the stages were differentiated in float32")


def test_what_is_no_chain_is_refused_with_the_reason():
    with pytest.raises(InputError, match="Skip is no chain of modules: forward of Skip does more"):
        isometry.analyze(Skip(), X, method="product")


def test_a_dead_network_is_refused_as_by_the_exact_method():
    net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    nn.init.constant_(net[0].bias, -100.0)
    with pytest.raises(MeasurementError, match="J = 0"):
        isometry.analyze(net, X, method="product")


@pytest.mark.parametrize(
    "option",
    [
        {"wrt": "input"}, {"output": "0"}, {"at": "3"}, {"start": "0"}, {"stop": "1"},
        {"train_mode": True}, {"probes": 8}, {"steps": 8},
    ],
)  # fmt: skip
def test_what_the_product_cannot_serve_is_refused_by_name(option):
    (name,) = option
    with pytest.raises(InputError, match=f"cannot serve {name}: leave that out"):
        Options(method="product", **option)
    Options(method="exact", **option)


# ------------------------------------------------------------------ auto


def test_auto_resolves_what_the_dense_jacobian_cannot(chain):
    net = chain(nn.Tanh, 60, 16, gain=1.5)
    coarse, fine = (isometry.analyze(net, X, method=m) for m in ("exact", "auto"))
    lost = coarse.spectrum.unresolved
    assert lost > 0.2
    assert (fine.spectrum.method, fine.spectrum.unresolved) == ("graded product", 0)
    assert said(fine, "below the floor of the dense Jacobian: the singular values are from the")
    assert -1e-12 <= fine.score.value - coarse.score.value <= lost
    k = len(coarse.spectrum.log_sigma)
    error = np.abs(fine.spectrum.singular_values[:k] - coarse.spectrum.singular_values)
    assert error.max() < 1e-13 * coarse.spectrum.singular_values[0]


def test_auto_goes_on_where_the_dense_jacobian_underflows(chain):
    net = chain(nn.Tanh, 250, 4, weights="orthogonal", gain=0.02)
    with pytest.raises(MeasurementError, match="J = 0"):
        isometry.analyze(net, torch.zeros(1, 4), method="exact")
    report = isometry.analyze(net, torch.zeros(1, 4))
    assert report.score.drift == pytest.approx(250 * math.log(0.02), rel=1e-12)
    assert said(report, "the dense Jacobian cannot be measured (the output does not depend")


def test_auto_keeps_within_the_budget_and_says_what_more_would_buy(chain):
    net = chain(nn.Tanh, 60, 16, gain=1.5)
    report = isometry.analyze(net, X, budget=1e-3)
    assert report.spectrum.method == "exact"
    assert said(report, "the product of the stages (--method product) might say, but it would take")


@pytest.mark.parametrize("option", [{"train_mode": True}, {"stop": "118"}, {"dtype": "float32"}])
def test_auto_stays_exact_where_the_product_cannot_serve(chain, option):
    report = isometry.analyze(chain(nn.Tanh, 60, 16, gain=1.5), X, **option)
    assert report.spectrum.method == "exact"
    assert report.spectrum.unresolved > 0


def test_auto_stays_exact_where_nothing_is_unresolved_or_nothing_gained(chain, monkeypatch):
    def never(*_arguments, **_options):
        raise AssertionError("called")

    singular = nn.Sequential(nn.Linear(16, 16), nn.Softmax(-1), nn.Linear(16, 16), nn.Tanh())
    report = isometry.analyze(singular, X)
    assert (report.spectrum.method, report.spectrum.unresolved) == ("exact", 1 / 16)
    monkeypatch.setattr(MODULE, "multiplied", never)
    assert isometry.analyze(chain(nn.Tanh, 3, 16), X).spectrum.method == "exact"
    alone = nn.Linear(16, 16)
    alone.weight.data[0] = 0
    assert isometry.analyze(alone, X).spectrum.unresolved == 1 / 16


def test_a_failed_product_leaves_the_exact_answer(chain, monkeypatch):
    def failing(*_arguments, **_options):
        raise MeasurementError("the stages do not multiply")

    net = chain(nn.Tanh, 60, 16, gain=1.5)
    monkeypatch.setattr(MODULE, "multiplied", failing)
    assert isometry.analyze(net, X).spectrum == exact(Jacobian(net, X)).spectrum


# ------------------------------------------------------------------ cost


def test_the_cost_grows_with_stages_and_sizes_and_names_the_limit():
    jacobian = Jacobian(nn.Linear(4, 4), torch.ones(1, 4))
    assert too_dear(jacobian, [(4, 4)] * 10, 60, None) == ""
    assert "it would take about 1" in too_dear(jacobian, [(4, 4)] * 100_000, 60, None)
    assert "it would take" in too_dear(jacobian, [(20_000, 20_000)], 60, 2**40)
    assert "it needs 5.96 GB, more than the 954 MB" in too_dear(
        jacobian, [(20_000, 20_000)], 1e9, 10**9
    )
    # Behind a narrow stage there is little to carry through a wide one.
    assert too_dear(jacobian, [(1, 10), (10**5, 1), (1, 10**5)], 60, None) == ""
