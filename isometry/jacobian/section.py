"""The part of a network between two of its layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from isometry.errors import InputError
from isometry.jacobian.arguments import Arguments
from isometry.jacobian.kept import hooks_kept

_Hook = Callable[..., Any]


class _Reached(BaseException):
    """Ends a forward pass at the layer that it was run for."""


@dataclass(frozen=True)
class Section:
    """From the input of one layer to the output of another, the rest of the network held fixed.

    Paths around the section (a skip over it) are held fixed too.

    Attributes
    ----------
    start, stop : (str, Module), optional
        Where it begins and ends; by default the network's own input and output.
    embedding_call : int, optional
        Begin at the *output* of `start`, at this one of its calls: for token ids.
    """

    start: tuple[str, nn.Module] | None = None
    stop: tuple[str, nn.Module] | None = None
    embedding_call: int | None = None

    def entry(self, model: Callable[..., object], arguments: Arguments) -> Tensor:
        """Return the tensor that enters the section when the network runs as it is."""
        entered: list[Tensor] = []
        calls: list[str] = []

        def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            entered.extend(v.clone() for v in (*args, *kwargs.values()) if _floating(v))

        def catch_output(_m: nn.Module, _a: object, out: Any) -> None:
            entered.extend(v.clone() for v in (out,) if _floating(v))

        with self._hooks_kept():
            self._note(calls)
            if self.start:
                self._hook_start(
                    self.start[1], catch if self.embedding_call is None else catch_output
                )
            arguments.call(model, None)
        if self.embedding_call is None:
            self._refuse_odd_order(calls)
        if not self.start:
            return arguments.chosen
        if not entered:
            raise InputError(f"the layer {self.start[0]!r} takes no floating tensor: name another")
        return entered[self.embedding_call or 0].detach()

    def run(self, model: Callable[..., object], arguments: Arguments, x: Tensor) -> object:
        """Run the network with `x` entering the section; return what leaves it."""
        left: list[object] = []
        calls = count()

        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return _replaced(args, kwargs, x)

        def replace(_m: nn.Module, _a: object, _out: object) -> Tensor | None:
            return x if next(calls) == self.embedding_call else None

        def leave(_m: nn.Module, _a: object, out: object) -> None:
            left.append(out)
            raise _Reached

        with self._hooks_kept():
            if self.start:
                self._hook_start(self.start[1], enter if self.embedding_call is None else replace)
            if self.stop:
                self.stop[1].register_forward_hook(leave)
            try:
                return arguments.call(model, None if self.start else x)
            except _Reached:
                return left[0]

    def _hooks_kept(self) -> AbstractContextManager[None]:
        return hooks_kept([end[1] for end in (self.start, self.stop) if end])

    def _note(self, calls: list[str]) -> None:
        """Note each time that the first layer begins and the last one ends."""

        def noting(name: str) -> _Hook:
            return lambda *_: calls.append(name)

        if self.start:
            self.start[1].register_forward_pre_hook(noting(self.start[0]))
        if self.stop:
            self.stop[1].register_forward_hook(noting(self.stop[0]))

    def _refuse_odd_order(self, calls: list[str]) -> None:
        names = [end[0] for end in (self.start, self.stop) if end]
        for name in names:
            times = calls.count(name) // names.count(name)
            if times != 1:
                ran = f"runs {times} times" if times else "never runs"
                raise InputError(
                    f"the layer {name!r} {ran} in one forward pass: name one that runs once"
                )
        if calls != names:
            raise InputError(
                f"the layer {names[1]!r} has run before {names[0]!r} begins: give --start (start=) "
                "the earlier of the two and --stop (stop=) the later"
            )

    def _hook_start(self, module: nn.Module, hook: _Hook) -> None:
        if self.embedding_call is not None:
            module.register_forward_hook(hook)
        else:
            module.register_forward_pre_hook(hook, with_kwargs=True)


def from_embedding(
    model: Callable[..., object], arguments: Arguments, stop: tuple[str, nn.Module] | None
) -> Section | None:
    """Return the section that begins where the chosen token ids are embedded.

    Among the embeddings that run, the first that is given these very ids; else the first.
    """
    ran: list[tuple[str, nn.Module]] = []
    given: list[int] = []
    ids = arguments.chosen.flatten()

    def note(name: str) -> _Hook:
        def hook(module: nn.Module, args: tuple[Any, ...], _: object) -> None:
            if any(isinstance(v, Tensor) and torch.equal(v.flatten(), ids) for v in args[:1]):
                given.append(len(ran))
            ran.append((name, module))

        return hook

    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    tables = {n: m for n, m in modules if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    with hooks_kept(tables.values()):
        for name, module in tables.items():
            module.register_forward_hook(note(name))
        arguments.call(model, None)
    if not ran:
        return None
    chosen = given[0] if given else 0
    before = [module for _, module in ran[:chosen]]
    return Section(ran[chosen], stop, embedding_call=before.count(ran[chosen][1]))


def _floating(v: object) -> bool:
    return isinstance(v, Tensor) and v.is_floating_point()


def _replaced(
    args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put `x` in the place of the first floating tensor."""
    for i, v in enumerate(args):
        if _floating(v):
            return (*args[:i], x, *args[i + 1 :]), kwargs
    for k, v in kwargs.items():
        if _floating(v):
            return args, {**kwargs, k: x}
    return args, kwargs
