"""What modules keep: their mode, attributes and contents, put back after they have run."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from isometry.jacobian.containers import unchanged
from isometry.jacobian.modules import own_attributes

_CHANGING = (np.ndarray, torch.Generator, random.Random, np.random.Generator)


def modes_kept(modules: Sequence[nn.Module], train_mode: bool) -> AbstractContextManager[None]:
    """Set the mode of the modules, and put it back."""
    changed = [m for m in modules if m.training is not train_mode]
    return _mode_kept(changed, train_mode) if changed else nullcontext()


@contextmanager
def _mode_kept(changed: Sequence[nn.Module], train_mode: bool) -> Iterator[None]:
    try:
        # The flag itself: eval() may be overridden and do more.
        for m in changed:
            m.training = train_mode
        yield
    finally:
        for m in changed:
            m.training = not train_mode


@contextmanager
def attributes_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back every attribute of the modules: flags, hooks, caches written in forward, lists."""
    tables: list[Any] = [vars(m) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    values = [v for t in tables for v in t.values()] + _kept_on_classes(modules)
    inner = [v for v in values if isinstance(v, dict)]
    empty = [v for v in inner if not v]  # most of them: hooks that nobody has
    lists = [(v, list(v)) for v in values if type(v) is list]
    before = [(t, dict(t)) for t in (*tables, *filter(None, inner))]
    try:
        yield
    finally:
        for items, kept_items in lists:
            items[:] = kept_items
        for table in empty:
            if table:
                table.clear()
        for table, kept in before:
            _restore(table, kept)


def _restore(table: dict[Any, Any], kept: dict[Any, Any]) -> None:
    """Give a mapping back what was in it, by no method that its own class may have changed."""
    if unchanged(table, kept):  # order counts: it is that of the state dict
        return
    plain: Any = OrderedDict if isinstance(table, OrderedDict) else dict
    plain.clear(table)
    for key, value in kept.items():
        plain.__setitem__(table, key, value)


def _kept_on_classes(modules: Sequence[nn.Module]) -> list[Any]:
    """Return the mappings and lists of the modules' own classes: caches that instances share."""
    bases = {base for kind in set(map(type, modules)) for base in kind.__mro__}
    kinds = {k for k in bases if not k.__module__.startswith(("torch.", "builtins"))}
    return [v for k in kinds for v in vars(k).values() if type(v) in (dict, list)]


@contextmanager
def attributes_once(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back what one forward pass sets on the modules, so that the next finds them the same.

    A pass that reads what another remembered is another function of the input.
    """
    tables = [vars(m) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    before = [(t, dict(t)) for t in tables]
    try:
        yield
    finally:
        for table, kept in before:
            _restore(table, kept)


@contextmanager
def contents_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back arrays, generators, and tensors in lists and mappings, that forward may change.

    Tensors that are attributes themselves are lent as buffers are, and need no keeping.
    """
    before = [(v, _state(v)) for v in _loose(modules)]
    try:
        yield
    finally:
        for value, kept in before:
            _put_back(value, kept)


def _loose(modules: Sequence[nn.Module]) -> Iterator[Any]:
    for own in (v for m in modules for v in own_attributes(m).values()):
        if isinstance(own, (list, tuple, dict)):
            items = own.values() if isinstance(own, dict) else own
            yield from (v for v in items if isinstance(v, (torch.Tensor, *_CHANGING)))
        elif isinstance(own, _CHANGING):
            yield own


def _state(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, torch.Generator):
        return value.get_state()
    return value.getstate() if isinstance(value, random.Random) else value.bit_generator.state


def _put_back(value: Any, kept: Any) -> None:
    if isinstance(value, torch.Tensor):
        with torch.no_grad():
            if not torch.equal(value, kept):
                value.copy_(kept)
    elif isinstance(value, np.ndarray):
        if not np.array_equal(value, kept):
            value[...] = kept
    elif isinstance(value, torch.Generator):
        value.set_state(kept)
    elif isinstance(value, random.Random):
        value.setstate(kept)
    else:
        value.bit_generator.state = kept
