"""Which modules a network can reach, and what is inside its wrappers."""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
import types
from collections.abc import Callable, Iterable

import torch
from torch import nn

from isometry.errors import InputError

TABLES = frozenset(vars(nn.Module()))  # PyTorch's own attributes of every module
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
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    return model


def names(model: Callable[..., object]) -> dict[str, nn.Module]:
    """Return the submodules by name; none for a function."""
    return dict(model.named_modules()) if isinstance(model, nn.Module) else {}


def named(model: Callable[..., object], name: str) -> nn.Module:
    """Return the submodule of that name; names the nearest ones where there is none."""
    known = names(model)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[1:4]
    listed = ", ".join(map(repr, near)) or "none: it is a function, not a module"
    raise InputError(f"the network has no layer named {name!r}; near it: {listed}")


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
        pending += [(inner, depth + 1) for inner in _parts(part)]
    return tuple(found)


def _parts(whole: object) -> Iterable[object]:
    if isinstance(whole, nn.Module):
        if isinstance(whole, torch.jit.ScriptModule):
            return whole.children()
        own = (v for k, v in vars(whole).items() if k not in TABLES)
        return [*whole._modules.values(), *(v for v in own if isinstance(v, (list, tuple, dict)))]
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
    attributes = getattr(whole, "__dict__", {}).values()
    if not inspect.isfunction(whole):
        return list(attributes)
    names = inspect.getclosurevars(whole)
    defaults = (*(whole.__defaults__ or ()), *(whole.__kwdefaults__ or {}).values())
    return [*attributes, *names.nonlocals.values(), *names.globals.values(), *defaults]
