"""One forward pass, written down call by call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from isometry.jacobian import Jacobian


class Ref(NamedTuple):
    """The tensor that a call returned, or one of several; call 0 is the input itself."""

    call: int
    element: int = 0


@dataclass(frozen=True, eq=False)
class Call:
    """A function of the input: what was called, with what, and what came of it.

    Attributes
    ----------
    function : callable
        Of PyTorch, or a module whose inside could not be followed.
    args : tuple
    kwargs : mapping
        With a `Ref` in place of every tensor that depends on the input.
    inputs : tuple of Ref
        Those, in order.
    outputs : list of Tensor
        What depends on the input, detached.
    places : tuple of int
        Of those, among all tensors that it returns.
    module : str
        Name of the innermost module whose forward made the call.
    written : bool
        Whether it returns no tensor of its own but has written to its first.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[Ref, ...]
    outputs: list[Tensor]
    places: tuple[int, ...]
    module: str
    written: bool = False

    @property
    def name(self) -> str:
        """What PyTorch calls the function; of a module, its class."""
        if isinstance(self.function, nn.Module):
            return type(self.function).__name__
        return str(getattr(self.function, "__name__", "call")).strip("_")

    def __call__(self, values: Mapping[Ref, Tensor]) -> tuple[Tensor, ...]:
        """Make the call again, on other tensors."""
        # What writes in place must not write to what others read.
        copied = writes(self.function, self.kwargs)
        given = {ref: values[ref].clone() if copied else values[ref] for ref in self.inputs}
        args, kwargs = pytree.tree_map(
            lambda leaf: given[leaf] if isinstance(leaf, Ref) else leaf,
            (self.args, dict(self.kwargs)),
            is_leaf=lambda leaf: isinstance(leaf, Ref),
        )
        out = self.function(*args, **kwargs)
        made = _tensors(out)
        return (args[0],) if self.written else tuple(made[place] for place in self.places)


@dataclass(eq=False)
class Tape:
    """The calls of one forward pass that lead from the input to the output.

    Attributes
    ----------
    input : Tensor
    calls : list of Call
        Call i of the pass is ``calls[i - 1]``; number 0 stands for the input.
    output : Ref or None
        None where the way from the input to the output could not be followed.
    """

    input: Tensor
    calls: list[Call] = field(default_factory=list)
    output: Ref | None = None

    def value(self, ref: Ref) -> Tensor:
        """What was there, detached."""
        if ref.call == 0:
            return self.input
        return self.calls[ref.call - 1].outputs[ref.element]

    def keep(self, ref: Ref) -> None:
        """Copy a value that is about to be written over."""
        if ref.call:
            outputs = self.calls[ref.call - 1].outputs
            outputs[ref.element] = outputs[ref.element].clone()

    def inputs(self, call: int) -> tuple[Ref, ...]:
        """What a call was given."""
        return self.calls[call - 1].inputs if call else ()

    def between(self, start: Ref, stop: Ref, calls: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """Return the function from one tensor to another that these calls make."""
        # Not the tape itself: what looks for modules in a function would walk through all of it.
        steps = [(number, self.calls[number - 1]) for number in calls]

        def function(x: Tensor) -> Tensor:
            values = {start: x}
            for number, call in steps:
                made = call(values)
                values |= {Ref(number, i): t for i, t in enumerate(made)}
            return values[stop]

        return function


def record(jacobian: Jacobian) -> Tape:
    """Write down the forward pass of a Jacobian's network at its input.

    Every call into PyTorch is seen as it is made (`torch.overrides.TorchFunctionMode`), so that
    functions, operators and modules count alike, and any control flow is allowed. A tensor
    depends on the input if autograd says so. Where a module gets a result by ways that cannot
    be followed (scripted code, a function with a derivative of its own, writing through a view),
    the module as a whole is one call.

    Parameters
    ----------
    jacobian : Jacobian
        Its session must be entered: the weights are those lent to it.

    Returns
    -------
    Tape
    """
    x = jacobian.x.detach().requires_grad_()
    recorder = _Recorder(x)
    with ExitStack() as stack:
        model = jacobian.network.model
        named = model.named_modules() if isinstance(model, nn.Module) else ()
        for name, module in named:
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            enter, leave = recorder.hooks(name)
            entering = module.register_forward_pre_hook(enter, with_kwargs=True)
            stack.callback(entering.remove)
            leaving = module.register_forward_hook(leave, with_kwargs=True)
            stack.callback(leaving.remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(recorder)
        y = jacobian.f(x)
    recorder.tape.output = recorder.ref(y)
    return recorder.tape


class _Recorder(TorchFunctionMode):
    """Writes the tape; knows tensors by their identity and their version."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.tape = Tape(x.detach())
        self._known: dict[int, tuple[Ref, Tensor, int]] = {}  # the tensor is kept: ids are reused
        self._know(x, Ref(0))
        self._modules: list[str] = [""]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = self._given(args, kwargs)
        if not given:
            return func(*args, **kwargs)
        refs = [self.ref(t) for t in given]
        versions = [t._version for t in given]
        frozen = self._frozen(args, kwargs)
        if writes(func, kwargs) and refs[0] is not None:
            self.tape.keep(refs[0])
        out = func(*args, **kwargs)
        written = not _differentiable(out) and given[0]._version > versions[0]
        if None not in refs:
            known = [r for r in refs if r is not None]
            self._write(func, *frozen, known, given[0] if written else out, written=written)
        return out

    def ref(self, t: Tensor) -> Ref | None:
        """Return where a tensor comes from, if that is known and it was not written to since."""
        ref, _, version = self._known.get(id(t), (None, None, -1))
        return ref if version == t._version else None

    def hooks(self, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        """Return what watches the module of this name being entered and left."""
        began: list[tuple[list[Tensor], list[Ref | None], tuple[Any, Any]]] = []

        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = self._given(args, kwargs)
            began.append((given, [self.ref(t) for t in given], self._frozen(args, kwargs)))
            self._modules.append(name)

        def leave(m: nn.Module, _a: object, _k: object, out: object) -> None:
            self._modules.pop()
            given, refs, frozen = began.pop()
            lost = any(self.ref(t) is None for t in _tensors(out) if t.requires_grad)
            if given and None not in refs and lost:
                self._write(m, *frozen, [r for r in refs if r is not None], out, module=name)

        return enter, leave

    def _write(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        refs: list[Ref],
        out: object,
        *,
        written: bool = False,
        module: str | None = None,
    ) -> None:
        made = _differentiable(out)
        if not made:
            return
        where = self._modules[-1] if module is None else module
        self.tape.calls.append(
            Call(
                function,
                args,
                kwargs,
                tuple(dict.fromkeys(refs)),
                [t.detach() for t in made.values()],
                tuple(made),
                where,
                written,
            )
        )
        for i, t in enumerate(made.values()):
            self._know(t, Ref(len(self.tape.calls), i))

    def _know(self, t: Tensor, ref: Ref) -> None:
        self._known[id(t)] = ref, t, t._version

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        return [t for t in _tensors((args, kwargs)) if t.requires_grad]

    def _frozen(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Arguments with references in place of what depends on the input."""

        def freeze(leaf: Any) -> Any:
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                return self.ref(leaf)
            return leaf

        frozen: tuple[Any, Any] = pytree.tree_map(freeze, (args, kwargs))
        return frozen


def writes(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a function writes to its first argument."""
    name = getattr(function, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name == "__setitem__" or bool(kwargs.get("inplace"))


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _differentiable(out: object) -> dict[int, Tensor]:
    """Return what depends on the input, by its place among all tensors."""
    return {place: t for place, t in enumerate(_tensors(out)) if t.requires_grad}
