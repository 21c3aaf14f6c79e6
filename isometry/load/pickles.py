"""Pickles of every protocol, read as data by the same machine: to be described, never loaded."""

from __future__ import annotations

import codecs
import pickle
from typing import Any, cast

from isometry.errors import LoadError
from isometry.load.inert import Made, Ref, StorageRef, Table
from isometry.load.names import Sort, sort_of
from isometry.load.opcodes import STEPS, Machine, Reading
from isometry.load.source import Source

MAX_PICKLE = 64 << 20
"""How much of a pickle is read, in bytes."""

# Digits beyond this are no number that a model needs, and Python would take long over them.
_MAX_DIGITS = 400
# What every pickle may use, whoever wrote it.
_COMMON = ("builtins", "codecs", "_codecs", "collections", "copyreg", "copy_reg", "numpy", "torch")


def read_any(data: bytes, count: int = 1) -> list[Reading]:
    """Read up to `count` pickles that follow each other, of whatever protocol.

    Parameters
    ----------
    data : bytes
        The pickles; what stands after them does not matter.
    count : int
        How many to read at most. torch.save wrote five in a row before torch 1.6.
    """
    readings: list[Reading] = []
    at = 0
    while len(readings) < count and at < len(data):
        machine = _AnyMachine(data, at)
        readings.append(machine.read())
        at = machine.at
        if readings[-1].fault:
            break
    return readings


def read_plain(source: Source) -> Reading:
    """Read the pickle that an open file starts with."""
    return read_any(source.read(MAX_PICKLE))[0]


def code_in(reading: Reading) -> list[str]:
    """Return the names in a pickle that are code and never part of a model."""
    return [name for name in reading.names if sort_of(name) is Sort.CODE]


def library_of(reading: Reading) -> str:
    """Return the library whose objects a pickle holds, or "" where it is torch or none."""
    for name in reading.names:
        top = name.partition(".")[0]
        if top not in _COMMON:
            return top
    return ""


class _AnyMachine(Machine):
    """Knows every opcode; it stops only where the pickle contradicts itself."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        super().__init__(data, at)
        self.steps = _ANY_STEPS

    def raw_line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise LoadError("a line in the pickle does not end")
        text = self.data[self.at : end]
        self.at = end + 1
        return text

    def line(self) -> str:
        return self.raw_line().decode("utf-8", "replace")

    def quoted(self) -> None:
        # Escapes are resolved, or a name could hide behind them.
        text, _ = codecs.escape_decode(self.raw_line()[1:-1])
        self.stack.append(bytes(text).decode("latin-1"))

    def escaped(self) -> None:
        self.stack.append(self.raw_line().decode("raw-unicode-escape"))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(module) is not str or type(name) is not str:
            raise LoadError("the pickle asks for a name that is no text")
        self.ask(module, name)

    def instance(self) -> None:  # as protocol 0 wrote objects of old classes
        self.global_name()
        what = self.stack.pop()
        self.call(what, tuple(self.pop_mark()))

    def instance_of(self) -> None:
        what, *args = self.pop_mark()
        self.call(what, tuple(args))

    def new_with_names(self) -> None:
        names, args, what = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append(Made(what, (args, names), called=False))

    def call(self, what: object, args: tuple[Any, ...]) -> None:
        self.stack += [what, args]
        self.make(called=True)

    def table(self) -> None:
        items = self.pop_mark()
        self.stack.append(Table())
        self.update(items)

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def list_of(self) -> None:
        items = self.pop_mark()
        self.stack.append(list(items))

    def digits(self) -> int:
        text = self.line().rstrip("L")
        plain = len(text) <= _MAX_DIGITS and text.removeprefix("-").isdecimal()
        return int(text) if plain else 0

    def extension(self, form: str) -> None:
        self.ask("copyreg", f"extension_{self.number(form)}")

    def storage(self) -> None:
        match self.stack.pop():
            case ("storage", Ref(name=str(kind)), str(record), str(), int(numel), *_):
                self.stack.append(StorageRef(kind, record, numel))
            case ("module", Ref() as what, *_):  # with the source of a class, in old files
                self.stack.append(what)
            case other:
                self.stack.append(Made(None, (other,), called=False))


def _any(machine: Machine) -> _AnyMachine:
    return cast(_AnyMachine, machine)


_ANY_STEPS = STEPS | {
    pickle.PROTO: lambda m: m.take(1) and None,
    pickle.FRAME: lambda m: m.take(8) and None,
    pickle.STACK_GLOBAL: lambda m: _any(m).stack_global(),
    pickle.INST: lambda m: _any(m).instance(),
    pickle.OBJ: lambda m: _any(m).instance_of(),
    pickle.NEWOBJ_EX: lambda m: _any(m).new_with_names(),
    pickle.EXT1: lambda m: _any(m).extension("<B"),
    pickle.EXT2: lambda m: _any(m).extension("<H"),
    pickle.EXT4: lambda m: _any(m).extension("<i"),
    pickle.MEMOIZE: lambda m: _any(m).memoize(),
    pickle.PUT: lambda m: m.memo.update({_any(m).digits(): m.stack[-1]}),
    pickle.GET: lambda m: m.stack.append(m.memo[_any(m).digits()]),
    pickle.POP: lambda m: _any(m).pop(),
    pickle.POP_MARK: lambda m: m.pop_mark() and None,
    pickle.DUP: lambda m: m.stack.append(m.stack[-1]),
    pickle.INT: lambda m: m.stack.append(_any(m).digits()),
    pickle.LONG: lambda m: m.stack.append(_any(m).digits()),
    pickle.FLOAT: lambda m: m.line() and m.stack.append(0.0),
    pickle.LONG4: lambda m: m.take(m.number("<I")) is None or m.stack.append(0),
    pickle.STRING: lambda m: _any(m).quoted(),
    pickle.UNICODE: lambda m: _any(m).escaped(),
    pickle.BINSTRING: lambda m: m.stack.append(m.take(m.number("<I")).decode("latin-1")),
    pickle.SHORT_BINUNICODE: lambda m: m.stack.append(
        m.take(m.number("<B")).decode("utf-8", "surrogatepass")
    ),
    pickle.BINUNICODE8: lambda m: m.stack.append(
        m.take(m.number("<Q")).decode("utf-8", "surrogatepass")
    ),
    pickle.SHORT_BINBYTES: lambda m: m.stack.append(m.take(m.number("<B"))),
    pickle.BINBYTES: lambda m: m.stack.append(m.take(m.number("<I"))),
    pickle.BINBYTES8: lambda m: m.stack.append(m.take(m.number("<Q"))),
    pickle.BYTEARRAY8: lambda m: m.stack.append(m.take(m.number("<Q"))),
    pickle.NEXT_BUFFER: lambda m: m.stack.append(None),
    pickle.READONLY_BUFFER: lambda m: None,
    pickle.DICT: lambda m: _any(m).table(),
    pickle.LIST: lambda m: _any(m).list_of(),
    pickle.EMPTY_SET: lambda m: m.stack.append([]),
    pickle.ADDITEMS: lambda m: m.extend(m.pop_mark()),
    pickle.FROZENSET: Machine.marked_tuple,
    pickle.BINPERSID: lambda m: m.storage(),
    pickle.PERSID: lambda m: m.stack.append((m.line(),)),
}
