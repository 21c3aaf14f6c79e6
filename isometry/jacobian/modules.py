"""Which modules a network can reach, and what is inside its wrappers."""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from isometry.errors import InputError

_TABLES = frozenset(vars(nn.Module()))  # PyTorch's own attributes of every module
# Layers whose forward is one known operation: it keeps, draws and switches nothing. Without
# Mish, whose backward PyTorch does not batch.
_PLAIN = {
    *(nn.Sequential, nn.Identity, nn.Flatten, nn.Unflatten, nn.Linear),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Tanh, nn.Hardtanh, nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign),
    *(nn.Softmax, nn.LogSoftmax),
}
# Methods of theirs, which an attribute of the same name would replace.
_METHODS = {
    kind: {n for base in kind.__mro__ for n, v in vars(base).items() if callable(v)}
    for kind in _PLAIN
}
_FORWARD = {"forward"}
_ATOMS = {int, float, bool, str, type(None)}  # nothing is inside
_FARTHEST = 4  # containers and closures between a function and its modules
_MOST = 1000  # items looked at in one container, which may be a data set


def unwrap(model: Callable[..., object]) -> Callable[..., object]:
    """Return the module inside compiled and data-parallel wrappers.

    A compiled module does not support double backward and a data-parallel one scatters
    its input; neither changes the function that is measured.
    """
    if isinstance(model, type):
        raise InputError(f"expected a network, got the class {model.__name__}: call it first")
    if not callable(model):
        raise InputError(f"expected a module or a function, got {type(model).__name__}")
    while isinstance(model, nn.Module):
        if type(model).__module__.startswith("torch._dynamo"):
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    return model


def names(model: Callable[..., object]) -> dict[str, nn.Module]:
    """Return the submodules by name; none for a function."""
    if not isinstance(model, nn.Module):
        return {}
    return dict(model.named_modules(remove_duplicate=False))  # a shared layer has two names


def named(model: Callable[..., object], name: str) -> nn.Module:
    """Return the submodule of that name; names the nearest ones where there is none."""
    known = names(model)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[1:4]
    listed = (
        f"near it: {', '.join(map(repr, near))}"
        if near
        else "it has no layers with names; leave --start and --stop out"
    )
    raise InputError(f"the network has no layer named {name!r}; {listed}")


def own_attributes(module: nn.Module) -> dict[str, object]:
    """Return what a module keeps as plain attributes, beside PyTorch's own tables."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}
    return {name: value for name, value in vars(module).items() if name not in _TABLES}


def all_plain(modules: Sequence[nn.Module]) -> bool:
    """Whether every module is one of PyTorch's plain layers, with nothing added to it."""
    kinds = set(map(type, modules))
    return kinds <= _PLAIN and not (_patched(kinds) or any(map(_altered, modules)))


def all_stock(modules: Sequence[nn.Module]) -> bool:
    """Whether no code runs in the modules but PyTorch's own."""
    if all_plain(modules):
        return True
    kinds = set(map(type, modules))
    if not all(k.__module__.startswith("torch.nn.modules.") for k in kinds):
        return False
    own = [v for m in modules for v in own_attributes(m).values()]
    altered = _patched(kinds) or any(map(_altered, modules))
    return not altered and all(_is_stock(v) for v in own if callable(v))


def _is_stock(part: object) -> bool:
    return (getattr(part, "__module__", None) or "").split(".")[0] in ("torch", "")


def _patched(kinds: set[type[nn.Module]]) -> bool:
    """Whether the classes run code of somebody else's: a new forward, or hooks on every module."""
    known: Any = torch.nn.modules.module
    return known._has_any_global_hook() or not all(_is_stock(k.forward) for k in kinds)


def _altered(m: nn.Module) -> bool:
    return bool(
        m._forward_hooks
        or m._forward_pre_hooks
        or m._backward_hooks
        or m._backward_pre_hooks
        or m._compiled_call_impl
        or not _METHODS.get(type(m), _FORWARD).isdisjoint(vars(m))
    )


def modules_of(model: Callable[..., object]) -> tuple[nn.Module, ...]:
    """Return all modules that a network can reach, also through lists, closures and arguments.

    For a module these are its submodules and those it keeps in plain containers; for a function,
    what it closes over, is bound to, has as defaults or names globally.
    """
    found: dict[nn.Module, None] = {}
    seen: set[int] = set()
    pending: list[tuple[object, int]] = [(model, 0)]
    while pending:
        part, depth = pending.pop()
        if id(part) in seen or depth > _FARTHEST:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            found[part] = None
            depth = -1
        pending += [(inner, depth + 1) for inner in _parts(part) if type(inner) not in _ATOMS]
    return tuple(found)


def _parts(whole: object) -> Iterable[object]:
    if isinstance(whole, nn.Module):
        if isinstance(whole, torch.jit.ScriptModule):
            return whole.children()
        return [*whole._modules.values(), *own_attributes(whole).values()]
    if isinstance(whole, dict):
        return list(itertools.islice(whole.values(), _MOST))
    if isinstance(whole, (list, tuple, set)):
        return list(itertools.islice(whole, _MOST))
    if isinstance(whole, functools.partial):
        return [whole.func, *whole.args, *whole.keywords.values()]
    if isinstance(whole, (type, types.ModuleType, torch.Tensor)):
        return []
    if inspect.ismethod(whole):
        return [whole.__self__, whole.__func__]
    attributes = list(itertools.islice(getattr(whole, "__dict__", {}).values(), _MOST))
    if not inspect.isfunction(whole):
        call = inspect.getattr_static(type(whole), "__call__", None)
        return [*attributes, call] if inspect.isfunction(call) else attributes
    named = [whole.__globals__[n] for n in _names_in(whole.__code__) if n in whole.__globals__]
    defaults = (*(whole.__defaults__ or ()), *(whole.__kwdefaults__ or {}).values())
    return [*attributes, *inspect.getclosurevars(whole).nonlocals.values(), *named, *defaults]


def _names_in(code: types.CodeType) -> set[str]:
    """Return the global names that a function uses, those of its comprehensions among them."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return {*code.co_names}.union(*map(_names_in, inner))
