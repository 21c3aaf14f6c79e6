"""What a pickle describes, as plain records: nothing in here can run or be called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False, repr=False)
class Ref:
    """A name that the file asks for, such as "torch.nn.modules.linear.Linear"."""

    name: str


@dataclass(slots=True, eq=False, repr=False)
class Made:
    """An object that the file asks to be made; it is described, never made.

    Attributes
    ----------
    what : object
        The class or the callable: a `Ref` in every honest file.
    args : object
        The arguments: a tuple in every honest file.
    called : bool
        True where the file wants `what` called (REDUCE), False for a new, empty
        instance of it (NEWOBJ).
    state : object
        What the file wants put into the instance (BUILD), or None.
    """

    what: object
    args: object
    called: bool
    state: object = None

    @property
    def name(self) -> str:
        """The name of `what`, or "" where that is no name."""
        return self.what.name if isinstance(self.what, Ref) else ""


class Table(dict[Any, Any]):
    """A mapping from the file (dict, OrderedDict, Counter) and its attributes."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        """Make an empty one; the pickle fills it."""
        super().__init__()
        self.state: object = None


@dataclass(slots=True, eq=False, repr=False)
class StorageRef:
    """A run of bytes elsewhere in the file: its element type, its record, its length."""

    kind: str
    record: str
    numel: int


@dataclass(slots=True, eq=False, repr=False)
class OddKey:
    """Stands for a mapping key that is not a plain string or number.

    Hashing what a file nests at will can overflow the stack, and integers can be chosen
    to collide; so such keys are kept, but not hashed.
    """

    key: object
