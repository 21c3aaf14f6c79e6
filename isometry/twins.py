"""Twins of a network: the same singular values in every weight, their directions drawn anew."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from isometry.errors import InputError
from isometry.init.draw import haar
from isometry.jacobian.products import first_line

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_LARGEST = 4096  # side of a weight: a larger rotation would take minutes to draw


def twin(model: object, seed: int) -> nn.Module:
    r"""Return a copy of a network whose weights are turned at random.

    Every weight W becomes U W V with U and V uniform on the orthogonal groups, and of a kernel
    every offset with the same two, so that all singular values stay. Where weights were drawn
    Gaussian or orthogonal this is drawing them again, given their singular values; where they
    were trained, it is the network that chance would make of the same weights.

    Parameters
    ----------
    model : torch.nn.Module
        It is left as it is. Parametrised weights are plain ones in the copy. Embeddings, vectors,
        and sides of more than 4096 are not turned.
    seed : int

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        If it is no module, or cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"band turns the weights of a module, and a {type(model).__name__} shows none: give a "
            "torch.nn.Module"
        )
    try:
        other = copy.deepcopy(model)
    except Exception as e:  # whatever the attributes of the user's modules raise
        raise InputError(
            f"band needs copies of the network, and it cannot be copied: {first_line(e)}"
        ) from e
    g = torch.Generator(device="cpu").manual_seed(seed)
    with torch.no_grad():
        for m in other.modules():
            _make_plain(m)
        for weight, shape in _weights(other):
            turned = _turned(weight.double().reshape(shape), g)
            weight.copy_(turned.reshape(weight.shape))
    return other


def _make_plain(m: nn.Module) -> None:
    """Let weights that are computed from others be themselves, as they are now."""
    if parametrize.is_parametrized(m):
        # PyTorch's own way to remove them would change the class, which the original shares.
        computed: Any = m._modules.pop("parametrizations")
        m.__class__ = type(m).__bases__[0]
        for name, weight in computed.eval().items():
            m.register_parameter(name, nn.Parameter(weight()))
    for hook in list(m._forward_pre_hooks.values()):
        if isinstance(hook, SpectralNorm):
            remove_spectral_norm(m, hook.name)
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(m, hook.name)


def _weights(model: nn.Module) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Yield each weight once, and its shape as groups of kernels: (groups, out, in, offsets)."""
    seen = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    for m in model.modules():
        for p in m._parameters.values():
            if p is None or id(p) in seen or p.ndim < 2 or not p.is_floating_point():
                continue
            seen.add(id(p))
            if isinstance(m, _CONVOLUTIONS):
                yield p, (m.groups, p.shape[0] // m.groups, p.shape[1], p.shape[2:].numel())
            else:  # of a stack, each matrix by itself
                yield p, (p.shape[:-2].numel(), *p.shape[-2:], 1)


def _turned(blocks: Tensor, g: torch.Generator) -> Tensor:
    left, right = (_rotations(len(blocks), n, g).to(blocks) for n in blocks.shape[1:3])
    turned: Tensor = torch.einsum("gab,gbco,gcd->gado", left, blocks, right)
    return turned


def _rotations(count: int, n: int, g: torch.Generator) -> Tensor:
    """Return orthogonal matrices, uniform by the Haar measure."""
    if n > _LARGEST:
        return torch.eye(n, dtype=torch.float64).expand(count, n, n)
    return haar((count, n, n), torch.empty(0, dtype=torch.float64), g)
