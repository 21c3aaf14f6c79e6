"""The meaning of a case, spelled out naively: one function of one floating tensor."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import Case
from tests.zoo.reference import AllInDouble


def plain(case: Case) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return (f, x): what the operator is to differentiate, and where; both in float64.

    Each call of f starts from the same random state and the same buffers; where a case says
    that its network computes in float32 inside, f does so in float64.
    """
    network, run, x = _function(case)

    def value(t: Tensor) -> Tensor:
        with AllInDouble() if case.tolerance > 1e-6 else contextlib.nullcontext():
            return run(t.clone())

    return _still(network, value), x


def bare(case: Case) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return (f, x) as users write it: the network called on what comes, from a known seed."""
    _, run, x = _function(case)
    torch.manual_seed(0)
    return run, x


def _function(case: Case) -> tuple[Any, Callable[[Tensor], Tensor], Tensor]:
    network, inputs = case.build(torch.float64)
    if hasattr(network, "set_experts_implementation"):
        network.set_experts_implementation("eager")  # the fused one has no float64
    args, kwargs = arguments(inputs)
    where = _where(network, args, kwargs, case.options.get("wrt"))
    pick = case.options.get("output")
    if where is None:
        layer, x = _embedded(network, args, kwargs)

        def run(t: Tensor) -> Any:
            handle = layer.register_forward_hook(lambda *_: t)
            try:
                return network(*args, **kwargs)
            finally:
                handle.remove()
    else:
        x = args[where] if isinstance(where, int) else kwargs[where]

        def run(t: Tensor) -> Any:
            if isinstance(where, int):
                return network(*args[:where], t, *args[where + 1 :], **kwargs)
            return network(*args, **{**kwargs, where: t})

    return network, lambda t: selected(run(t), pick), x.detach().double()


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Split inputs into positional and keyword arguments."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def selected(y: Any, key: Any = None) -> Tensor:
    """Return one tensor of an output: by key, index or dotted path, else the usual one."""
    if key is not None:
        for step in str(key).split("."):
            y = _member(y, step)
        return y
    if isinstance(y, Tensor):
        return y
    for name in ("logits", "last_hidden_state"):
        if isinstance(y, Mapping) and name in y:
            return y[name]
        if isinstance(getattr(y, name, None), Tensor):
            return getattr(y, name)
    return next(t for t in _leaves(y) if t.is_floating_point())


def _member(y: Any, step: str) -> Any:
    if isinstance(y, Mapping) and step in y:
        return y[step]
    if step.lstrip("-").isdigit():
        return y[int(step)]
    return getattr(y, step)


def _leaves(y: Any) -> list[Tensor]:
    if isinstance(y, Tensor):
        return [y]
    if isinstance(y, Mapping):
        y = tuple(y.values())
    elif dataclasses.is_dataclass(y):
        y = tuple(getattr(y, f.name) for f in dataclasses.fields(y))
    return [t for v in y for t in _leaves(v)] if isinstance(y, (tuple, list)) else []


def _where(network: Any, args: tuple, kwargs: dict, wrt: str | None) -> int | str | None:
    """Position or name of the argument to differentiate; None means the embedding."""
    if wrt is None:
        floats = [k for k, v in (*enumerate(args), *kwargs.items()) if _floating(v)]
        return floats[0] if floats else None
    if wrt in kwargs:
        return wrt if _floating(kwargs[wrt]) else None
    if wrt.isdigit():
        return int(wrt)
    forward = network.forward if isinstance(network, nn.Module) else network
    return list(inspect.signature(forward).parameters).index(wrt)


def _floating(v: Any) -> bool:
    return isinstance(v, Tensor) and v.is_floating_point()


def _embedded(network: Any, args: tuple, kwargs: dict) -> tuple[nn.Module, Tensor]:
    """Return the embedding that is called first, with its output."""
    seen: list[tuple[nn.Module, Tensor]] = []
    layers = [m for m in network.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
    handles = [m.register_forward_hook(lambda m, a, out: seen.append((m, out))) for m in layers]
    network(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return seen[0]


def _still(network: Any, f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if not isinstance(network, nn.Module):
        return f
    buffers = {k: b.clone() for k, b in network.named_buffers()}

    def same_every_time(x: Tensor) -> Tensor:
        with torch.no_grad():
            for k, b in network.named_buffers():
                b.copy_(buffers[k])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return f(x)

    return same_every_time
