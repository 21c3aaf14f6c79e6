"""The network as a pure function of one tensor, everything else held fixed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from isometry.errors import InputError, MeasurementError
from isometry.jacobian import arguments, selection
from isometry.jacobian.changes import changes_for, left_wrapper
from isometry.jacobian.context import found_plain, measuring
from isometry.jacobian.forecast import can_expand, refuse_beyond
from isometry.jacobian.kept import attributes_once
from isometry.jacobian.lent import LentWeights
from isometry.jacobian.modules import (
    all_plain,
    all_stock,
    modules_of,
    named,
    names,
    unwrap,
)
from isometry.jacobian.outputs import chosen_output
from isometry.jacobian.placement import own_dtype
from isometry.jacobian.randomness import restart
from isometry.jacobian.section import Section, from_embedding
from isometry.jacobian.selection import Selection
from isometry.jacobian.shards import are_sharded, gathering, refuse_alone, reshard
from isometry.jacobian.undo import Undo
from isometry.memory import default_budget

PureFunction = Callable[[Tensor], Tensor]
_T = TypeVar("_T")
ANOTHER_INPUT = "; run it on such an input to see where, or give another (--input, --shape)"


class Network:
    """A network, its arguments, and which derivative of it is meant.

    Parameters
    ----------
    model : torch.nn.Module or callable
    x : Tensor, tuple or mapping
        The argument, the positional arguments, or the named arguments of forward.
    selection : Selection
        What of it is measured.
    memory : int, optional
        Bytes that a forward pass may use; by default half of the device's memory.

    Attributes
    ----------
    model : callable
        Without compiled and parallel wrappers.
    modules : tuple of Module
        All modules it can reach.
    notes : list of str
        What was chosen where the caller left a choice.
    output_name : str
        The part of the output that is measured, known after the first call.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        x: object,
        selection: Selection | None = None,
        memory: int | None = None,
    ) -> None:
        self.model = unwrap(model)
        self.modules = modules_of(self.model)
        _refuse_quantised(self.model, self.modules)
        refuse_alone(self.modules)
        reshard(self.modules)
        self.selection = selection or Selection()
        self.arguments = arguments.read(self.model, x, self.selection.wrt)
        self.notes = [*left_wrapper(model, self.model), *self.arguments.notes]
        if are_sharded(self.modules):
            self.notes.append("the weights are sharded: all processes measure together")
        self.output_name = ""
        self.memory = memory
        self._remembering = False
        self._entering: list[LentWeights] = []
        self._lent: WeakKeyDictionary[PureFunction, LentWeights] = WeakKeyDictionary()
        self._looked_at: set[torch.Size] = set()
        self._at_output, self._at_input = self.selection.positions()
        start, stop = (
            (name, named(self.model, name)) if name is not None else None
            for name in (self.selection.start, self.selection.stop)
        )
        self._section = Section(start, stop) if start or stop else None
        self.notes += self.selection.in_words()

    def held_still(self, device: torch.device) -> Any:
        """Return the measurement context for this network."""
        return measuring(
            self.modules,
            device,
            train_mode=self.selection.train_mode,
            plain=self.is_plain,
            put_back=self._put_back,
        )

    def _put_back(self) -> None:
        for lent in [*self._lent.values(), *self._entering]:
            lent.put_back()
        self._entering.clear()

    def refuse_writes(self, f: PureFunction) -> None:
        """Refuse a network whose forward has just written to its own weights, past those lent."""
        if name := self._lent[f].undo_writes():
            raise MeasurementError(
                f"forward writes to {name!r} through an object or a global that views it, past the "
                "copy that is measured: keep the view as an attribute of a module, or in a list"
            )

    @contextmanager
    def lending(self, f: PureFunction) -> Iterator[None]:
        """Hold the weights of f lent while a graph of its runs: a backward may run modules."""
        with self._lent[f], attributes_once(self.modules):
            yield

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Let a pass see what the one before it left on the modules, as in the user's hands."""
        with attributes_once(self.modules), Undo() as undo, undo:
            undo.set(self, "_remembering", True)
            yield

    def is_plain(self) -> bool:
        """Whether it is made of PyTorch's plain layers alone, as it stands now."""
        if found_plain(self.modules):
            return True
        return isinstance(self.model, nn.Module) and all_plain(self.modules)

    def is_stock(self) -> bool:
        """Whether no code but PyTorch's own runs in it, as it stands now."""
        return isinstance(self.model, nn.Module) and all_stock(self.modules)

    def changes(self, device: torch.device) -> list[str]:
        """Return what the measurement context will change, in words for the report."""
        return changes_for(self.modules, device, train_mode=self.selection.train_mode)

    def function(self, dtype: torch.dtype, device: torch.device) -> tuple[PureFunction, Tensor]:
        """Return x ↦ y with detached weights in a precision, and the point x itself.

        The network's own tensors are never written to: weights are copies, since a forward may
        clamp its own; buffers are cloned at every call so that a forward which updates them
        updates a copy, and the input is cloned so that an in-place operation on it cannot reach
        the caller's.
        """
        if gathering(self.modules) and dtype != own_dtype(self.model, self.arguments.chosen):
            return _refuse_precision, self.arguments.cast(dtype, device).chosen
        lent = LentWeights(self.modules, dtype, device)
        self._entering.append(lent)
        fixed = self.arguments.cast(dtype, device)
        section = self._section
        with lent:
            if fixed.are_tokens and (section is None or section.start is None):
                section = call(lambda _: self._from_embedding(fixed, section), fixed.chosen)
            whole = fixed.chosen
            if section is not None:  # it refuses a layer that does not run once
                entry = section.entry
                whole = call(lambda _: entry(self.model, fixed), whole)
            if section is not None and section.start:
                whole = whole.to(dtype)
                arguments.refuse_bad_input(whole)
        inner = self._at_input
        # A clone, so that tensors made in inference mode can be differentiated.
        point = (whole if inner is None else selection.pick(whole, inner, "the input")).clone()

        remembers = not self.is_plain()
        look = device.type != "meta" and can_expand(self.modules)
        shapes_only = self._shapes_only(dtype) if look else None

        def f(x: Tensor) -> Tensor:
            if shapes_only is not None and x.shape not in self._looked_at:
                refuse_beyond(self.memory or default_budget(device), shapes_only, x, self.modules)
                self._looked_at.add(x.shape)
            if inner is not None:
                x = selection.put(whole, inner, x)
            forgetful = self.modules if remembers and not self._remembering else ()
            with lent, attributes_once(forgetful) if forgetful else nullcontext():
                if self.selection.train_mode:
                    restart()
                if section is None:
                    y = fixed.call(self.model, x.clone())
                else:
                    y = section.run(self.model, fixed, x.clone())
            return self._read(y)

        self._lent[f] = lent
        self._entering.remove(lent)
        return f, point

    def _shapes_only(self, dtype: torch.dtype) -> PureFunction | None:
        try:
            return self.function(dtype, torch.device("meta"))[0]
        except Exception:  # the real run says what is wrong
            return None

    def _from_embedding(self, fixed: arguments.Arguments, section: Section | None) -> Section:
        """Begin at the output of the embedding: token ids have no derivative."""
        found = from_embedding(self.model, fixed, section.stop if section else None)
        if found is None or found.start is None:
            raise InputError("no embedding layer ran on these token ids: nothing to differentiate")
        place = repr(found.start[0]) if found.start[0] else "the embedding, which is all of it"
        note = f"token ids have no derivative: differentiated by the output of {place}"
        if note not in self.notes:
            self.notes.append(note)
        return found

    def _read(self, y: object) -> Tensor:
        if type(y) is not Tensor or self.selection.output is not None or y.is_complex():
            y, self.output_name = chosen_output(y, self.selection.output)
        elif not y.is_floating_point():
            chosen_output(y, None)  # refuses it
        if self._at_output is not None:
            y = selection.pick(y, self._at_output, "the output")
        return y


def _refuse_precision(_: Tensor) -> Tensor:
    # Not by trying: what was gathered for a pass that fails is not given back.
    raise InputError("FSDP gathers weights in their own precision")


def _refuse_quantised(model: Callable[..., object], modules: Sequence[nn.Module]) -> None:
    """Rounded weights and activations have no derivative, only a straight-through stand-in."""
    if not any(map(_rounds, set(map(type, modules)))):
        return
    m = next(m for m in modules if _rounds(type(m)))
    name = next((k for k, v in names(model).items() if v is m), "")
    raise MeasurementError(
        f"the layer {name!r} ({type(m).__name__}) is quantised: rounding has no derivative; "
        "measure the network before it is quantised"
    )


def _rounds(kind: type) -> bool:
    home = kind.__module__
    return "quantized" in home or ("quant" in home and "Fake" in kind.__name__)


def call(f: Callable[[Tensor], _T], x: Tensor) -> _T:
    """Evaluate the network once, turning whatever its code raises into an `InputError`."""
    try:
        return f(x)
    except (InputError, MeasurementError):
        raise
    except RecursionError as e:
        raise InputError(
            "the network's forward recurses without end, or deeper than Python's limit of "
            f"{sys.getrecursionlimit()} calls: check which module calls itself, or allow more "
            "(sys.setrecursionlimit)"
        ) from e
    except (Exception, SystemExit) as e:  # the user's own code may raise anything
        text = (str(e).strip().splitlines() or ["no message"])[0]
        advice = ANOTHER_INPUT
        if isinstance(e, TypeError) and "required positional argument" in text:
            advice = "; give every argument, by name: {'name': tensor} (--input name=FILE)"
        elif "more than 1 value per channel" in text:
            advice = "; in training mode a batch is one input: give one (--input) with several rows"
        elif text.startswith("Guard failed"):
            advice = "; it was exported for other shapes: give an input of those, or export again"
        raise InputError(
            f"the network raised {type(e).__name__} on an input of shape {tuple(x.shape)}: "
            f"{text}{advice}"
        ) from e


def count_bad(t: Tensor, *, infinite: bool = True) -> int:
    """How many values are NaN, or infinite where these count too."""
    bad = torch.isfinite(t.detach()).logical_not() if infinite else torch.isnan(t.detach())
    return int(bad.sum())


def weights_not_finite(model: Callable[..., object], *, masks: bool = False) -> str:
    """Name the first weight or buffer that holds NaN or infinite values; empty if none does.

    With `masks`, buffers may hold infinite values, which a mask is made of, but not running
    statistics.
    """
    if not isinstance(model, nn.Module):
        return ""
    for name, t in (*model.named_parameters(), *model.named_buffers()):
        weight = not masks or isinstance(t, nn.Parameter) or "running_" in name
        if t.is_floating_point() and not t.is_meta and (bad := count_bad(t, infinite=weight)):
            return (
                f"{name!r} has {bad} NaN or infinite values of {t.numel()}: "
                "the file is damaged or training has diverged; take an earlier checkpoint, or "
                "fetch the file again"
            )
    return ""
