"""Honest files by torch.save, a canary for the others, and a watch over what loading does."""

from __future__ import annotations

import contextlib
import os
import sys
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


@pytest.fixture(scope="session")
def libraries():
    """Import transformers, timm and torchvision; its operators have no build for the CPU torch."""
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
    import timm
    import torchvision
    import transformers

    return transformers, timm, torchvision


_KEPT: list[torch.library.Library] = []
_OUTSIDE = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system")
_EVENTS: list[str] | None = None


def _watch(event, args):
    if _EVENTS is None:
        return
    if event in _OUTSIDE or event == "builtins.input":
        _EVENTS.append(f"{event} {args}")
    elif event == "open" and "__pycache__" not in str(args[0]):
        writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        _EVENTS.append(f"{'write' if writes else 'read'} {args[0]}")


sys.addaudithook(_watch)


@pytest.fixture
def watched(libraries):
    """Watch a block: list what it opens; fail if it writes, fetches, runs or asks anything."""

    @contextlib.contextmanager
    def watch():
        global _EVENTS
        _EVENTS = events = []
        try:
            yield events
        finally:
            _EVENTS = None
        assert [event for event in events if not event.startswith("read ")] == []

    return watch
