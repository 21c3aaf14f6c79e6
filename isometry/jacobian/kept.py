"""What a network keeps, put back after it has run."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isometry.jacobian.containers import contents, refill
from isometry.jacobian.reach import reach_of
from isometry.jacobian.undo import Undo


def modes_kept(modules: Sequence[nn.Module], train_mode: bool) -> AbstractContextManager[None]:
    """Set the mode of the modules, and put it back."""
    changed = [m for m in modules if m.training is not train_mode]
    return _mode_kept(changed, train_mode) if changed else nullcontext()


@contextmanager
def _mode_kept(changed: Sequence[nn.Module], train_mode: bool) -> Iterator[None]:
    with Undo() as undo, undo:
        undo.later(_set_mode, changed, not train_mode)
        _set_mode(changed, train_mode)
        yield


def _set_mode(modules: Sequence[nn.Module], training: bool) -> None:
    for m in modules:  # the flag itself: eval(), or setting attributes, may be overridden
        if isinstance(m, torch.jit.ScriptModule):
            m.training = training
        else:
            vars(m)["training"] = training


@contextmanager
def hooks_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Take off again every hook that modules are given for a while."""
    with Undo() as undo, undo:
        for m in modules:
            for name, table in vars(m).items():
                if "forward" in name and "hooks" in name:
                    undo.later(refill, table, contents(table))
        yield


@contextmanager
def attributes_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back all that a network can reach: flags, hooks, caches, counters, arrays, generators.

    Tensors that have a slot are lent, and need no keeping. See `Reach` for what is not followed.
    """
    reach = reach_of(modules)
    holders = [(h, contents(h)) for h in (*reach.tables, *reach.holders, *reach.bindings)]
    values = [_kept(v) for v in reach.values]

    def put_back() -> None:
        for table in reach.empty:  # most of all: hooks that nobody has
            if table:
                table.clear()
        for holder, kept in holders:
            refill(holder, kept)
        for restore in values:
            restore()

    with Undo() as undo, undo:
        undo.later(put_back)
        yield


@contextmanager
def attributes_once(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back what one forward pass sets on the modules, so that the next finds them the same.

    A pass that reads what another remembered is another function of the input.
    """
    tables = [vars(m) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    before = [(t, t.copy()) for t in tables]
    try:
        yield
    finally:
        for table, kept in before:
            refill(table, kept)


def _kept(value: Any) -> Callable[[], object]:
    """Return what puts back the values that are in an object now."""
    if isinstance(value, Tensor):
        return partial(_fill, value.detach(), value.detach().clone())
    if isinstance(value, np.ndarray):
        return partial(_write, value, value.copy())
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state(legacy=False))
    if isinstance(value, (bytearray, array)):
        return partial(value.__setitem__, slice(None), value[:])
    bits = value.bit_generator if isinstance(value, np.random.Generator) else value
    return partial(setattr, bits, "state", bits.state)


def _fill(t: Tensor, kept: Tensor) -> None:
    if not torch.equal(t, kept):  # written to only where it must be
        t.copy_(kept)


def _write(values: Any, kept: Any) -> None:
    if values.tobytes() != kept.tobytes():
        values[...] = kept
