"""Scales that are measured on data."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from isometry.errors import InputError
from isometry.init import options
from isometry.init.layout import LAYERS
from isometry.init.target import checked, write

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]


def lsuv_(
    model: nn.Module,
    x: Any,
    *,
    variance: float = 1.0,
    layers: Iterable[str] | None = None,
) -> dict[str, float]:
    r"""Scale each linear layer and convolution until its output has the variance wanted.

        W \to s W,    Var(s W x + b) = variance,

    with s solved for exactly, layer by layer in the order in which they run, inputs being those
    that the layers scaled before give: one forward pass for all of them. The variance is over
    all entries of the output. Draw weights before, `orthogonal_` as in the paper. A layer that
    runs several times is scaled once, at its first call.

    Unit variance is not criticality: deep networks of a curved activation want `gain` and its q*.

    Parameters
    ----------
    model : torch.nn.Module
        It runs in evaluation mode. Buffers, flags and everything but the weights are left as
        they are.
    x : Tensor, tuple or mapping
        A batch of real inputs, or the positional, or the named, arguments of forward.
    variance : float
        Of every layer's output, > 0, biases included.
    layers : iterable of str, optional
        Names of the layers to scale; by default all that are linear layers or convolutions.

    Returns
    -------
    dict of str to float
        The factor s of each layer by its name, in the order in which they ran. Those that did
        not run are not among them, and unchanged.

    Raises
    ------
    InputError
        If a layer is frozen, shared, parametrised or quantised, its output does not vary or
        biases alone vary more than is wanted, or the network raises; all weights are then
        unchanged.

    References
    ----------
    Mishkin & Matas 2016, "All you need is a good init".

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32))
    >>> list(lsuv_(model, torch.randn(64, 8), variance=2.0))
    ['0', '2']
    """
    wanted = options.positive("variance", variance)
    chosen = _chosen(model, layers)
    before = {name: layer.weight.detach().clone() for name, layer in chosen.items()}
    factors: dict[str, float] = {}
    try:
        with _hooked(chosen, wanted, factors), _evaluating(model), torch.no_grad():
            _run(model, x)
        if not factors:
            raise InputError("no linear layer or convolution ran; nothing was scaled")
    except BaseException:
        for name in factors:
            write(chosen[name].weight, before[name])
        raise
    return factors


def _chosen(model: nn.Module, layers: Iterable[str] | None) -> dict[str, Any]:
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}; expected a torch.nn.Module")
    known = {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}
    names = list(known) if layers is None else list(layers)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1) or list(known)[:3]
            raise InputError(f"no linear layer or convolution is called {name!r}; there is {near}")
    uses = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    for name in names:
        trouble = _trouble(known[name], uses)
        if trouble:
            raise InputError(f"layer {name!r} {trouble}; name those to scale: layers=[...]")
    return {name: known[name] for name in names}


def _trouble(layer: nn.Module, uses: Counter[int]) -> str:
    weight = layer._parameters.get("weight")
    if weight is None or parametrize.is_parametrized(layer):
        return "is parametrised: its weight is computed from others"
    try:
        checked(weight)
    except InputError as e:
        return f"cannot be scaled: {e}"
    if weight.is_meta:
        return "has a weight without values (meta)"
    if not weight.requires_grad:
        return "is frozen"
    return "shares its weight with another" if uses[id(weight)] > 1 else ""


@contextlib.contextmanager
def _hooked(chosen: dict[str, Any], wanted: float, factors: dict[str, float]) -> Iterator[None]:
    hooks = [m.register_forward_hook(_scaling(n, wanted, factors)) for n, m in chosen.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _scaling(name: str, wanted: float, factors: dict[str, float]) -> Hook:
    """Return a hook that scales a layer's weight, and what it has just given with it."""

    def hook(layer: Any, arguments: Any, output: Tensor) -> Tensor | None:
        if name in factors:
            return None
        channel = 1 - layer.weight.ndim
        bias = output.new_zeros(output.shape[channel]) if layer.bias is None else layer.bias
        along = bias.reshape(-1, *(1 for _ in layer.weight.shape[2:]))
        signal = (output - along).to(torch.promote_types(output.dtype, torch.float32))
        factor = factors[name] = _factor(name, signal.movedim(channel, 0), bias, wanted)
        write(layer.weight, factor * layer.weight)
        return torch.add(factor * signal, along).to(output.dtype)

    return hook


def _factor(name: str, signal: Tensor, bias: Tensor, wanted: float) -> float:
    """Return the s > 0 with Var(s · signal + bias) as wanted, channels first."""
    own, fixed = float(signal.var(correction=0)), float(bias.double().cpu().var(correction=0))
    means = signal.flatten(1).mean(1).double().cpu()
    cross = float(((means - means.mean()) * bias.double().cpu()).mean())
    if not (math.isfinite(own) and own > 0.0):
        raise InputError(f"the output of layer {name!r} has variance {own:g}: nothing to scale")
    if fixed >= wanted:
        raise InputError(
            f"the bias of layer {name!r} alone has variance {fixed:.4g}; expected less than the "
            f"{wanted:g} wanted: biases_(layer.bias, 0)"
        )
    return (math.sqrt(cross**2 + own * (wanted - fixed)) - cross) / own


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


def _run(model: nn.Module, x: Any) -> None:
    try:
        if isinstance(x, Mapping):
            model(**x)
        else:
            model(*(x if isinstance(x, tuple) else (x,)))
    except InputError:
        raise
    except Exception as e:  # whatever the user's network raises
        line = (str(e).strip() or "no message").splitlines()[0]
        raise InputError(f"the network raised {type(e).__name__}: {line}") from e
