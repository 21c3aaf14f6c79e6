"""Sizes, read and written; how much a measurement may use."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isometry import InputError
from isometry.memory import default_budget, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1000000", 10**6),
        ("4GB", 4 * 2**30),
        ("512 MiB", 512 * 2**20),
        ("1.5k", 1536),
        (" .5 kb ", 512),
        ("2T", 2**41),
        ("7 b", 7),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4PB", "4 G B", "0", "0GB", "four", "1e3", "٤"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="as a memory size: write it as 4GB or 512MB"):
        parse_size(text)


@given(st.integers(1, 2**60))
def test_a_written_size_reads_back_within_its_three_digits(size):
    assert abs(parse_size(format_size(size)) / size - 1) <= 0.005


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1000 B"),
        (1023, "1023 B"),
        (1024, "1 KB"),
        (1536, "1.5 KB"),
        (5 * 2**30, "5 GB"),
        (3000 * 2**40, "3000 TB"),
    ],
)
def test_a_size_is_written_plainly(size, text):
    assert format_size(size) == text


def test_the_default_budget_is_at_most_half_of_the_memory(monkeypatch):
    cpu = torch.device("cpu")
    whole = default_budget(cpu)
    assert 0 < whole < 2**62
    monkeypatch.setattr("isometry.memory._container_limit", lambda: 10**6)
    assert default_budget(cpu) == 500_000


def test_the_default_budget_does_not_need_a_posix_system(monkeypatch):
    def absent(name):
        raise ValueError(name)

    monkeypatch.setattr("os.sysconf", absent)
    monkeypatch.setattr("isometry.memory._container_limit", lambda: 2**62)
    assert default_budget(torch.device("cpu")) == 4 * 2**30
