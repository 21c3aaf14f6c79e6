"""Lists, mappings and tuples that a network keeps among its attributes, and what is in them."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from operator import is_
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Slot = tuple[Any, Any, Any]  # a table, mapping or list; a name or index in it; what is there

_CHANGING = (list, dict, OrderedDict, defaultdict, deque, set)
CONTAINERS = (tuple, *_CHANGING)
_INERT = {int, float, bool, str, type(None)}
_MOST = 1000  # items of a container; one with more is a data set
_FARTHEST = 4  # containers in containers
# Objects of these packages keep no state of a network.
_FOREIGN = {*sys.stdlib_module_names, "torch", "numpy"}


class Contents:
    """What the containers among a network's attributes hold.

    Attributes
    ----------
    holders : dict
        All that can change, by identity.
    slots, tuples : list
        Slots of tensors in them; a tuple has none, and takes the slot that it is in.
    """

    def __init__(self) -> None:
        self.holders: dict[int, Any] = {}
        self.slots: list[Slot] = []
        self.tuples: list[Slot] = []

    def look(self, slots: Any, name: Any, value: Any, depth: int = 0) -> None:
        """Find what is in the container, or among the attributes of the object, of that name."""
        whole = value if isinstance(value, CONTAINERS) else attributes_of(value)
        if whole is None or id(whole) in self.holders or len(whole) > _MOST:
            return
        if type(whole) in _CHANGING:
            self.holders[id(whole)] = whole
        elif not isinstance(whole, tuple) or _INERT.issuperset(map(type, whole)):
            return
        elif not isinstance(slots, tuple) and tensors_in(whole):
            self.tuples.append((slots, name, whole))
        for key, inner in list(whole.items() if isinstance(whole, dict) else enumerate(whole)):
            if not isinstance(inner, Tensor):
                if depth < _FARTHEST:
                    self.look(whole, key, inner, depth + 1)
            elif hasattr(whole, "__setitem__") and _has_values(inner):
                self.slots.append((whole, key, inner))


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors in a tuple, and in the tuples in it."""
    if isinstance(value, Tensor):
        return [value] if _has_values(value) else []
    return [t for v in value for t in tensors_in(v)] if isinstance(value, tuple) else []


def replaced(value: Any, others: Mapping[int, Tensor]) -> Any:
    """Return a tuple with other tensors in it, given by the identity of its own."""
    if isinstance(value, tuple):
        items = [replaced(v, others) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return others.get(id(value), value)


def attributes_of(value: object) -> dict[str, object] | None:
    """Return the attributes of an object of the user's own making, such as a namespace."""
    kind = type(value)
    if kind in _INERT or isinstance(value, (nn.Module, type)):
        return None
    if kind.__module__.partition(".")[0] in _FOREIGN and kind is not SimpleNamespace:
        return None
    table = getattr(value, "__dict__", None)
    return table if type(table) is dict else None


def refill(holder: Any, kept: Any) -> None:
    """Give a container back what was in it."""
    if unchanged(holder, kept):
        return
    holder.clear()
    (holder.extend if isinstance(holder, (list, deque)) else holder.update)(kept)


def unchanged(holder: Any, kept: Any) -> bool:
    """Whether the very same objects are in a container, in the same order."""
    if len(holder) != len(kept):
        return False
    if isinstance(kept, dict):
        return list(holder) == list(kept) and all(map(is_, holder.values(), kept.values()))
    return all(map(is_, holder, kept))


def _has_values(t: Tensor) -> bool:
    return not (is_lazy(t) or t.is_meta)
