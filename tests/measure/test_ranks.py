"""Work dealt to several processes, which are imitated here; tests/cli has real ones."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from isometry.errors import InputError
from isometry.measure import Options, Ranks, Sample, sample

MODULE = sys.modules[Sample.__module__]  # the package has a function of that name


@pytest.fixture
def two(monkeypatch):
    """A group of two processes: this one, and another that does and tells the same."""

    def gathered(told, mine):
        told[:] = [mine, mine]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "all_gather_object", gathered)


def test_every_second_job_is_this_ranks_own_and_within_it_there_are_no_others(two):
    done = []

    def job(name):
        done.append(name)
        return Ranks().size, Ranks().deal([lambda: "alone"])

    found = Ranks().deal([lambda name=name: job(name) for name in "abc"])
    assert found == [(1, ["alone"])] * 3
    assert done == ["a", "c"]
    assert Ranks().size == 2


def test_a_failure_is_every_ranks_and_leaves_it_among_the_others(two):
    def fails():
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        Ranks().deal([fails])
    assert Ranks().size == 2


def test_what_may_differ_is_agreed_on():
    assert Ranks().agreed(lambda: 3) == 3


class Kept:
    """A checkpoint that holds nothing."""

    def kept(self, study, point):
        return []

    def keep(self, point, run):
        pass


@pytest.mark.parametrize(
    ("inputs", "checkpoint", "dealt"), [(1, None, 0), (2, None, 2), (5, None, 5), (2, Kept(), 0)]
)
def test_inputs_are_dealt_where_there_are_enough(inputs, checkpoint, dealt, monkeypatch):
    class Two(Ranks):
        def __init__(self):
            self.size, self.rank, self.jobs = 2, 0, 0

        def deal(self, jobs):
            seen.append(len(jobs))
            return [job() for job in jobs]

        def agreed(self, job):
            return job()

    seen = []
    monkeypatch.setattr(MODULE, "Ranks", Two)
    torch.manual_seed(0)
    network, xs = nn.Linear(6, 6), [torch.randn(1, 6) for _ in range(inputs)]
    found = sample(network, xs, Options(method="quadrature", checkpoint=checkpoint))
    assert seen == ([dealt] if dealt else [])
    assert len(found.spectra) == inputs
