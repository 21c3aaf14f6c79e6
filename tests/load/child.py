"""A call in a process of its own, with limits on memory and time."""

from __future__ import annotations

import multiprocessing
import resource
import time
import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """How a call ended: "returned", "raised", "killed" or "no end"."""

    how: str
    error: str = ""  # the name of its class
    text: str = ""
    seconds: float = 0.0
    growth: int = 0  # of the peak of resident memory, in bytes


def bounded(call, *arguments, memory=1 << 30, seconds=20.0) -> Ended:
    """Call a function with `memory` more bytes of addresses and `seconds` of time."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(theirs, call, arguments, memory), daemon=True)
    with warnings.catch_warnings():
        # Forking beside threads may hang; then the time limit says so.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    theirs.close()
    try:
        ended = ours.recv() if ours.poll(seconds) else Ended("no end")
    except EOFError:
        ended = Ended("killed")
    child.kill()
    child.join()
    return ended


def peak() -> int:
    """Return the peak of this process's resident memory, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _work(pipe, call, arguments, memory) -> None:
    before, start = peak(), time.perf_counter()
    size = _addresses() + memory
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    how, error, text = "returned", "", ""
    try:
        value = call(*arguments)
        text = value if isinstance(value, str) else ""
    except BaseException as raised:
        how, error, text = "raised", type(raised).__name__, str(raised)
    pipe.send(Ended(how, error, text[:10_000], time.perf_counter() - start, peak() - before))


def _addresses() -> int:
    with open("/proc/self/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[0]) * resource.getpagesize()
