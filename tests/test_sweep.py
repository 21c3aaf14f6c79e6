"""Sweeps: the same numbers on any executor, failures in one line, and resuming after a kill."""

from __future__ import annotations

import csv
import json
import multiprocessing
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import InputError, LoadError, Sweep
from isometry.sweep import Cell

FACTORY = """
import os

from torch import nn


def net(width=6, depth=1, activation="Tanh"):
    if width == 13:
        raise ValueError("no such\\nwidth")
    if width == 99:
        os._exit(9)
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), getattr(nn, activation)())]
    return nn.Sequential(*layers)
"""
GRID = {"width": [6, 13, 8], "depth": [1, 2]}


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module that other processes can import too."""
    (tmp_path / "swept.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import swept

    yield swept
    sys.modules.pop("swept")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sweep.jsonl"


def numbers(found: Sweep) -> list:
    return [(c.arguments, c.error, c.report and c.report.spectrum) for c in found.cells]


class Spy(Executor):
    """Runs at once, and counts."""

    def __init__(self):
        self.jobs = 0

    def submit(self, job, /, *args):
        self.jobs += 1
        future = Future()
        future.set_result(job(*args))
        return future


# ------------------------------------------------------------------ what is measured


def test_every_combination_is_measured_in_order(nets):
    found = isometry.sweep(nets.net, GRID)
    asked = [(w, d) for w in GRID["width"] for d in GRID["depth"]]
    assert [tuple(c.arguments.values()) for c in found.cells] == asked
    for cell in found.cells:
        if cell.arguments["width"] == 13:
            assert (cell.report, cell.error) == (
                None,
                "the factory raised ValueError: no such",
            )
        else:
            assert cell.error is None
            assert cell.report.jacobian.shape == (cell.arguments["width"],) * 2


def test_a_cell_is_what_analyze_finds(nets):
    (cell,) = isometry.sweep(nets.net, {"width": [8]}, seed=3, samples=2).cells
    alone = isometry.analyze(partial(nets.net, width=8), seed=3, seeds=1, samples=2)
    assert cell.report.spectrum == alone.spectrum
    (given,) = isometry.sweep(nets.net, {"width": [8]}, torch.ones(1, 8), seed=3).cells
    assert given.report.input.source == "given"


def test_an_empty_grid_is_one_network(nets):
    (cell,) = isometry.sweep(nets.net, {}).cells
    assert cell.arguments == {}
    assert cell.report.jacobian.shape == (6, 6)


def test_numbers_of_numpy_are_numbers(nets):
    found = isometry.sweep(nets.net, {"width": np.array([4, 5]), "depth": np.arange(1, 2)})
    assert [c.arguments for c in found.cells] == [{"width": w, "depth": 1} for w in (4, 5)]
    assert type(found.cells[0].arguments["width"]) is int


def test_progress_rises_to_one(nets):
    seen = []
    isometry.sweep(nets.net, {"width": [4, 5, 6, 7]}, progress=seen.append)
    assert seen == [0.25, 0.5, 0.75, 1.0]


# ------------------------------------------------------------------ executors


def test_threads_take_turns_and_give_the_same_numbers(nets):
    here = isometry.sweep(nets.net, GRID, seed=5)
    with ThreadPoolExecutor(4) as executor:
        there = isometry.sweep(nets.net, GRID, seed=5, executor=executor)
    assert numbers(there) == numbers(here)
    assert numbers(isometry.sweep(nets.net, GRID, seed=6)) != numbers(here)


def test_processes_give_the_same_numbers_and_one_that_dies_ends_no_more_than_its_cells(nets):
    here = isometry.sweep(nets.net, GRID, seed=5)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as executor:
        there = isometry.sweep(nets.net, GRID, seed=5, executor=executor)
        assert numbers(there) == numbers(here)
        broken = isometry.sweep(nets.net, {"width": [99, 6]}, executor=executor)
    assert broken.cells[0].error.startswith("BrokenProcessPool: ")
    assert "\n" not in broken.cells[0].error


def test_a_dask_cluster_gives_the_same_numbers(nets):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    here = isometry.sweep(nets.net, GRID, seed=5)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = isometry.sweep(nets.net, GRID, seed=5, executor=client.get_executor())
    assert numbers(there) == numbers(here)


def test_what_cannot_be_sent_to_a_process_is_said(nets):
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        (cell,) = isometry.sweep(lambda: nn.Linear(3, 3), {}, executor=executor).cells
    assert "pickle" in cell.error


# ------------------------------------------------------------------ resuming


def test_a_sweep_that_was_killed_goes_on(nets, path):
    whole = isometry.sweep(nets.net, GRID, checkpoint=path)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 4
    # The two that failed are tried again; torn lines are dropped; a larger grid adds to it.
    for kept, left in ((lines[:1], 6), ([*lines[:3], lines[3][:90]], 4), (lines, 2), ([], 6)):
        path.write_text("".join(kept))
        spy = Spy()
        again = isometry.sweep(nets.net, GRID, checkpoint=path, executor=spy)
        assert spy.jobs == left
        assert numbers(again) == numbers(whole)
        assert len(path.read_text().splitlines()) == len(lines)
    spy = Spy()
    isometry.sweep(nets.net, {**GRID, "width": [6, 8, 9]}, checkpoint=path, executor=spy)
    assert spy.jobs == 2


def test_an_interrupt_leaves_what_is_done(nets, path):
    def stop(fraction):
        if fraction == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        isometry.sweep(nets.net, {"width": [4, 5]}, checkpoint=path, progress=stop)
    spy = Spy()
    isometry.sweep(nets.net, {"width": [4, 5]}, checkpoint=path, executor=spy)
    assert spy.jobs == 1


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"x": torch.zeros(1, 6)},
        {"samples": 2},
        {"factory": nn.Tanh},
        {"x": {"x": np.zeros((1, 6))}},
    ],
)
def test_a_checkpoint_of_another_sweep_is_refused(nets, path, other):
    isometry.sweep(nets.net, {"width": [6]}, torch.ones(1, 6), checkpoint=path)
    asked = {"factory": nets.net, "x": torch.ones(1, 6), **other}
    with pytest.raises(InputError, match="is of another factory, input or option: give"):
        isometry.sweep(grid={"width": [6]}, checkpoint=path, **asked)


def test_two_sweeps_at_once_do_not_write_to_one_file(nets, path):
    def second(_):
        with pytest.raises(InputError, match="is in use by another process: wait for its end"):
            isometry.sweep(nets.net, GRID, checkpoint=path)
        seen.append(True)

    seen = []
    isometry.sweep(nets.net, {"width": [6]}, checkpoint=path, progress=second)
    assert seen == [True]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("not json\n", 1),
        ("of the user, without an end", 1),
        ("[]\n", 1),
        ('{"schema_version": 1, "kind": "checkpoint", "study": "x"}\n', 1),
        ('{"schema_version": 1, "kind": "sweep", "study": "x"}\n{"arguments": {}}\n', 2),
        ('{"schema_version": 1, "kind": "sweep", "study": "x"}\n[1]\n', 2),
        ("\udc80\n", 1),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_left_as_it_is(nets, path, content, line):
    data = content.encode("utf-8", "surrogateescape")
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"is no checkpoint, or damaged, at line {line}: give"):
        isometry.sweep(nets.net, GRID, checkpoint=path)
    assert path.read_bytes() == data


def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_work(nets, tmp_path):
    for name, why in (("no/such/folder", "No such file"), (".", "Is a directory"), ("a\0", "null")):
        with pytest.raises(InputError, match=f"cannot use .* as a checkpoint: .*{why}"):
            isometry.sweep(nets.net, GRID, checkpoint=str(tmp_path / name))


# ------------------------------------------------------------------ the record


def test_a_sweep_survives_json_and_is_frozen(nets):
    found = isometry.sweep(nets.net, GRID, seeds=2)
    assert Sweep.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(FrozenInstanceError):
        found.cells = ()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"schema_version": 2, "kind": "sweep", "cells": []},
        {"schema_version": 1, "kind": "sweep"},
        {"schema_version": 1, "kind": "sweep", "cells": 3},
        {"schema_version": 1, "kind": "sweep", "cells": [3]},
        {"schema_version": 1, "kind": "sweep", "cells": [{"arguments": 1, "report": None}]},
        {"schema_version": 1, "kind": "sweep", "cells": [{"arguments": {}, "report": {}}]},
    ],
)
def test_what_is_no_sweep_is_refused(data):
    with pytest.raises(LoadError, match=r"not a sweep|sweep is damaged|not an isometry report"):
        Sweep.from_dict(data)


def test_rows_make_a_table(nets, tmp_path):
    found = isometry.sweep(nets.net, GRID, seeds=2)
    rows = found.rows
    with open(tmp_path / "t.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    first, report = rows[0], found.cells[0].report
    assert (first["width"], first["depth"]) == (6, 1)
    assert (first["status"], first["score"]) == (report.verdict.status, report.score.value)
    assert first["score_deviation"] == report.seeds.score.deviation > 0
    assert rows[2]["error"] == "the factory raised ValueError: no such"
    assert rows[2]["score"] is None
    assert Sweep((Cell({"gain": 2}, None, "x"),)).rows[0]["gain_given"] == 2


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"width": []}, "the grid has no value for 'width': give one or more"),
        ({"width": 3}, "the grid needs a list of values for 'width', got 3"),
        ({"activation": "Tanh"}, "needs a list of values for 'activation', got 'Tanh'"),
        ({"activation": [nn.Tanh]}, "the grid takes numbers and text, and cannot with 'activ"),
        ({"width": [float("nan")]}, "cannot with 'width' .*give names"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(nets, grid, words):
    with pytest.raises(InputError, match=words):
        isometry.sweep(nets.net, grid)


def test_a_wrong_option_is_one_error_and_not_one_for_each_cell(nets, path):
    with pytest.raises(TypeError, match="'sampels'"):
        isometry.sweep(nets.net, GRID, sampels=2, checkpoint=path)
    with pytest.raises(InputError, match="probes must be at least 1, got 0"):
        isometry.sweep(nets.net, GRID, probes=0)
