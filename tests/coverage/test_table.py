"""The coverage table: every answer is right or a refusal by name, and leaves no trace."""

from __future__ import annotations

import os
import re
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import isometry
from docs import update_coverage
from isometry.coverage.traces import changed, traces
from tests.zoo import CASES
from tests.zoo.answer import answer

ALL = os.environ.get("ISOMETRY_ZOO") == "all"
HERE = [c for c in CASES if c.available and (c.quick or ALL)]
STORED = {r["case"]: r for r in update_coverage.load()["rows"]}
SAME_TORCH = update_coverage.load()["torch"] == torch.__version__.split("+")[0]

# PyTorch's own remarks on operators that it vectorises by a loop, and on itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated"),
]


# ------------------------------------------------------------------ the operator's answers


@pytest.mark.parametrize("case", HERE, ids=lambda c: c.name)
def test_the_operator_is_right_or_refuses_by_name_and_the_page_says_so(case):
    built = case.build(torch.float64)
    before = traces(built[0])
    found = answer(case, built=built)
    assert changed(before, traces(built[0])) == []
    if case.refused:
        assert found.outcome == "refused", case.why
        assert re.search(case.refused, found.words.lower())
    else:
        assert found.outcome == "right", (found, case.why)
    stored = STORED[case.name]
    assert stored["outcome"] == found.outcome
    if SAME_TORCH:
        assert stored["words"] == found.words, "run docs/update_coverage.py"


def test_the_page_has_a_row_for_every_case_and_none_is_wrong():
    assert list(STORED) == [c.name for c in CASES]
    assert {r["outcome"] for r in STORED.values()} == {"right", "refused"}
    assert len(STORED) >= 70


def test_the_page_is_made_of_the_stored_numbers():
    stored = update_coverage.load()
    written = update_coverage.PAGE.read_text(encoding="utf-8")
    assert written == update_coverage.page(stored["rows"], stored["torch"])


ONE_OF_EACH = {c.family: c for c in HERE if c.quick and not (c.requires or c.refused)}


@pytest.mark.skipif(not SAME_TORCH, reason="the page is of another release of PyTorch")
@pytest.mark.parametrize("case", ONE_OF_EACH.values(), ids=lambda c: c.family)
def test_the_columns_of_the_page_are_what_is_found_now(case):
    found, stored = update_coverage.row(case), STORED[case.name]
    for way in update_coverage.HEADS:
        assert update_coverage.kind(found, way) == update_coverage.kind(stored, way), way


# ------------------------------------------------------------------ traces


class Stop(BaseException):
    """Raised in the middle of a measurement, as an interrupt is."""


def stopping(network, calls):
    left = iter(range(calls))

    def stops(*args, **kwargs):
        if next(left, None) is None:
            raise Stop
        return network(*args, **kwargs)

    return stops


def products(network, inputs, **options):
    jacobian = isometry.Jacobian(network, inputs, **options)
    m, n = jacobian.shape
    return jacobian @ torch.ones(n, 2), jacobian.T @ torch.ones(m)


MEASUREMENTS = {
    "analyze": isometry.analyze,
    "spectrum": isometry.spectrum,
    "products": products,
    "dense": lambda net, x, **options: isometry.Jacobian(net, x, **options).dense(),
    "unchecked": lambda net, x, **o: isometry.Jacobian(net, x, self_check=False, **o).dense(),
}


@settings(max_examples=100)
@given(
    case=st.sampled_from(HERE),
    measurement=st.sampled_from(sorted(MEASUREMENTS)),
    made_in=st.sampled_from([torch.float32, torch.float64]),
    measured_in=st.sampled_from([None, torch.float32, torch.float64]),
    train_mode=st.booleans(),
    calls=st.one_of(st.none(), st.integers(0, 12)),
)
def test_whatever_is_measured_and_however_it_ends_the_network_is_as_it_was(
    case, measurement, made_in, measured_in, train_mode, calls
):
    network, inputs = case.build(made_in)
    before = traces(network)
    options = {**case.options, "train_mode": train_mode, "dtype": measured_in}
    measured = network if calls is None else stopping(network, calls)
    with suppress(isometry.IsometryError, Stop):  # no excuse for a trace
        MEASUREMENTS[measurement](measured, inputs, **options)
    assert changed(before, traces(network)) == []
