"""The zoo itself: every case builds, runs, and is the same each time."""

from __future__ import annotations

import inspect
import os

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import CASES
from tests.zoo.plain import arguments, selected
from tests.zoo.reference import central_difference

ALL = os.environ.get("ISOMETRY_ZOO") == "all"
IDS = [c.name for c in CASES]


def skip_without(case):
    if not (case.quick or ALL):
        pytest.skip("slow: set ISOMETRY_ZOO=all")
    if not case.available:
        pytest.skip(f"{case.requires} is not installed")


def output(case):
    network, inputs = case.make()
    args, kwargs = arguments(inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return selected(network(*args, **kwargs), case.options.get("output"))


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_case_builds_runs_and_is_the_same_each_time(case):
    skip_without(case)
    before = torch.get_rng_state()
    network, _ = case.make()
    assert callable(network)
    assert torch.equal(torch.get_rng_state(), before)
    if case.refused:
        return
    y, again = output(case), output(case)
    assert isinstance(y, Tensor)
    assert y.numel() > 0
    assert torch.isfinite(y).all()
    # Not to the bit: some routines of LAPACK round by where their memory lies.
    torch.testing.assert_close(y, again, rtol=1e-5, atol=1e-6)


def test_names_are_unique():
    assert len(set(IDS)) == len(IDS)


def test_every_layer_of_torch_nn_is_there():
    layers = {t for t in vars(nn).values() if inspect.isclass(t) and issubclass(t, nn.Module)}
    # Bases without a forward, which nobody calls.
    layers -= {nn.Module, nn.Container, nn.RNNBase, nn.modules.rnn.RNNCellBase}
    seen: set[type] = set()
    for case in CASES:
        if case.quick and not case.requires:
            network, _ = case.make()
            seen |= (
                {type(m) for m in network.modules()} if isinstance(network, nn.Module) else set()
            )
    assert {t.__name__ for t in layers - seen} == set()


def test_differences_find_a_known_jacobian():
    a = torch.randn(4, 3, dtype=torch.float64)
    x = torch.randn(3, dtype=torch.float64)
    jac, error = central_difference(lambda x: torch.sin(a @ x), x)
    expected = torch.cos(a @ x)[:, None] * a
    assert error < 1e-7
    torch.testing.assert_close(jac, expected, rtol=0, atol=1e-10)


def test_differences_say_when_they_cannot_tell():
    a = torch.randn(6, 3, dtype=torch.float64)
    x = torch.randn(3, dtype=torch.float64)
    _, error = central_difference(lambda x: (a @ x).float().sin(), x)
    assert 1e-6 < error < 1e-2
