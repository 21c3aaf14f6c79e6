"""Estimated spectra from the command line: options, checkpoints, interrupts, several processes."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

FACTORY = '''
import os
import time

import torch
from torch import nn


def tanh(width=48, depth=3):
    torch.manual_seed(0)
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), nn.Tanh())])


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = tanh(64, 2)

    def forward(self, x):
        time.sleep(0.05)
        return self.net(x)


class Dying(Slow):
    """Its second process ends while it measures."""

    calls = 0

    def forward(self, x):
        Dying.calls += 1
        if os.environ.get("RANK") == "1" and Dying.calls > 5:
            os._exit(9)
        return self.net(x)
'''
QUADRATURE = ("--method", "quadrature")
# A shell starts jobs in the background deaf to Ctrl-C, and children inherit that.
HEARS = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def factory(place):
    (place / "estimated.py").write_text(FACTORY)
    return ("--model", "estimated:tanh")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_report_says_how_it_was_estimated_and_how_sure_it_is(isometry, factory, place):
    ended = isometry("analyze", *factory, *QUADRATURE, "--json", "r.json", "--figure", "r.svg")
    assert ended.code == 0
    assert "random probes, intervals of 95%" in ended.out
    report = read(place / "r.json")
    sure, score = report["uncertainty"], report["score"]
    assert report["spectrum"]["method"] == "quadrature"
    for name, value in (("score", score["value"]), ("drift", score["drift"])):
        assert sure[name]["low"] <= value <= sure[name]["high"]
        assert f"({sure[name]['low']:.4g} … {sure[name]['high']:.4g})" in ended.out
    assert np.all(np.array(sure["cdf_low"]) <= sure["cdf_high"])


def test_the_interval_holds_what_the_exact_method_finds(isometry, factory, place):
    wide = ("analyze", *factory, "--kwargs", '{"width": 256}')
    isometry(*wide, *QUADRATURE, "--json", "q.json")
    isometry(*wide, "--method", "exact", "--json", "e.json")
    estimate, exact = read(place / "q.json")["uncertainty"], read(place / "e.json")
    assert exact["uncertainty"] is None
    for name, value in (("score", exact["score"]["value"]), ("gain", exact["score"]["gain"])):
        low, high = estimate[name]["low"], estimate[name]["high"]
        assert 2 * low - high <= value <= 2 * high - low  # thrice as wide as 95 % of them need
    largest = np.exp(exact["spectrum"]["log_sigma"][0])
    low, high = estimate["largest"]["low"], estimate["largest"]["high"]
    assert low - 1e-12 <= largest <= high + 1e-12


def test_auto_says_why_it_estimates(isometry, factory):
    wide = ("--kwargs", '{"width": 1100, "depth": 1}')
    ended = isometry("analyze", *factory, *wide, "--budget", "1e-9", "-q", "--json", "-")
    assert json.loads(ended.out)["spectrum"]["method"] == "quadrature"
    notes = " ".join(json.loads(ended.out)["notes"])
    assert "estimated (auto): every singular value would take about" in notes
    ended = isometry("analyze", *factory, *wide, "--memory", "8MB", "-q", "--json", "-")
    assert "the dense Jacobian needs" in " ".join(json.loads(ended.out)["notes"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--probes", "0"), "0 is not in the range x>=1"),
        (("--steps", "0"), "0 is not in the range x>=1"),
        (("--tolerance", "0"), "0.0 is not in the range 0<x<=1"),
        (("--tolerance", "nan"), "nan"),
        (("--budget", "-1"), "-1.0 is not in the range x>0"),
        (("--budget", "nan"), "nan"),
        (("--method", "guess"), "'guess' is not one of"),
        (("--seeds", "0"), "0 is not in the range x>=1"),
        (("--band", "1"), "1 is not in the range x>=2"),
        (("--band", "2", "--checkpoint", "c"), "a checkpoint is of one network: leave it out"),
        (("--seeds", "2", "--checkpoint", "c"), "a checkpoint is of one network: leave it out"),
        (("--checkpoint", ""), "--checkpoint is an empty name"),
        (("--checkpoint", "no/such/folder.jsonl"), "does not exist; make it first"),
    ],
)
def test_options_that_make_no_sense_are_refused(isometry, factory, options, words):
    ended = isometry("analyze", *factory, *QUADRATURE, *options)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert ended.changed == []


def test_a_killed_run_goes_on_to_the_identical_result(isometry, factory, place):
    asked = ("analyze", *factory, *QUADRATURE, "--probes", "32", "-q", "--json")
    whole = isometry(*asked, "whole.json", "--checkpoint", "c.jsonl")
    assert whole.code == 0
    lines = (place / "c.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 32 // 8
    for kept in (lines[:1], lines[:3], [*lines[:3], lines[3][:100]], lines):  # torn, and all
        (place / "c.jsonl").write_text("".join(kept))
        assert isometry(*asked, "again.json", "--checkpoint", "c.jsonl").code == 0
        before, after = read(place / "whole.json"), read(place / "again.json")
        for key in ("spectrum", "score", "uncertainty", "verdict"):
            assert before[key] == after[key]
        assert (place / "c.jsonl").read_text() == "".join(lines)


@pytest.mark.parametrize(
    "change", [("--seed", "1"), ("--steps", "3"), ("--kwargs", '{"depth": 2}'), ("--probes", "9")]
)
def test_a_checkpoint_of_something_else_is_refused(isometry, factory, change):
    asked = ("analyze", *factory, *QUADRATURE, "--checkpoint", "c.jsonl", "-q")
    assert isometry(*asked).code == 0
    ended = isometry(*asked, *change)
    assert ended.code == 2
    assert "is of another network, seed, precision or number of probes and steps" in ended.err
    assert ended.changed == []


@pytest.mark.parametrize(
    "content",
    [
        "a note without an end",
        "not json\n",
        "[]\n",
        '{"schema_version": 1, "kind": "other"}\n',
        "\udc80",
        "{}\n{\n",
    ],
)
def test_a_damaged_checkpoint_is_refused(isometry, factory, place, content):
    (place / "c.jsonl").write_bytes(content.encode("utf-8", "surrogateescape"))
    ended = isometry("analyze", *factory, *QUADRATURE, "--checkpoint", "c.jsonl")
    assert ended.code == 2
    assert "is no checkpoint, or damaged, at line" in ended.err
    assert ended.changed == []


@pytest.mark.parametrize("option", ["--json", "--figure"])
def test_a_checkpoint_and_a_result_never_share_a_file(isometry, factory, option):
    asked = ("analyze", *factory, *QUADRATURE, "--checkpoint", "c.svg", option, "./c.svg")
    ended = isometry(*asked)
    assert ended.code == 2
    assert "it would replace what is read" in ended.err
    assert ended.changed == []


def test_where_nothing_is_kept_in_a_checkpoint_a_note_says_so(isometry, factory):
    ended = isometry("analyze", *factory, "--method", "exact", "--checkpoint", "c.jsonl")
    assert (ended.code, ended.changed) == (1 if "FAIL" in ended.err else 0, [])
    assert "note: the checkpoint was not used: only random probes" in ended.err
    assert "checkpoint" not in isometry("analyze", *factory, "--method", "exact").err


def test_two_processes_do_not_write_to_one_checkpoint(isometry, factory, place):
    from isometry.journal import Journal

    asked = ("analyze", *factory, *QUADRATURE, "--checkpoint", "c.jsonl", "-q")
    assert isometry(*asked).code == 0
    other = Journal(str(place / "c.jsonl"), "checkpoint", lambda line: None)
    ended = isometry(*asked)
    other.close()
    assert ended.code == 2
    assert "is in use by another process: wait for its end, or give another file" in ended.err
    assert ended.changed == []
    assert isometry(*asked).code == 0


# ------------------------------------------------------------------ initialisations


def drawn(width=24):
    from torch import nn

    return nn.Sequential(nn.Linear(width, width), nn.Tanh())


def test_a_band_is_that_of_twins(isometry, place):
    (place / "drawn.py").write_text(f"import torch\n{inspect.getsource(drawn)}")
    ended = isometry("analyze", "--model", "drawn:drawn", "--band", "3", "--json", "r.json")
    assert ended.code == 0, ended.err
    assert re.search(r"^twins +scores .* deviation of 3\)", ended.out, re.M | re.S)
    found = json.loads((place / "r.json").read_text(encoding="utf-8"))
    assert len(set(found["band"]["score"]["each"])) == 3


def test_seeds_are_those_of_one_network_each(isometry, place):
    (place / "drawn.py").write_text(f"import torch\n{inspect.getsource(drawn)}")
    asked = ("analyze", "--model", "drawn:drawn", "--seed", "7", "--json")
    three = isometry(*asked, "three.json", "--seeds", "3")
    assert three.code == 0, three.err
    assert "drawn:drawn (factory, 600 parameters)" in three.out
    assert re.search(r"^seeds +scores .* ± ", three.out, re.M)
    assert "3 networks, of seeds 7 to 9, were measured" in three.err
    isometry(*asked, "one.json")
    found, one = read(place / "three.json"), read(place / "one.json")
    assert found["seeds"]["spectra"][0]["log_sigma"] == one["spectrum"]["log_sigma"]
    assert len(set(found["seeds"]["score"]["each"])) == 3
    assert found["score"]["value"] == pytest.approx(found["seeds"]["score"]["mean"])
    assert (found["model"], one["seeds"]) == (one["model"], None)


@pytest.mark.parametrize("subject", [("w.pt",), ("w.pt", "--model", "estimated:tanh")])
def test_seeds_without_a_factory_or_with_weights_of_a_file_are_refused(isometry, factory, subject):
    ended = isometry("analyze", *subject, "--seeds", "2")
    assert ended.code == 2
    assert "--seeds draws the weights anew: give --model pkg.module:factory, and no" in ended.err
    assert ended.err.count("\n") == 1


def test_ctrl_c_ends_with_what_it_has(factory, place):
    asked = ["analyze", "--model", "estimated:Slow", *QUADRATURE, "--probes", "64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "isometry_cli", *asked, "--checkpoint", "c.jsonl", "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(place)},
        preexec_fn=HEARS,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _lines(place / "c.jsonl") > 1:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert report["uncertainty"]["complete"] is False
    assert 8 <= report["uncertainty"]["probes"] < 64
    assert any(note.startswith("interrupted: ") for note in report["notes"])


def _lines(path):
    return path.read_text().count("\n") if path.exists() else 0


def torchrun(place, *arguments):
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", str(29500 + os.getpid() % 1000), "-m", "isometry_cli"),
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(place)},
    )


@pytest.mark.parametrize(
    ("method", "samples"), [("quadrature", 1), ("exact", 1), ("quadrature", 3)]
)
def test_two_processes_give_one_report_and_the_same_numbers(
    isometry, factory, place, method, samples
):
    asked = ("analyze", *factory, "--method", method, "--probes", "24", "--samples", samples)
    alone = isometry(*asked, "--json", "one.json")
    ended = torchrun(place, *asked, "--json", "two.json")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("PASS") + ended.stdout.count("FAIL") + ended.stdout.count("WARN") == 1
    one, two = read(place / "one.json"), read(place / "two.json")
    assert alone.code == 0
    for path in (("spectrum", "log_sigma"), ("spectrum", "weights"), ("score", "quantiles")):
        first, second = (np.array(r[path[0]][path[1]]) for r in (one, two))
        assert second == pytest.approx(first, rel=1e-10)
    assert two["score"]["value"] == pytest.approx(one["score"]["value"], rel=1e-10)
    assert two["score"]["per_input"] == pytest.approx(one["score"]["per_input"], rel=1e-10)


@pytest.mark.parametrize("shared", [(*QUADRATURE, "--probes", "64"), ("--samples", "2")])
def test_a_rank_that_dies_ends_the_run_with_an_error(factory, place, shared):
    asked = ("analyze", "--model", "estimated:Dying", *shared)
    began = time.monotonic()
    ended = torchrun(place, *asked)
    assert ended.returncode != 0
    assert time.monotonic() - began < 60
    assert "another rank has ended" in ended.stderr or "exitcode  : 9" in ended.stderr
