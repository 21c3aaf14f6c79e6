"""Finished runs of probes in a file, so that a killed measurement goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .output import FIRST_RANK, check_target

if TYPE_CHECKING:
    from isometry.journal import Journal
    from isometry.measure import Run


@dataclass
class Checkpoint:
    """A journal of one line for each run, by the input that it is at."""

    _journal: Journal
    _kept: dict[str, list[Run]] = field(default_factory=dict)

    def kept(self, study: str, point: str) -> list[Run]:
        """Return the runs at one input; start the file where there is none.

        Raises
        ------
        InputError
            If the file is of another study.
        """
        self._journal.begin(study, "network, seed, precision or number of probes and steps")
        return self._kept.get(point, [])

    def keep(self, point: str, run: Run) -> None:
        """Add a run."""
        ritz = {name: getattr(run.ritz, name).tolist() for name in run.ritz._fields}
        how = (run.change, run.steps, run.products, run.settled, run.exhausted)
        self._journal.append({"point": point, "ritz": ritz, "how": how})


@contextmanager
def checkpoint(path: str | None) -> Iterator[Checkpoint | None]:
    """Open a file of runs, and read what it holds."""
    if path is None:
        yield None
        return
    from isometry.journal import Journal

    if not os.path.exists(path):
        check_target(path)
    kept: dict[str, list[Run]] = {}

    def read(line: dict[str, Any]) -> None:
        kept.setdefault(line["point"], []).append(_run(line))

    journal = Journal(path, "checkpoint", read, writes=FIRST_RANK)
    try:
        yield Checkpoint(journal, kept)
    finally:
        journal.close()


def _run(line: dict[str, Any]) -> Run:
    import numpy as np

    from isometry.measure import Ritz, Run

    ritz = Ritz(**{k: np.array(v, dtype=float) for k, v in line["ritz"].items()})
    if ritz.values.shape != ritz.residuals.shape or ritz.weights.shape[1:] != ritz.values.shape:
        raise ValueError(line)
    return Run(ritz, *line["how"])
