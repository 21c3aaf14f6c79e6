"""Lists, mappings and tuples that a network keeps among its attributes, and what is in them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

Slot = tuple[Any, Any, Any]  # a table, mapping or list; a name or index in it; what is there

_CHANGING = (list, dict, OrderedDict, defaultdict, deque, set)
CONTAINERS = (tuple, *_CHANGING)
_INERT = {int, float, bool, str, type(None)}
_MOST = 1000  # items of a container; one with more is a data set
_FARTHEST = 4  # containers in containers


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
        """Find what is in the container of that name."""
        changes = type(value) in _CHANGING
        if id(value) in self.holders or len(value) > _MOST:
            return
        if changes:
            self.holders[id(value)] = value
        elif not isinstance(value, tuple) or _INERT.issuperset(map(type, value)):
            return
        elif not isinstance(slots, tuple) and tensors_in(value):
            self.tuples.append((slots, name, value))
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if isinstance(inner, CONTAINERS):
                if depth < _FARTHEST:
                    self.look(value, key, inner, depth + 1)
            elif isinstance(inner, Tensor) and hasattr(value, "__setitem__") and _has_values(inner):
                self.slots.append((value, key, inner))


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


def refill(holder: Any, kept: Any) -> None:
    """Give a container back what was in it."""
    holder.clear()
    (holder.extend if isinstance(holder, (list, deque)) else holder.update)(kept)


def _has_values(t: Tensor) -> bool:
    return not (is_lazy(t) or t.is_meta)
