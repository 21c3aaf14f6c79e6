"""What objects hold: read and put back, whatever kind of object it is."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Mapping
from operator import is_
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Slot = tuple[Any, Any, Any]  # a table, mapping or list; a name or index in it; what is there

# Objects of these packages keep no state of a network.
_FOREIGN = {*sys.stdlib_module_names, "torch", "numpy", "accelerate"}


class Attributes:
    """The attributes of an object by name, as in a dictionary.

    Parameters
    ----------
    owner : object
        A function, a closure's cell, an object with slots; or a class, all of whose own
        attributes are meant.
    *names : str
    """

    def __init__(self, owner: Any, *names: str) -> None:
        self._owner, self._names = owner, names
        self._own: Any = type if isinstance(owner, type) else object

    def __getitem__(self, name: str) -> Any:
        return getattr(self._owner, name)

    def __setitem__(self, name: str, value: object) -> None:
        self._own.__setattr__(self._owner, name, value)

    def items(self) -> dict[str, Any]:
        """Return those that are there."""
        if self._own is type:
            return dict(vars(self._owner))
        found = {}
        for name in self._names:
            try:
                found[name] = self[name]
            except (AttributeError, ValueError):  # an empty slot, an empty cell
                continue
        return found

    def refill(self, now: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
        """Give the owner back those it had, instead of those it has now."""
        for name in now.keys() - kept.keys():
            self._own.__delattr__(self._owner, name)
        for name, value in kept.items():
            if name not in now or now[name] is not value:
                self[name] = value


class ScriptAttributes(Attributes):
    """The attributes of a TorchScript module, which Python knows as copies."""

    def __init__(self, module: Any) -> None:
        kinds: Any = torch._C
        known = kinds.ConcreteModuleType.from_jit_type(module._c._type()).get_attributes()
        tables = {*module._parameters.keys(), *module._buffers.keys()}
        super().__init__(module._c, *(known.keys() - tables))

    def __getitem__(self, name: str) -> Any:
        return self._owner.getattr(name)

    def __setitem__(self, name: str, value: object) -> None:
        self._owner.setattr(name, value)


class Items:
    """The items of a mapping or list whose class may have changed the methods for them."""

    def __init__(self, owner: Any) -> None:
        self._owner, self._plain = owner, base_of(owner)

    def __getitem__(self, name: Any) -> Any:
        return self._plain.__getitem__(self._owner, name)

    def __setitem__(self, name: Any, value: object) -> None:
        self._plain.__setitem__(self._owner, name, value)


def base_of(holder: object) -> Any:
    """Return the class of Python's own that makes an object a container."""
    return next(k for k in (OrderedDict, dict, list, set, deque) if isinstance(holder, k))


def contents(holder: Any) -> Any:
    """Return a copy of what is in a container, or of the attributes of an object."""
    if type(holder) is dict:
        return holder.copy()
    if isinstance(holder, Attributes):
        return holder.items()
    if isinstance(holder, dict):
        return dict(base_of(holder).items(holder))
    return list(base_of(holder).__iter__(holder))


def refill(holder: Any, kept: Any) -> None:
    """Give a holder back what was in it, by no method that its own class may have changed."""
    if isinstance(kept, dict):  # order counts: it is that of the state dict
        now = holder if type(holder) is dict else contents(holder)
        if list(now) == list(kept) and all(map(is_, now.values(), kept.values())):
            return
    elif len(now := contents(holder)) == len(kept) and all(map(is_, now, kept)):
        return
    if isinstance(holder, Attributes):
        holder.refill(now, kept)
        return
    plain = base_of(holder)
    plain.clear(holder)
    if isinstance(kept, dict):
        for key, value in kept.items():
            plain.__setitem__(holder, key, value)
    else:
        (plain.update if plain is set else plain.extend)(holder, kept)


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors in a tuple, and in the tuples in it."""
    if isinstance(value, Tensor):
        return [value] if has_values(value) else []
    return [t for v in value for t in tensors_in(v)] if isinstance(value, tuple) else []


def has_values(t: Tensor) -> bool:
    """Whether a tensor is more than a shape, a promise of one, or a remnant of an ended vmap."""
    known: Any = torch._C._functorch
    if known.is_batchedtensor(t) and known.maybe_get_level(t) > (known.maybe_current_level() or 0):
        return False
    return not (is_lazy(t) or t.is_meta)


def replaced(value: Any, others: Mapping[int, Tensor]) -> Any:
    """Return a tuple with other tensors in it, given by the identity of its own."""
    if isinstance(value, tuple):
        items = [replaced(v, others) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return others.get(id(value), value)


def attributes_of(value: object) -> dict[str, object] | None:
    """Return the attributes of an object of the user's own making, such as a namespace."""
    kind = type(value)
    if isinstance(value, (nn.Module, type)) or is_foreign(kind):
        return None
    table = getattr(value, "__dict__", None)
    return table if type(table) is dict else None


def is_foreign(kind: Any) -> bool:
    """Whether a class or function is Python's, PyTorch's or NumPy's own."""
    home = kind.__module__ or ""
    return home.partition(".")[0] in _FOREIGN and kind is not SimpleNamespace
