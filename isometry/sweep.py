"""Many networks of one factory: a grid over its arguments, measured one cell at a time."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from isometry.errors import InputError, IsometryError, LoadError
from isometry.journal import Journal
from isometry.report import Report

if TYPE_CHECKING:
    from isometry.measure import Progress

Arguments = dict[str, Any]

_SCHEMA = {"schema_version": 1, "kind": "sweep"}
_NUMBERS = ("value", "drift", "spread", "gain", "condition", "dead")
# A measurement exchanges what belongs to the process: executors of threads take turns.
_TURN = threading.Lock()


@dataclass(frozen=True)
class Cell:
    """One network of a sweep: its report, or the one line that it ended with."""

    arguments: Arguments
    report: Report | None
    error: str | None


@dataclass(frozen=True)
class Sweep:
    """All networks of a sweep, the last argument varying fastest."""

    cells: tuple[Cell, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat mapping for each cell, as `csv.DictWriter` and `pandas.DataFrame` take them.

        The arguments; then ``status``, ``score`` with ``drift``, ``spread``, ``gain``,
        ``condition`` and ``dead``, ``score_deviation`` between initialisations, and ``error``:
        None where there is none. An argument that is called as one of these is ``NAME_given``.
        """
        return [_row(cell) for cell in self.cells]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `from_dict` restores an equal sweep."""
        return {**_SCHEMA, "cells": [_encoded(cell) for cell in self.cells]}

    @classmethod
    def from_dict(cls, data: object) -> Sweep:
        """Restore a sweep.

        Raises
        ------
        LoadError
            If `data` is none, or one of another schema version.
        """
        if not isinstance(data, Mapping) or {k: data.get(k) for k in _SCHEMA} != _SCHEMA:
            raise LoadError("this is not a sweep of this release: measure the networks again")
        try:
            return cls(tuple(map(_decoded, data["cells"])))
        except (KeyError, TypeError) as e:
            raise LoadError(f"the sweep is damaged: {type(e).__name__}: {e}") from e


def sweep(
    factory: Callable[..., Any],
    grid: Mapping[str, Iterable[Any]],
    x: object = None,
    *,
    executor: Executor | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Sweep:
    """Measure the networks that a factory builds from every combination of its arguments.

    Parameters
    ----------
    factory : callable
        From keyword arguments to a `torch.nn.Module`. It is called with the random generators of
        torch, NumPy and Python at `seed`: the same seed gives the same numbers, whatever the
        executor.
    grid : mapping
        Of each argument the values to try: numbers, text, booleans, None, and lists of these.
    x : optional
        The input of all networks, as for `analyze`; by default Gaussian, of the shape that
        each takes.
    executor : concurrent.futures.Executor, optional
        Where the cells are measured: a process pool, mpi4py.futures, or the ``get_executor()`` of
        a dask client. By default one after the other, here. The factory must be importable where
        the work is done; a `ProcessPoolExecutor` should start its processes by "spawn", since
        torch's threads do not survive a fork.
    checkpoint : path, optional
        A file that takes each report as it comes: a sweep that was killed goes on from it, and one
        with a larger grid measures what is new. What failed is tried again.
    progress : callable, optional
        Called with the fraction of the cells that is done.
    **options
        As for `analyze`: `samples`, `seed`, `seeds`, `method`, …

    Returns
    -------
    Sweep
        With the error of every cell that failed: the others are measured nevertheless.

    Raises
    ------
    InputError
        If the grid or an option makes no sense, or the checkpoint is of another sweep, damaged or
        in use.

    Examples
    --------
    >>> import torch, isometry
    >>> def net(width):
    ...     return torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.Tanh())
    >>> found = isometry.sweep(net, {"width": [4, 8]}, samples=2)
    >>> [(row["width"], row["score"] < 1, row["error"]) for row in found.rows]
    [(4, True, None), (8, True, None)]
    """
    from isometry.measure import Options

    cells = _cells(grid)
    Options(**options)  # a mistake in it is one, not one for each cell
    done: dict[str, Report] = {}
    with ExitStack() as stack:
        journal = None
        if checkpoint is not None:
            journal = Journal(os.fspath(checkpoint), "sweep", partial(_remember, done))
            stack.callback(journal.close)
            journal.begin(_study(factory, x, options), "factory, input or option")
        left = [cell for cell in cells if _key(cell) not in done]
        failed: dict[str, str] = {}
        for i, (cell, outcome) in enumerate(_outcomes(factory, left, x, executor, options), 1):
            if isinstance(outcome, str):
                failed[_key(cell)] = outcome
            else:
                done[_key(cell)] = outcome
                if journal is not None:
                    journal.append(_encoded(Cell(cell, outcome, None)))
            if progress is not None:
                progress((len(cells) - len(left) + i) / len(cells))
    return Sweep(tuple(Cell(c, done.get(_key(c)), failed.get(_key(c))) for c in cells))


def _cells(grid: Mapping[str, Iterable[Any]]) -> list[Arguments]:
    return [
        dict(zip(grid, values, strict=True))
        for values in product(*(_values(name, grid[name]) for name in grid))
    ]


def _values(name: str, values: Iterable[Any]) -> list[Any]:
    """Return what an argument is to be, as JSON would bring it back."""
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise InputError(f"the grid needs a list of values for {name!r}, got {values!r:.60}")
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    if not plain:
        raise InputError(f"the grid has no value for {name!r}: give one or more")
    try:
        return list(json.loads(json.dumps(plain, allow_nan=False)))
    except (TypeError, ValueError) as e:
        raise InputError(
            f"the grid takes numbers and text, and cannot with {name!r} ({e}): give names, and let "
            "the factory look them up"
        ) from e


def _outcomes(
    factory: Callable[..., Any],
    cells: list[Arguments],
    x: object,
    executor: Executor | None,
    options: Mapping[str, Any],
) -> Iterator[tuple[Arguments, Report | str]]:
    """Yield every cell as it is done."""
    jobs = [partial(_measured, partial(factory, **cell), x, options) for cell in cells]
    if executor is None:
        yield from ((cell, job()) for cell, job in zip(cells, jobs, strict=True))
        return
    futures = {_submitted(executor, job): cell for job, cell in zip(jobs, cells, strict=True)}
    try:
        for future in as_completed(futures):
            yield futures[future], _outcome(future)
    finally:
        for future in futures:
            future.cancel()


def _submitted(executor: Executor, job: Callable[[], Report | str]) -> Future[Report | str]:
    try:
        return executor.submit(job)
    except Exception as e:  # a pool that broke by the cells before
        future: Future[Report | str] = Future()
        future.set_exception(e)
        return future


def _outcome(future: Future[Report | str]) -> Report | str:
    try:
        return future.result()
    except Exception as e:  # the worker's end, or what could not be sent to it
        return _line(e)


def _measured(build: Callable[[], Any], x: object, options: Mapping[str, Any]) -> Report | str:
    """Measure one network; the error in one line where that fails."""
    from isometry.analysis import analyze

    try:
        with _TURN:
            return analyze(build, x, **{"seeds": 1, **options})
    except Exception as e:  # of whatever kind: the other cells are to be measured
        return _line(e)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, IsometryError) else f"{type(error).__name__}: {text:.200}"


def _row(cell: Cell) -> dict[str, Any]:
    report = cell.report
    numbers = {n: None if report is None else getattr(report.score, n) for n in _NUMBERS}
    among = None if report is None else report.seeds
    found = {
        "status": None if report is None else report.verdict.status,
        "score": numbers.pop("value"),
        **numbers,
        "score_deviation": None if among is None else among.score.deviation,
        "error": cell.error,
    }
    given = {f"{k}_given" if k in found else k: v for k, v in cell.arguments.items()}
    return {**given, **found}


def _encoded(cell: Cell) -> dict[str, Any]:
    report = None if cell.report is None else cell.report.to_dict()
    return {"arguments": cell.arguments, "report": report, "error": cell.error}


def _decoded(data: Any) -> Cell:
    report = None if data["report"] is None else Report.from_dict(data["report"])
    return Cell(dict(data["arguments"]), report, data["error"])


def _remember(done: dict[str, Report], line: Any) -> None:
    cell = _decoded(line)
    if cell.report is None:
        raise ValueError(line)
    done[_key(cell.arguments)] = cell.report


def _key(arguments: Arguments) -> str:
    return json.dumps(arguments, sort_keys=True)


def _study(factory: Callable[..., Any], x: object, options: Mapping[str, Any]) -> str:
    """Hash all that steers every cell."""
    from isometry.measure.fingerprint import digest

    told = repr((_name(factory), sorted(options.items())))
    return hashlib.sha256(told.encode() + digest(x)).hexdigest()


def _name(factory: Any) -> str:
    if isinstance(factory, partial):
        return f"{_name(factory.func)} {factory.args} {sorted(factory.keywords.items())}"
    return f"{factory.__module__}.{getattr(factory, '__qualname__', type(factory).__qualname__)}"
