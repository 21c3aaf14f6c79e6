"""Stock torch.nn modules from their descriptions, without running anything of the file's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load.inert import Made, Ref, Table
from isometry.load.names import DTYPES, FUNCTIONS, LAYERS
from isometry.load.recurrent import finish_recurrent
from isometry.load.tensors import Tensors, is_tensor
from isometry.load.wording import show

MAX_MODULES = 20_000
MAX_DEPTH = 64
# Attributes, list items and children together: bounds what sharing could multiply.
MAX_VALUES = 1_000_000
_MAX_NESTING = 8

_CONTENT = ("_parameters", "_buffers", "_modules")
_PERSISTENCE = "_non_persistent_buffers_set"
# Written by every Module; what is not content, a flag or a hook is left as __init__ made it.
_HOOKS = frozenset(key for key in nn.Module().__dict__ if key.endswith(("_hooks", "_hook"))) | {
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_is_full_backward_hook",
}
_WITH_ACTIVATION = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_SETSTATE_ERRORS = (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError)


class Layers:
    """Rebuilds a tree of stock modules; tied modules and weights stay tied.

    Parameters
    ----------
    tensors : Tensors
        Rebuilds the weights of the same file.
    """

    def __init__(self, tensors: Tensors) -> None:
        """Start with nothing rebuilt."""
        self._tensors = tensors
        self._built: dict[int, tuple[object, nn.Module, int]] = {}
        self._open: set[int] = set()
        self._values = 0

    def build(self, made: object, where: str = "model") -> nn.Module:
        """Return the module that `made` describes; `where` names it in messages."""
        return self._build(made, where)[0]

    def _build(self, made: object, where: str) -> tuple[nn.Module, int]:
        known = self._built.get(id(made))
        if known is not None:
            return known[1], known[2]
        if id(made) in self._open:
            raise RefusedError(f"refused: {show(where)} contains itself")
        if len(self._open) >= MAX_DEPTH:
            raise RefusedError(f"refused: modules are nested deeper than {MAX_DEPTH}")
        if len(self._built) >= MAX_MODULES:
            raise RefusedError(f"refused: more than {MAX_MODULES} modules")
        cls, state = _class_and_state(made, where)
        self._open.add(id(made))
        module, visits = self._fill(cls, state, where)
        self._open.discard(id(made))
        self._built[id(made)] = (made, module, visits)
        return module, visits

    def _fill(self, cls: type[nn.Module], state: Table, where: str) -> tuple[nn.Module, int]:
        module = cls.__new__(cls)
        nn.Module.__init__(module)
        parameters = {
            key: self._weight(value, f"{where}.{key}", parameter=True)
            for key, value in self._content(cls, state, "_parameters", where)
        }
        buffers = {
            key: self._weight(value, f"{where}.{key}", parameter=False)
            for key, value in self._content(cls, state, "_buffers", where)
        }
        children: dict[str, nn.Module | None] = {}
        visits = 1
        for key, value in self._content(cls, state, "_modules", where):
            children[key] = None
            if value is not None:
                children[key], inner = self._build(value, f"{where}.{key}")
                visits += inner
        # A module held twice is walked twice: doubling at each level never ends.
        if visits > MAX_MODULES:
            raise RefusedError(f"refused: {show(where)} repeats its modules without end")
        names = [*parameters, *buffers, *children]
        plain = self._attributes(cls, state, where)
        if len(set(names)) < len(names) or set(names) & set(plain):
            raise RefusedError(f"refused: {show(where)} gives one name to two things")
        plain[_PERSISTENCE] = _names(state.get(_PERSISTENCE), set(buffers), where)
        plain |= {"_parameters": parameters, "_buffers": buffers, "_modules": children}
        _set_state(module, plain, where)
        return module, visits

    def _content(
        self, cls: type[nn.Module], state: Table, key: str, where: str
    ) -> list[tuple[str, Any]]:
        content = state.get(key)
        if type(content) is not Table:
            raise LoadError(f"{show(where)} is damaged: it has no {key}")
        for name in content:
            _check_name(cls, name, where)
            if name == "" or "." in name or name in _HOOKS or name in (*_CONTENT, "training"):
                raise RefusedError(f"refused: {show(where)} holds something named '{show(name)}'")
        self._count(len(content), where)
        return list(content.items())

    def _weight(self, value: object, where: str, *, parameter: bool) -> torch.Tensor | None:
        if value is None:
            return None
        tensor = self._tensors.build(value, where)
        if parameter != isinstance(tensor, nn.Parameter):
            raise RefusedError(f"refused: {show(where)} is not what it should be, a weight")
        return tensor

    def _attributes(self, cls: type[nn.Module], state: Table, where: str) -> dict[str, Any]:
        if state.state is not None:
            raise RefusedError(f"refused: {show(where)} has attributes on its attributes")
        found: dict[str, Any] = {}
        for key, value in state.items():
            if key in _CONTENT or key == _PERSISTENCE:
                continue
            if key in _HOOKS:
                _check_no_hooks(key, value, where)
            elif key == "training":
                found[key] = value is True
            elif key == "_flat_weights":
                continue  # the recurrent layers' copy of their parameters, made again
            else:
                _check_name(cls, key, where)
                found[key] = self._attribute(cls, key, value, where)
        return found

    def _attribute(self, cls: type[nn.Module], key: str, value: object, where: str) -> Any:
        if isinstance(value, Ref) and value.name in FUNCTIONS:
            if key == "activation" and cls in _WITH_ACTIVATION:
                return FUNCTIONS[value.name]
            raise RefusedError(
                f"refused: attribute '{show(key)}' of {show(where)} would call {show(value.name)}"
            )
        return self._simple(value, f"{where}.{key}", 0)

    def _simple(self, value: object, where: str, depth: int) -> Any:
        self._count(1, where)
        if value is None or type(value) in (bool, int, float, str):
            return value
        if depth > _MAX_NESTING:
            raise RefusedError(f"refused: {show(where)} is nested deeper than {_MAX_NESTING}")
        if type(value) in (list, tuple):
            items = [self._simple(item, where, depth + 1) for item in value]  # type: ignore[attr-defined]
            return items if type(value) is list else tuple(items)
        if type(value) is Table:
            if any(type(key) not in (bool, int, float, str, type(None)) for key in value):
                raise RefusedError(f"refused: {show(where)} has a key that is no plain value")
            return {key: self._simple(item, where, depth + 1) for key, item in value.items()}
        if isinstance(value, Ref) and value.name in DTYPES:
            return DTYPES[value.name]
        if is_tensor(value):
            return self._tensors.build(value, where)
        return self._called(value, where, depth)

    def _called(self, value: object, where: str, depth: int) -> Any:
        if isinstance(value, Made) and value.called and type(value.args) is tuple:
            if value.name == "torch.device":
                return torch.device("cpu")  # where everything is read to
            if value.name in ("torch.Size", "builtins.set") and len(value.args) == 1:
                items = self._simple(value.args[0], where, depth + 1)
                flat = type(items) in (list, tuple)
                if value.name == "torch.Size" and flat and all(type(n) is int for n in items):
                    return torch.Size(items)
                if value.name == "builtins.set" and flat and all(type(n) is str for n in items):
                    return set(items)
        raise RefusedError(f"refused: {show(where)} is not a plain value{_asked(value)}")

    def _count(self, number: int, where: str) -> None:
        self._values += number
        if self._values > MAX_VALUES:
            raise RefusedError(f"refused: more than {MAX_VALUES} values, at {show(where)}")


def _class_and_state(made: object, where: str) -> tuple[type[nn.Module], Table]:
    if not isinstance(made, Made) or made.name not in LAYERS:
        raise RefusedError(f"refused: {show(where)} is no stock layer{_asked(made)}")
    if made.called or made.args != ():
        raise RefusedError(
            f"refused: {show(where)} would call {show(made.name)} with arguments of the file's "
            "choice; torch.save never does"
        )
    if type(made.state) is not Table:
        raise LoadError(f"{show(where)} is damaged: {show(made.name)} has no state")
    return LAYERS[made.name], made.state


def _check_name(cls: type[nn.Module], name: object, where: str) -> None:
    if type(name) is not str:
        raise RefusedError(f"refused: {show(where)} has an attribute whose name is no text")
    # Found in the instance first, it would be run in place of the class's own.
    if hasattr(cls, name):
        what = "a method" if callable(getattr(cls, name)) else "an attribute of the class"
        raise RefusedError(
            f"refused: attribute '{show(name)}' of {show(where)} would replace {what}; pass "
            "--model pkg.module:factory to build the model, with the file for its weights"
        )
    if name.startswith("__"):
        raise RefusedError(f"refused: {show(where)} has an attribute named '{show(name)}'")


def _check_no_hooks(key: str, value: object, where: str) -> None:
    # A flag that stays behind when the last backward hook is removed.
    flag = key == "_is_full_backward_hook" and type(value) is bool
    if value is None or flag or (type(value) is Table and not value and value.state is None):
        return
    raise RefusedError(
        f"refused: {show(where)} carries hooks in {show(key)}, which are code; "
        "remove them before saving"
    )


def _names(value: object, buffers: set[str], where: str) -> set[str]:
    names: Any = []
    if isinstance(value, Made) and value.name == "builtins.set" and type(value.args) is tuple:
        names = value.args[0] if len(value.args) == 1 else []
    if type(names) is not list or any(type(n) is not str or n not in buffers for n in names):
        raise RefusedError(f"refused: {show(where)} lists buffers that it does not have")
    return set(names)


def _set_state(module: nn.Module, state: dict[str, Any], where: str) -> None:
    """Let the stock class take the checked state; it fills in what older torch left out."""
    try:
        finish_recurrent(module, state, where)
        # Not `setattr`: the state is checked, and modules treat assignment as registration.
        module.__setstate__(state)  # type: ignore[no-untyped-call]
    except _SETSTATE_ERRORS as error:
        raise LoadError(f"{show(where)} is damaged: {show(error)}") from error


def _asked(value: object) -> str:
    return f" (it asks for {show(value.name)})" if isinstance(value, Made | Ref) else ""
