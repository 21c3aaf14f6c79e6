"""Which modules a network can reach, and what is inside its wrappers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from isometry.errors import InputError
from isometry.jacobian.reach import OWN_TABLES, Modules, Reach

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
        if not hasattr(model, "_modules"):
            raise InputError(
                f"{type(model).__name__} is no whole module: its __init__ must begin with "
                "super().__init__()"
            )
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
    return {name: value for name, value in vars(module).items() if name not in OWN_TABLES}


def all_plain(modules: Sequence[nn.Module]) -> bool:
    """Whether every module is one of PyTorch's plain layers, with nothing added to it."""
    kinds = set(map(type, modules))
    return kinds <= _PLAIN and not (_patched(kinds) or any(map(_altered, modules)))


def all_stock(modules: Sequence[nn.Module]) -> bool:
    """Whether no code runs in the modules, or around them, but PyTorch's own."""
    if isinstance(modules, Modules) and not isinstance(modules.network, nn.Module):
        return False
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
    """Return all modules that a network can reach, also through containers, closures and hooks."""
    known: Any = model
    if type(model) in _PLAIN and all_plain(found := Modules(known.modules())):
        complete = True  # no code runs that could reach others
    else:
        reach = Reach(model)
        found, complete = Modules(reach.modules), reach.complete
    found.network, found.complete = model, complete
    return found
