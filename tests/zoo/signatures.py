"""What goes in and what comes out: keyword arguments, several tensors, containers, refusals."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.zoo.case import COMPLEX, CONSTANT, INTEGER, Family

CASES = Family("inputs and outputs")
_SHAPE = (1, 6)


@dataclass
class Result:
    hidden: Tensor
    logits: Tensor
    note: str = "fine"


Pair = namedtuple("Pair", ["mean", "scale"])


class Returns(nn.Module):
    """Hands two tensors to a function that packs them."""

    def __init__(self, pack) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 4)
        self.pack = pack

    def forward(self, x: Tensor):
        hidden = self.first(x).tanh()
        return self.pack(hidden, self.last(hidden))


def _returns(name: str, pack, **rest) -> None:
    CASES.add(name, lambda: Returns(pack), _SHAPE, **rest)


_returns("returns a tuple, first", lambda h, y: (h, y))
_returns("returns a tuple, index", lambda h, y: (h, y), output=1)
_returns("returns a tuple, negative index", lambda h, y: (h, y), output=-1)
_returns("returns a list", lambda h, y: [h, y], output=1)
_returns("returns a dict with logits", lambda h, y: {"hidden": h, "logits": y})
_returns("returns a dict, key", lambda h, y: {"a": h, "b": y}, output="b")
_returns("returns a dataclass with logits", Result)
_returns("returns a dataclass, field", Result, output="hidden")
_returns("returns a named tuple, field", Pair, output="scale")
_returns(
    "returns nested containers, path",
    lambda h, y: {"out": [(h, None), (y, "text")], "loss": None},
    output="out.1.0",
)
_returns("returns None and str beside a tensor", lambda h, y: (None, "text", y, h))
_returns("returns integers beside a tensor", lambda h, y: {"classes": y.argmax(-1), "logits": y})
_returns("returns a scalar", lambda h, y: y.square().sum())
_returns("returns a scalar loss beside logits", lambda h, y: (y.mean(), y), output=1)
_returns("returns integers", lambda h, y: y.argmax(-1), refused=INTEGER)
_returns("returns booleans", lambda h, y: y > 0, refused=INTEGER)
_returns("returns a constant", lambda h, y: torch.ones(1, 3, dtype=h.dtype), refused=CONSTANT)
_returns("returns zero times the input", lambda h, y: 0 * y, refused=CONSTANT)
_returns("returns a step function", lambda h, y: torch.round(y), refused=CONSTANT)
_returns("returns complex numbers", lambda h, y: torch.fft.fft(y), refused=COMPLEX)
_returns("returns None", lambda h, y: None, refused="none")
_returns("returns a string", lambda h, y: "logits", refused="str")
_returns("returns a number", lambda h, y: float(y.sum()), refused="float")
_returns("returns NaN", lambda h, y: y * float("nan"), refused="nan|finite")
_returns("returns nothing", lambda h, y: y[:0], refused="no elements|empty")
_returns("output of another name", lambda h, y: {"a": h, "b": y}, output="c", refused="c")


class Two(nn.Module):
    """Two floating inputs that mix, and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 5), nn.Linear(4, 5)

    def forward(self, left: Tensor, right: Tensor, mask: Tensor | None = None, scale: float = 1.0):
        y = self.left(left).tanh() * self.right(right) * scale
        return y if mask is None else y.masked_fill(mask, 0.0) + y


def _pair():
    return torch.randn(1, 6), torch.randn(1, 4)


def _named():
    return dict(zip(("left", "right"), _pair(), strict=True))


def _mask():
    return torch.tensor([[True, False, True, False, False]])


CASES.add("two floats, wrt by name", Two, _pair, wrt="right")
CASES.add("two floats, wrt by index", Two, _pair, wrt="1")
CASES.add("two floats, the first by name", Two, _pair, wrt="left")
CASES.add("two floats without wrt", Two, _pair)
CASES.add("two floats, wrt of another name", Two, _pair, wrt="middle", refused="middle|wrt")
CASES.add("keyword arguments", Two, _named, wrt="left")
CASES.add("keyword arguments and a mask", Two, lambda: {**_named(), "mask": _mask()}, wrt="right")
CASES.add("positional and a mask", Two, lambda: (*_pair(), _mask()), wrt="left")
CASES.add("positional, None and a number", Two, lambda: (*_pair(), None, 2.0), wrt="left")
CASES.add("wrt an integer", Two, lambda: (*_pair(), _mask()), wrt="mask", refused=INTEGER)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, shift: float = 0.0) -> Tensor:
        y = self.linear(x) + shift
        return y if mask is None else y.masked_fill(mask, 0.0).sin() + y


CASES.add("one float and a mask", Masked, lambda: (torch.randn(_SHAPE), _mask()))
CASES.add("one float and a mask by name", Masked, lambda: {"x": torch.randn(_SHAPE), "mask": None})
CASES.add("keyword-only argument", Masked, lambda: {"x": torch.randn(_SHAPE), "shift": 0.5})
CASES.add("no batch dimension", lambda: nn.Linear(6, 5), (6,))
CASES.add("a zero-dimensional input", lambda: torch.sin, ())
CASES.add(
    "complex input", lambda: lambda z: z.abs(), lambda: torch.randn(1, 6) + 1j, refused=COMPLEX
)
CASES.add(
    "integers without an embedding",
    lambda: lambda i: i * 2.0,
    lambda: torch.arange(6),
    refused=INTEGER,
)
CASES.add("an empty input", lambda: nn.Linear(6, 5), (0, 6), refused="no elements|empty")
CASES.add(
    "NaN in the input",
    lambda: nn.Linear(6, 5),
    lambda: torch.full(_SHAPE, float("nan")),
    refused="nan|finite",
)
CASES.add(
    "a list instead of a tensor", lambda: nn.Linear(6, 5), lambda: [1.0, 2.0], refused="list|tensor"
)


class NotTensors(nn.Module):
    """Takes a nested container of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, batch: dict) -> Tensor:
        return self.linear(batch["x"])


CASES.add(
    "a container inside the arguments",
    NotTensors,
    lambda: ({"x": torch.randn(_SHAPE)},),
    refused="tensor|floating",
)


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such head")


CASES.add("a forward that raises", Raises, _SHAPE, refused="no such head")
