"""What a network is made of, as far as its modules tell."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

Array = NDArray[np.float64]

_WEIGHTS = (
    nn.Linear,
    nn.Bilinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_SOFTMAX = (nn.Softmax, nn.Softmax2d, nn.Softmin)
# f(c x) = c f(x) for c > 0: what a chain of these multiplies its weights by, its gain takes over.
_HOMOGENEOUS = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
# In evaluation mode these pass values through unchanged.
_TRANSPARENT = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.AlphaDropout)


@dataclass(frozen=True)
class Chain:
    """A plain chain: weight matrices with one activation between them.

    Attributes
    ----------
    weights : tuple of ndarray, each (n_out, n_in), float64
        In the order in which they act on the input.
    biases : tuple of ndarray
        Of those layers that have one.
    activation : str or None
        Class name of the activation, None for a linear network.
    activations : int
        How often the activation occurs.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: str | None
    activations: int


@dataclass(frozen=True)
class Anatomy:
    """What the modules tell: layers, activations, and the plain chain if it is one.

    Attributes
    ----------
    kinds : tuple of str
        The stock class of every weight layer, as `torch.nn` calls it, in registration order.
    rescalable : bool
        Whether the gain is proportional to the product of their scales, biases apart: one chain
        of them and of layers that double their output with their input.
    activations : tuple of str
        Distinct class names of activations, in registration order.
    chain : Chain or None
    why_not_chain : str
        The reason when `chain` is None, else empty.
    softmax : bool
        Whether there is a softmax, which shrinks whatever the weights are.
    untouched : bool
        Whether running statistics of a normalisation are 0 and 1, as they were made.
    """

    kinds: tuple[str, ...]
    rescalable: bool
    activations: tuple[str, ...]
    chain: Chain | None
    why_not_chain: str
    softmax: bool = False
    untouched: bool = False


def read(model: object) -> Anatomy:
    """Read a network's modules; a callable that is not a module has none."""
    if not isinstance(model, nn.Module):
        return Anatomy((), False, (), None, "a function, not a module, was given")
    layers = [m for m in model.modules() if isinstance(m, _WEIGHTS)]
    kinds = tuple(next(k.__name__ for k in _WEIGHTS if isinstance(m, k)) for m in layers)
    activations = dict.fromkeys(type(m).__name__ for m in model.modules() if is_activation(m))
    chain, why = _read_chain(model)
    softmax = any(isinstance(m, _SOFTMAX) for m in model.modules())
    untouched = any(map(_is_untouched, model.modules()))
    return Anatomy(kinds, _is_rescalable(model), tuple(activations), chain, why, softmax, untouched)


def _is_rescalable(model: nn.Module) -> bool:
    layers = _flat(model)
    weights = [layer for layer in layers if _is_plain(layer)]
    others = [layer for layer in layers if isinstance(layer, (*_HOMOGENEOUS, *_TRANSPARENT))]
    every = len(set(weights)) + len(others) == len(layers)  # and no weight acts twice
    return every and not _is_hooked(model)


def _is_untouched(m: nn.Module) -> bool:
    """Whether a layer would normalise by running statistics, and has seen no batch yet."""
    mean, variance = getattr(m, "running_mean", None), getattr(m, "running_var", None)
    if not isinstance(m, _NormBase) or mean is None or variance is None:
        return False
    return not mean.any() and bool((variance == 1).all())


def _is_hooked(model: nn.Module) -> bool:
    return any(
        m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in model.modules()
    )


def is_activation(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's elementwise activations."""
    return type(module).__module__ == "torch.nn.modules.activation" and not isinstance(
        module, (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU)
    )


def _read_chain(model: nn.Module) -> tuple[Chain | None, str]:
    if _is_hooked(model):
        return None, "hooks or a replaced forward may change what its layers do"
    layers = [layer for layer in _flat(model) if not isinstance(layer, _TRANSPARENT)]
    names = [type(layer).__name__ for layer in layers if is_activation(layer)]
    for layer in layers:
        if not ((isinstance(layer, nn.Linear) and _is_plain(layer)) or is_activation(layer)):
            kind = type(layer).__name__
            return None, f"it holds {_with_article(kind)}, beyond plain chains of Linear layers"
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if not linear:
        return None, "it has no Linear layer"
    if len(set(linear)) < len(linear):
        return None, "a layer occurs in it more than once"
    if len(set(names)) > 1:
        return None, f"its activations differ: {', '.join(sorted(set(names)))}"
    if names:
        # Linear, activation, Linear, activation, …, with or without one at the end.
        alternating = [is_activation(layer) for layer in layers]
        if alternating != [i % 2 == 1 for i in range(len(layers))]:
            return None, "weights and activations do not alternate"
    weights = tuple(_numpy(layer.weight) for layer in linear)
    biases = tuple(_numpy(layer.bias) for layer in linear if layer.bias is not None)
    return Chain(weights, biases, names[0] if names else None, len(names)), ""


def _with_article(name: str) -> str:
    """Put "a" or "an" before the name of a class: an Embedding, an LSTM, a UNet."""
    vowel = re.match("[AEIO]|U[a-z]|[FHLMNRSX][A-Z]", name)
    return f"{'an' if vowel else 'a'} {name}"


def _is_plain(layer: nn.Module) -> bool:
    """Whether a weight layer does what its stock class does, with a weight of its own."""
    stock = any(isinstance(layer, k) and type(layer).forward is k.forward for k in _WEIGHTS)
    return stock and "weight" in layer._parameters


def _flat(module: nn.Module) -> list[nn.Module]:
    """Unfold nested `nn.Sequential` containers, which run their children in order."""
    if type(module) is not nn.Sequential:
        return [module]
    return [layer for child in module for layer in _flat(child)]


def _numpy(t: Tensor) -> Array:
    return np.asarray(t.detach().to("cpu", torch.float64).numpy())
