"""Honest files by torch.save, and a canary for the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture
def canary(tmp_path):
    """A command that leaves a file; the test fails if anything ran it."""
    mark = tmp_path / "canary"
    yield f"{'type nul >' if os.name == 'nt' else 'touch'} {mark}"
    assert not mark.exists(), "code from the file was run"


@pytest.fixture
def save(tmp_path):
    """Save a value with torch.save and return the path."""

    def saved(value, name="model.pt", **options) -> Path:
        torch.save(value, tmp_path / name, **options)
        return tmp_path / name

    return saved
