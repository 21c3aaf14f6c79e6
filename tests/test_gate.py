"""The gate's line: it agrees with the exit code and says each thing once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

import isometry
from isometry import gate
from isometry.report import Verdict


@pytest.fixture(scope="module")
def report(chain):
    return isometry.analyze(chain(nn.Tanh, 6, 32, gain=1.2), np.linspace(-1, 1, 32))


def scored(report, value, status="PASS"):
    return replace(
        report,
        score=replace(report.score, value=value),
        verdict=Verdict(status, "the reason"),
        findings=(replace(report.findings[0], fix="mend it"),),
    )


@pytest.mark.parametrize(
    ("value", "status", "asked", "line"),
    [
        (0.25, "PASS", None, "PASS: the reason (score 0.25)"),
        (0.03, "WARN", None, "WARN: the reason (score 0.03)"),
        (0.01, "FAIL", None, "FAIL: the reason (score 0.01); fix: mend it"),
        (0.25, "PASS", 0.2, "PASS: score 0.25, at least the 0.2 asked for; the reason"),
        (0.25, "PASS", 0.3, "FAIL: score 0.25, below the 0.3 asked for; the reason; fix: mend it"),
        (
            0.01,
            "FAIL",
            0,
            "PASS: score 0.01, at least the 0 asked for; verdict FAIL: the reason",
        ),
        (
            0.03,
            "WARN",
            0.5,
            "FAIL: score 0.03, below the 0.5 asked for; verdict WARN: the reason; fix: mend it",
        ),
        (0.25, "WITHHELD", 0.2, "WITHHELD: the reason"),
        (0.25, "WITHHELD", None, "WITHHELD: the reason"),
    ],
)
def test_the_line_says_outcome_score_verdict_and_fix_once(value, status, asked, line, report):
    made = scored(report, value, status)
    assert ": ".join(gate.outcome(made, asked)) == line
    word, rest = line.split(":", 1)
    assert gate.line(made, asked) == f"{word} {report.model.name}:{rest}"
    assert line.count("score") == (status != "WITHHELD")


@pytest.mark.parametrize("value", [0.98996, 0.9899999999, np.nextafter(0.99, 0), 0.99, 0.990001])
def test_a_score_is_written_on_its_own_side_of_the_one_asked_for(value, report):
    made = scored(report, float(value))
    written = float(gate.compared(made, 0.99).split()[1].rstrip(","))
    assert (written >= 0.99) == (value >= 0.99) == gate.passes(made, 0.99)
    assert ("at least" in gate.compared(made, 0.99)) == (value >= 0.99)


def test_four_digits_do_where_they_tell(report):
    assert gate.compared(scored(report, 0.123456), 0.5).startswith("score 0.1235, below")
    assert gate.compared(scored(report, 1 - 1e-9), 1).startswith("score 0.999999999, below the 1 ")


@pytest.mark.parametrize(("status", "passed"), [("PASS", True), ("WARN", True), ("FAIL", False)])
def test_without_a_score_whatever_is_no_fail_passes(status, passed, report):
    assert gate.passes(scored(report, 0.5, status), None) is passed
    assert not gate.passes(scored(report, 0.5, "WITHHELD"), None)
    assert not gate.passes(scored(report, 0.5, "WITHHELD"), 0.1)
    assert gate.passes(scored(report, 0.5, status), 0.5)
