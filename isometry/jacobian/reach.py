"""Everything that a network can reach, each object once."""

from __future__ import annotations

import array
import functools
import inspect
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isometry.jacobian.containers import (
    Attributes,
    Items,
    ScriptAttributes,
    Slot,
    attributes_of,
    contents,
    has_values,
    is_foreign,
    tensors_in,
)

OWN_TABLES = frozenset(vars(nn.Module()))  # PyTorch's own attributes of every module
_OF_TENSORS = ("_parameters", "_buffers")
_ATOMS = {int, float, bool, str, type(None)}  # nothing is inside
_INDEXED = (dict, OrderedDict, list)  # whose items may be set as one would
_MOST = 1000  # items of a container; one with more is a data set
_LIMIT = 100_000  # items of all containers and objects together
_BY_NAME, _IN_DATA = 1, 2  # reached from a function handed in; reached through a data set
_COVERED = object()  # the place of what is replaced together with the tuple that it is in
_CHANGING = (
    *(np.ndarray, np.random.Generator, np.random.RandomState, np.random.BitGenerator),
    *(torch.Generator, random.Random, bytearray, array.array),
)
_CLOSED = (type, types.ModuleType, types.CodeType, np.memmap, random.SystemRandom)
_CACHE = functools._lru_cache_wrapper
_PARTS: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__self__", "__func__"),
    functools.partial: ("func", "args", "keywords"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
}


class Modules(tuple[nn.Module, ...]):
    """The modules that a network can reach, with the network itself.

    Attributes
    ----------
    network : callable
    complete : bool
        Whether everything was looked at; see `Reach`.
    """

    network: object
    complete: bool


def reach_of(modules: Sequence[nn.Module]) -> Reach:
    """Look again at what a network can reach, from itself or else from its modules."""
    return Reach(getattr(modules, "network", tuple(modules)))


class Reach:
    """What a network can reach through modules, containers, objects and functions.

    Followed are the attributes of modules, of their classes, and of objects of the user's own;
    of functions, what they close over and have as defaults and attributes. Of functions handed
    in, hooks among them, and of those reached from them, also the globals that they name. Not
    followed are other globals, iterators, objects of PyTorch, NumPy and Python's library, and
    what compiled extensions and files keep. Containers of more than 1,000 items are data sets:
    modules in them are found, but their tensors and arrays are left alone.

    Attributes
    ----------
    modules : list of Module
    tables, empty : list
        Mappings of the modules themselves: those that hold something, and those that do not.
    holders : list
        Containers, and the attributes of objects.
    bindings : list of Attributes
        Of classes, of functions and what they close over.
    values : list
        What changes in place: arrays, generators, and tensors that have no slot.
    slots, tuples : list of Slot
        Of tensors, and of tuples with tensors in them, that others can stand in for.
    caches : list of Slot
        Of functions that remember their results (`functools.lru_cache`), also those of the
        files that methods are from.
    complete : bool
        Whether 100,000 items in containers and objects were enough.
    """

    def __init__(self, root: object) -> None:
        self.modules: list[nn.Module] = []
        self.tables: list[Any] = []
        self.empty: list[Any] = []
        self.holders: list[Any] = []
        self.bindings: list[Attributes] = []
        self.values: list[Any] = []
        self.slots: list[Slot] = []
        self.tuples: list[Slot] = []
        self.caches: list[Slot] = []
        self.complete = True
        self._left = _LIMIT
        self._seen: set[int] = set()
        self._large: list[Any] = []
        self._pending: list[tuple[Any, Any, Any, int]] = [(None, None, root, _BY_NAME)]
        self._push(None, [("", table) for table in _hooks_on_every_module()], _BY_NAME)
        while self._pending or self._large:
            if not self._pending:  # data sets last of all
                self._inside(self._large.pop(), _IN_DATA)
                continue
            slots, name, value, how = self._pending.pop()
            kind: Any = type(value)
            way = _way(kind)
            if way in (Reach._tuple, Reach._tensor, Reach._cache):  # wherever it is
                way(self, (slots, name, value), how)
            elif way is not None and id(value) not in self._seen:
                self._seen.add(id(value))
                way(self, value, how)

    def _push(self, slots: Any, items: Iterable[tuple[Any, Any]], how: int) -> None:
        self._pending += [(slots, k, v, how) for k, v in items if type(v) not in _ATOMS]

    def _fits(self, size: int) -> bool:
        fits = size <= self._left
        self._left -= size if fits else 0
        self.complete &= fits
        return fits

    def _module(self, m: nn.Module, _: int) -> None:
        table = vars(m)
        self.modules.append(m)
        self.tables.append(table)
        kind = type(m)
        if id(kind) not in self._seen:
            self._class(kind)
        self._attributes(table)

    def _script(self, m: Any, _: int) -> None:
        self.modules.append(m)
        self._bind(ScriptAttributes(m), 0)
        self._push(None, enumerate(m.children()), 0)
        self._attributes({k: v for k, v in vars(m).items() if isinstance(v, dict)})

    def _class(self, kind: type) -> None:
        for k in kind.__mro__:
            if id(k) not in self._seen:
                self._seen.add(id(k))
                if not is_foreign(k):
                    self._bind(Attributes(k), 0)

    def _attributes(self, table: dict[str, Any]) -> None:
        empty = self.empty.append  # once: most of what modules have is empty
        for name, value in table.items():
            if type(value) in _ATOMS:
                continue
            if name not in OWN_TABLES:
                self._pending.append((table, name, value, 0))
            elif not value:
                empty(value)
            else:
                self.tables.append(value)
                if name not in _OF_TENSORS:
                    self._push(None, _items(value), _BY_NAME)  # hooks are handed in too

    def _bind(self, binding: Attributes, how: int) -> None:
        self.bindings.append(binding)
        self._push(binding, binding.items().items(), how)

    def _tensor(self, slot: Slot, how: int) -> None:
        slots, _, t = slot
        if slots is _COVERED or how & _IN_DATA or not has_values(t):
            return
        if slots is None:
            self.values.append(t)
        else:
            self.slots.append(slot)

    def _tuple(self, slot: Slot, how: int) -> None:
        slots, _, items = slot
        if _ATOMS.issuperset(map(type, items)):
            return
        if slots is not None and slots is not _COVERED and not how & _IN_DATA and tensors_in(items):
            self.tuples.append(slot)
            slots = _COVERED
        if id(items) not in self._seen and self._fits(len(items)):
            self._seen.add(id(items))
            inside = None if isinstance(items, frozenset) else slots and _COVERED
            self._push(inside, enumerate(items), how)

    def _cache(self, slot: Slot, how: int) -> None:
        slots, _, f = slot
        if slots is not None and slots is not _COVERED and not how & _IN_DATA:
            self.caches.append(slot)
        if id(f) not in self._seen:
            self._seen.add(id(f))
            self._push(None, [("", f.__wrapped__)], how)

    def _container(self, holder: Any, how: int) -> None:
        if len(holder) > _MOST:
            self._large.append(holder)
        else:
            self._inside(holder, how)

    def _inside(self, holder: Any, how: int) -> None:
        if not self._fits(len(holder)):
            return
        (self.tables if how & _IN_DATA else self.holders).append(holder)
        slots = None if isinstance(holder, set) else holder
        if type(holder) not in _INDEXED:
            slots = slots and Items(holder)
            self._object(holder, how)
        self._push(slots, _items(holder), how)

    def _object(self, value: Any, how: int) -> None:
        """Follow an object of the user's own."""
        table = attributes_of(value)
        if table is not None and id(table) not in self._seen:
            self._seen.add(id(table))
            self._container(table, how)
        kind: Any = type(value)
        if names := _slots_of(kind):
            self._bind(Attributes(value, *names), how)
        self._push(None, [("", inspect.getattr_static(kind, "__call__", None))], how)

    def _function(self, f: types.FunctionType, how: int) -> None:
        for cell in f.__closure__ or ():
            if id(cell) not in self._seen:
                self._seen.add(id(cell))
                self._bind(Attributes(cell, "cell_contents"), how)
        if f.__defaults__:
            self._bind(Attributes(f, "__defaults__"), how)
        self._push(None, [("", f.__kwdefaults__), ("", vars(f))], how)
        if is_foreign(f):
            return
        if id(f.__globals__) not in self._seen:
            self._seen.add(id(f.__globals__))
            self._file(f.__globals__)
        if how & _BY_NAME:
            names = _names_in(f.__code__) & f.__globals__.keys()
            self._push(None, [(n, f.__globals__[n]) for n in names], how)

    def _file(self, names: dict[str, Any]) -> None:
        """Follow the functions of a file that remember their results."""
        cached = [(n, v) for n, v in names.items() if isinstance(v, _CACHE)]
        own = [(n, v) for n, v in cached if v.__module__ == names.get("__name__")]
        self._push(names, own, 0)

    def _parts(self, whole: Any, how: int) -> None:
        names = next(names for kind, names in _PARTS.items() if isinstance(whole, kind))
        self._push(None, [(n, getattr(whole, n)) for n in names], how)

    def _value(self, value: Any, how: int) -> None:
        if not how & _IN_DATA:
            self.values.append(value)


def _hooks_on_every_module() -> list[Any]:
    known: Any = nn.modules.module
    if not known._has_any_global_hook():
        return []
    tables = (v for k, v in vars(known).items() if k.startswith("_global_"))
    return [v for v in tables if isinstance(v, dict)]


_Way = Callable[[Reach, Any, int], None]
_WAYS: list[tuple[Any, _Way | None]] = [
    (Tensor, Reach._tensor),
    (torch.jit.ScriptModule, Reach._script),
    (nn.Module, Reach._module),
    (_CLOSED, None),
    (_CHANGING, Reach._value),
    ((dict, list, set, deque), Reach._container),
    ((tuple, frozenset), Reach._tuple),
    (types.FunctionType, Reach._function),
    (_CACHE, Reach._cache),
    (tuple(_PARTS), Reach._parts),
]


@functools.lru_cache(maxsize=1024)
def _way(kind: Any) -> Callable[..., None] | None:
    """Return how to follow objects of a class; None where nothing is to be found."""
    for base, way in _WAYS:
        if issubclass(kind, base):
            return way
    return None if is_foreign(kind) else Reach._object


def _items(holder: Any) -> Iterable[tuple[Any, Any]]:
    kept = contents(holder)
    return kept.items() if isinstance(kept, dict) else enumerate(kept)


@functools.lru_cache(maxsize=1024)
def _slots_of(kind: Any) -> list[str]:
    known = (item for k in kind.__mro__ for item in vars(k).items())
    return [name for name, v in known if isinstance(v, types.MemberDescriptorType)]


def _names_in(code: types.CodeType) -> set[str]:
    """Return the global names that a function uses, those of its comprehensions among them."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return {*code.co_names}.union(*map(_names_in, inner))
