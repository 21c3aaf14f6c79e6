"""A pickle read as data: a stack machine that imports nothing and calls nothing.

Python's unpickler, and torch's restricted one, *run* a pickle: they look names up and
call them. This machine has the same stack but no way to look up or call: a name becomes a
`Ref`, a call becomes a `Made` that describes it. It knows the opcodes that `torch.save`
writes (protocol 2) and stops at any other.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from isometry.errors import LoadError
from isometry.load.inert import Made, OddKey, Ref, StorageRef, Table

# At most one small object each: seconds, and 0.3 GB. A state dict takes some 30 per tensor.
MAX_STEPS = 2_000_000
# Integers below this one are their own hash, so no file can make them collide.
_MAX_INT_KEY = 1 << 60
_MAX_NAME = 4096
_MAX_NAMES = 10_000

_TABLES = ("collections.OrderedDict", "collections.Counter")
# What the machine itself meets on a damaged pickle: an empty stack, an unknown memo slot
# or opcode, a short read, bytes that are no UTF-8, an operand of the wrong type.
_DAMAGE = (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error)


@dataclass
class Reading:
    """A pickle, read.

    Attributes
    ----------
    root : object
        What it describes; None where reading stopped early.
    names : dict
        Every name asked for, mapped to whether the file wants it called; in file order.
    fault : str
        Why reading stopped early, or "".
    """

    root: Any = None
    names: dict[str, bool] = field(default_factory=dict)
    fault: str = ""


def read_pickle(data: bytes | bytearray) -> Reading:
    """Read one pickle as data.

    A fault does not raise here: the names met before it decide first whether the file is
    dangerous, and only then whether it is damaged. See `Reading.fault`.
    """
    return Machine(bytes(data)).read()


class Machine:
    """The stack, the memo, and what each opcode does to them.

    Parameters
    ----------
    data : bytes
        Where the pickle stands.
    at : int
        Where in `data` it starts; afterwards, where it ended.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        """Start with an empty stack."""
        self.data = data
        self.at = at
        self.steps = STEPS
        self.reading = Reading()
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Reading:
        """Run to the end of the pickle, or to its first fault."""
        try:
            self._run()
        except LoadError as error:
            self.reading.fault = str(error)
        except _DAMAGE:
            self.reading.fault = f"the pickle makes no sense at byte {self.at}"
        return self.reading

    def _run(self) -> None:
        for _ in range(MAX_STEPS):
            opcode = self.take(1)
            if opcode == pickle.STOP:
                self.reading.root = self.stack.pop()
                return
            step = self.steps.get(opcode)
            if step is None:
                raise LoadError(f"opcode {opcode[0]} at byte {self.at - 1} is none of torch.save's")
            step(self)
        raise LoadError(f"the pickle takes more than {MAX_STEPS} steps")

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise LoadError("the pickle is cut off")
        self.at += count
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + _MAX_NAME)
        if end < 0:
            raise LoadError("a name in the pickle does not end")
        text = self.data[self.at : end].decode("utf-8")
        self.at = end + 1
        return text

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def protocol(self) -> None:
        version = self.take(1)[0]
        if version != 2:
            raise LoadError(
                f"it is pickled with protocol {version}, where torch.save writes 2; "
                "save it again with torch.save(model, path)"
            )

    def global_name(self) -> None:
        module = self.line()
        self.ask(module, self.line())

    def ask(self, module: str, name: str) -> None:
        # Python 2's name for the same module, which protocol 2 still writes.
        if module == "__builtin__":
            module = "builtins"
        full = f"{module}.{name}"
        self.reading.names.setdefault(full, False)
        if len(self.reading.names) > _MAX_NAMES:
            raise LoadError(f"the pickle asks for more than {_MAX_NAMES} names")
        self.stack.append(Ref(full))

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def get(self, form: str) -> None:
        self.stack.append(self.memo[self.number(form)])

    def put(self, form: str) -> None:
        self.memo[self.number(form)] = self.stack[-1]

    def text(self) -> None:
        self.stack.append(self.take(self.number("<I")).decode("utf-8", "surrogatepass"))

    def old_text(self) -> None:  # as Python 2 wrote it
        self.stack.append(self.take(self.number("<B")).decode("latin-1"))

    def long(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise LoadError("the pickle takes from an empty stack")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def marked_tuple(self) -> None:
        items = self.pop_mark()
        self.stack.append(tuple(items))

    def append(self) -> None:
        item = self.stack.pop()
        self.extend([item])

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        # On anything else this would be a method call; a description has no use for it.
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Made):
            raise LoadError("the pickle appends to something that is no list")

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if len(items) % 2:
            raise LoadError("the pickle sets a key without a value")
        if type(target) is Table:
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[key if _plain_key(key) else OddKey(key)] = value
        elif not isinstance(target, Made):
            raise LoadError("the pickle sets a key of something that is no dict")

    def make(self, *, called: bool) -> None:
        args, what = self.stack.pop(), self.stack.pop()
        if isinstance(what, Ref) and called:
            self.reading.names[what.name] = True
            if what.name in _TABLES and args == ():
                self.stack.append(Table())
                return
        self.stack.append(Made(what, args, called=called))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Made | Table):
            raise LoadError("the pickle sets the state of something that has none")
        # Honest pickles build an object once; a second state could hide the first.
        if target.state is not None:
            raise LoadError("the pickle sets the state of one object twice")
        target.state = state

    def storage(self) -> None:
        match self.stack.pop():
            case ("storage", Ref(name=str(kind)), str(record), str(), int(numel)):
                self.stack.append(StorageRef(kind, record, numel))
            case _:
                raise LoadError("the pickle refers to something outside it that is no storage")


def _plain_key(key: object) -> bool:
    if type(key) is int:
        return -_MAX_INT_KEY < key < _MAX_INT_KEY
    return key is None or type(key) in (str, bool, float)


STEPS: dict[bytes, Callable[[Machine], None]] = {
    pickle.PROTO: Machine.protocol,
    pickle.GLOBAL: Machine.global_name,
    pickle.MARK: Machine.mark,
    pickle.BINGET: lambda m: m.get("<B"),
    pickle.LONG_BINGET: lambda m: m.get("<I"),
    pickle.BINPUT: lambda m: m.put("<B"),
    pickle.LONG_BINPUT: lambda m: m.put("<I"),
    pickle.NONE: lambda m: m.stack.append(None),
    pickle.NEWTRUE: lambda m: m.stack.append(True),
    pickle.NEWFALSE: lambda m: m.stack.append(False),
    pickle.BININT: lambda m: m.stack.append(m.number("<i")),
    pickle.BININT1: lambda m: m.stack.append(m.number("<B")),
    pickle.BININT2: lambda m: m.stack.append(m.number("<H")),
    pickle.BINFLOAT: lambda m: m.stack.append(m.number(">d")),
    pickle.LONG1: Machine.long,
    pickle.BINUNICODE: Machine.text,
    pickle.SHORT_BINSTRING: Machine.old_text,
    pickle.EMPTY_LIST: lambda m: m.stack.append([]),
    pickle.EMPTY_DICT: lambda m: m.stack.append(Table()),
    pickle.EMPTY_TUPLE: lambda m: m.stack.append(()),
    pickle.TUPLE: Machine.marked_tuple,
    pickle.TUPLE1: lambda m: m.tuple_of(1),
    pickle.TUPLE2: lambda m: m.tuple_of(2),
    pickle.TUPLE3: lambda m: m.tuple_of(3),
    pickle.APPEND: Machine.append,
    pickle.APPENDS: lambda m: m.extend(m.pop_mark()),
    pickle.SETITEM: Machine.set_item,
    pickle.SETITEMS: lambda m: m.update(m.pop_mark()),
    pickle.REDUCE: lambda m: m.make(called=True),
    pickle.NEWOBJ: lambda m: m.make(called=False),
    pickle.BUILD: Machine.build,
    pickle.BINPERSID: Machine.storage,
}
