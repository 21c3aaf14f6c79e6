"""Several processes that measure together, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from isometry.errors import IsometryError, MeasurementError
from isometry.jacobian.shards import alone, in_step

T = TypeVar("T")

_PATIENCE = timedelta(days=30)


class Ranks:
    """The processes that share the work; this one alone where there is no process group.

    Every rank does its share and is told the rest, so that all of them know the whole result and
    take the same decisions. What is dealt does not depend on how many there are: nor do results.
    Within a job a rank is alone, and deals nothing to the others. Where the network itself is
    spread over them, all do all of the work together.

    Attributes
    ----------
    size, rank : int
    """

    def __init__(self) -> None:
        joined = dist.is_available() and dist.is_initialized() and not alone.get()
        self._in_step = joined and in_step.get()
        shared = joined and not self._in_step
        self.size = dist.get_world_size() if shared else 1
        self.rank = dist.get_rank() if shared else 0

    def deal(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Do every job on one of the ranks, and return all results in the order of the jobs.

        Raises
        ------
        IsometryError
            What a job raised, on every rank.
        MeasurementError
            If a rank is gone.
        """
        if self.size == 1:
            return [job() for job in jobs]
        done: list[T] = []
        failure: IsometryError | None = None
        outer = alone.set(True)
        try:
            done = [job() for job in jobs[self.rank :: self.size]]
        except IsometryError as e:
            failure = e
        finally:
            alone.reset(outer)
        told: list[Any] = [None] * self.size
        _together(lambda: dist.all_gather_object(told, (done, failure)))
        for _, failed in told:
            if failed is not None:
                raise failed
        return [told[i % self.size][0][i // self.size] for i in range(len(jobs))]

    def agreed(self, job: Callable[[], T]) -> T:
        """Do a job whose outcome may differ between ranks on the first, and return it on all."""
        if not self._in_step:
            return self.deal([job])[0]
        told: list[Any] = [None] * dist.get_world_size()
        done = job()  # which may run the network
        _together(lambda: dist.all_gather_object(told, done))
        first: T = told[0]
        return first

    def slices(self, total: int) -> list[slice]:
        """Divide `total` rows among the ranks, as evenly as may be."""
        ends = [total * i // self.size for i in range(self.size + 1)]
        return [slice(a, b) for a, b in pairwise(ends)]


def _together(collective: Callable[[], object]) -> None:
    try:
        collective()
    except RuntimeError as e:  # gloo and nccl alike
        reason = (str(e).splitlines() or [""])[0]
        raise MeasurementError(
            f"another rank has ended, and the measurement with it ({reason:.120}); look at the "
            "first error among the ranks"
        ) from e


@contextmanager
def torchrun() -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did, and part from them at the end.

    Of several CUDA devices, each process of a machine takes one: "cuda" is then its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # What is told is small, and lies on the processor; who is done first waits for the others, and
    # learns at once if one of them ends.
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks()
    finally:
        dist.destroy_process_group()
