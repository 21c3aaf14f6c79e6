"""`check_architecture` on networks that are well, and on some that are not."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import isometry
from isometry import InputError, check_architecture
from isometry.coverage import invariants
from isometry.coverage.traces import changed, traces
from isometry.coverage.truth import by_differences
from tests.zoo import by_name

FIRST, *_, LAST = invariants.CHECKS


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def test_a_healthy_network_passes_every_check_and_every_route_is_right():
    coverage = check_architecture(mlp)
    assert {c.outcome for c in coverage.checks} == {"passed"}
    assert {c.outcome for c in coverage.routes} == {"right"}
    assert coverage.passed
    assert not coverage.failures
    assert all(c.error < 1e-8 for c in (*coverage.checks, *coverage.routes))


def test_a_network_instead_of_a_factory_is_left_as_it_was():
    net, x = mlp(), torch.randn(1, 6)
    before = traces(net)
    assert check_architecture(net, x).passed
    assert changed(before, traces(net)) == []


def test_selections_are_those_of_the_operator():
    coverage = check_architecture(
        lambda: nn.LSTM(4, 3), torch.randn(5, 1, 4), output="0", at="0", train_mode=False
    )
    assert coverage.passed


def test_a_function_is_a_network_too():
    assert check_architecture(lambda x: torch.sin(x) * x.sum(), torch.randn(2, 3)).passed


def test_routes_that_are_wrong_are_listed_and_the_operator_is_right():
    case = by_name("BatchNorm2d, flatten, transpose")
    coverage = check_architecture(lambda: case.make()[0], case.make()[1])
    wrong = {c.name: c.error for c in coverage.routes if c.outcome == "WRONG"}
    assert "bare, vjp" in wrong
    assert wrong["bare, vjp"] > 0.5
    assert coverage.passed
    assert coverage.checks[0].error < 1e-6


def wrong_backward():
    return by_name("Function with a wrong backward").make()[0]


def test_a_wrong_backward_is_refused_by_name_and_still_leaves_no_trace():
    coverage = check_architecture(wrong_backward, torch.randn(1, 6))
    outcomes = {c.name: c for c in coverage.checks}
    assert outcomes[FIRST].outcome == "refused"
    assert "ISO303" in outcomes[FIRST].detail
    assert outcomes[LAST].outcome == "passed"
    assert coverage.passed  # a refusal is honest
    wrong = {c.name for c in coverage.routes if c.outcome == "WRONG"}
    assert {"bare, vjp", "in the context, vmap(vjp)"} <= wrong


def test_without_its_self_check_the_operator_would_be_found_wrong(monkeypatch):
    unchecked = property(lambda subject: subject.unchecked)
    monkeypatch.setattr(invariants.Subject, "jacobian", unchecked)
    coverage = check_architecture(wrong_backward, torch.randn(1, 6))
    assert coverage.checks[0].outcome == "failed"
    assert coverage.checks[0].error == pytest.approx(0.5, abs=0.2)
    assert [c.name for c in coverage.failures] == [FIRST]


def test_an_expected_failure_is_no_failure():
    why = {FIRST: "its backward is half the gradient"}
    coverage = check_architecture(wrong_backward, torch.randn(1, 6), expected_failures=why)
    assert coverage.checks[0].outcome == "expected failure"
    assert coverage.checks[0].detail == why[FIRST]
    assert coverage.passed


def test_an_expected_failure_that_passes_is_a_failure():
    coverage = check_architecture(mlp, expected_failures={FIRST: "once it was"})
    assert [c.outcome for c in coverage.failures] == ["unexpected pass"]
    assert "take it off the list" in coverage.failures[0].detail
    assert not coverage.passed


def test_an_expected_failure_of_no_check_is_an_error():
    with pytest.raises(InputError, match=r"no check named 'adjoint'.*products are adjoint"):
        check_architecture(mlp, expected_failures={"adjoint": ""})


def test_an_input_that_the_network_does_not_take_is_an_error_and_no_refusal():
    with pytest.raises(InputError, match="shape"):
        check_architecture(mlp, torch.randn(1, 7))


def test_a_network_that_keeps_a_trace_of_being_measured_is_found(monkeypatch):
    for guard in ("context.attributes_kept", "function.attributes_once"):
        monkeypatch.setattr(f"isometry.jacobian.{guard}", lambda modules: torch.enable_grad())

    class Counting(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    coverage = check_architecture(lambda: Counting(3, 2))
    assert [c.name for c in coverage.failures] == [LAST]
    assert "calls" in coverage.failures[0].detail


def test_a_kink_leaves_the_first_check_undecided():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU())
    coverage = check_architecture(net, torch.zeros(1, 3))
    assert coverage.checks[0].outcome == "skipped"
    assert "kink" in coverage.checks[0].detail


def test_coverage_prints_one_line_a_check_and_becomes_json():
    coverage = check_architecture(mlp)
    assert len(str(coverage).splitlines()) == len(coverage.checks) + len(coverage.routes)
    assert json.loads(json.dumps(coverage.to_dict()))["passed"] is True


def test_the_same_seed_gives_the_same_coverage():
    assert check_architecture(mlp, seed=3) == check_architecture(mlp, seed=3)


def test_differences_find_a_known_jacobian():
    a = torch.randn(4, 3, dtype=torch.float64)
    x = torch.randn(3, dtype=torch.float64)
    truth = by_differences(lambda x: torch.sin(a @ x), x)
    assert truth.error < 1e-7
    assert truth.of_dense(torch.cos(a @ x)[:, None] * a) < 1e-9
    assert truth.of_dense(1.01 * torch.cos(a @ x)[:, None] * a) == pytest.approx(0.01, rel=1e-6)


def test_large_inputs_are_probed_along_a_few_directions():
    a = torch.randn(3, 400, dtype=torch.float64)
    truth = by_differences(lambda x: a @ x, torch.zeros(400, dtype=torch.float64))
    assert len(truth.tangents) < 10
    assert truth.of_dense(a) < 1e-9
    assert truth.of_dense(a + 1e-3) > 1e-5


def test_it_is_public():
    assert isometry.check_architecture is check_architecture
