"""Finished runs of probes in a file, so that a killed measurement goes on where it was."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from .output import FIRST_RANK, check_target

if TYPE_CHECKING:
    from isometry.measure import Run

_KIND = {"schema_version": 1, "kind": "checkpoint"}


@dataclass
class Checkpoint:
    """A file of one line for each run; the first line says of what study they are.

    A line that was not written to its end, by a process that was killed, is left out.
    """

    path: str
    _study: str | None = None
    _kept: dict[str, list[Run]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):
            check_target(self.path)
            return
        try:
            with open(self.path, encoding="utf-8") as file:
                lines = file.read().split("\n")
        except (OSError, UnicodeDecodeError) as e:
            raise self._damaged(1) from e
        with_end = lines[:-1]
        for number, line in enumerate(with_end, 1):
            try:
                self._read(json.loads(line), first=number == 1)
            except (ValueError, KeyError, TypeError, RecursionError) as e:
                raise self._damaged(number) from e
        if with_end and lines[-1]:
            self._cut()

    def kept(self, study: str, point: str) -> list[Run]:
        """Return the runs at one input; start the file where there is none.

        Raises
        ------
        InputError
            If the file is of another study.
        """
        from isometry.errors import InputError

        if self._study is None:
            self._study = study
            self._write({**_KIND, "study": study}, mode="w")
        if self._study != study:
            raise InputError(
                f"the checkpoint {self.path!r} is of another network, seed, precision or number "
                "of probes and steps: give what it was made with, or another file"
            )
        return self._kept.get(point, [])

    def keep(self, point: str, run: Run) -> None:
        """Add a run."""
        ritz = {name: getattr(run.ritz, name).tolist() for name in run.ritz._fields}
        how = (run.change, run.steps, run.products, run.settled, run.exhausted)
        self._write({"point": point, "ritz": ritz, "how": how}, mode="a")

    def _read(self, line: dict[str, Any], *, first: bool) -> None:
        import numpy as np

        from isometry.measure import Ritz, Run

        if first:
            if {k: line[k] for k in _KIND} != _KIND:
                raise ValueError(line)
            self._study = str(line["study"])
            return
        ritz = Ritz(**{k: np.array(v, dtype=float) for k, v in line["ritz"].items()})
        if ritz.values.shape != ritz.residuals.shape or ritz.weights.shape[1:] != ritz.values.shape:
            raise ValueError(line)
        self._kept.setdefault(line["point"], []).append(Run(ritz, *line["how"]))

    def _cut(self) -> None:
        """Drop what follows the last whole line, so that the next one begins a line."""
        with open(self.path, "rb+") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)

    def _write(self, line: dict[str, Any], mode: str) -> None:
        if not FIRST_RANK:
            return
        with open(self.path, mode, encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _damaged(self, line: int) -> click.UsageError:
        return click.UsageError(
            f"{self.path!r} is no checkpoint, or damaged, at line {line}: give another file, or "
            "remove it if it is a checkpoint"
        )
