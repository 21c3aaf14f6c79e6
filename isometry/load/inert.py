"""What a pickle describes, as plain records: nothing in here can run or be called."""

from __future__ import annotations

from typing import Any


class Ref:
    """A name that the file asks for, such as "torch.nn.modules.linear.Linear"."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


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

    __slots__ = ("args", "called", "state", "what")

    def __init__(self, what: object, args: object, *, called: bool) -> None:
        self.what = what
        self.args = args
        self.called = called
        self.state: object = None

    @property
    def name(self) -> str:
        """The name of `what`, or "" where that is no name."""
        return self.what.name if isinstance(self.what, Ref) else ""


class Table(dict[Any, Any]):
    """A mapping from the file (dict, OrderedDict, Counter) and its attributes."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        super().__init__()
        self.state: object = None


class StorageRef:
    """A run of bytes elsewhere in the file: its element type, its record, its length."""

    __slots__ = ("kind", "numel", "record")

    def __init__(self, kind: str, record: str, numel: int) -> None:
        self.kind = kind
        self.record = record
        self.numel = numel


class OddKey:
    """Stands for a mapping key that is not a plain string or number.

    Hashing what a file nests at will can overflow the stack, and integers can be chosen
    to collide; such keys are never needed, so they are not hashed.
    """

    __slots__ = ()
