"""Dropout with one mask: the same in every forward pass and under every transform.

PyTorch draws different masks for the same seed in plain autograd and under `torch.func`, so
that two products with one Jacobian would belong to two different networks. Here every pass
starts from the same seed, and the dropout functions draw their masks in one way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from isometry.jacobian.undo import Undo

MASK_SEED = 0

# The mean and the scale of SELU's saturation, that alpha dropout replaces units by.
_SATURATION = -1.7580993408473766


def one_mask(undo: Undo) -> None:
    """Let every forward pass draw the same random numbers, until that is undone.

    Global functions are exchanged: call it only while nobody else measures. Layers that draw
    inside compiled kernels (dropout between the layers of an `nn.LSTM`) are not reached; the
    self-check finds them.
    """
    for name, replacement in _REPLACED.items():
        undo.set(F, name, replacement)


def restart() -> None:
    """Start all random generators afresh; called at the beginning of each forward pass."""
    random.seed(MASK_SEED)
    np.random.seed(MASK_SEED)
    torch.manual_seed(MASK_SEED)


def _kept(shape: torch.Size, like: Tensor, p: float) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p)


def _written(x: Tensor, out: Tensor, inplace: bool) -> Tensor:
    return x.copy_(out) if inplace else out


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or p == 0:
        return x
    return _written(x, x * (_kept(x.shape, x, p) / max(1 - p, 1e-300)), inplace)


def _channels(spatial: int) -> Callable[..., Tensor]:
    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        # Of three dimensions, dropout2d takes the last alone as spatial.
        last = 1 if (spatial, x.ndim) == (2, 3) else spatial
        shape = torch.Size([*x.shape[: x.ndim - last], *[1] * last])
        return _written(x, x * (_kept(shape, x, p) / max(1 - p, 1e-300)), inplace)

    return dropout


def _alpha(whole_channels: bool) -> Callable[..., Tensor]:
    def dropout(x: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        shape = x.shape
        if whole_channels:
            shape = torch.Size([*x.shape[:2], *[1] * (x.ndim - 2)])
        if p == 1:
            return _written(x, x * 0, inplace)
        kept = _kept(shape, x, p)
        a = ((1 - p) * (1 + p * _SATURATION**2)) ** -0.5
        out = a * (x * kept + _SATURATION * (1 - kept)) - a * p * _SATURATION
        return _written(x, out, inplace)

    return dropout


def _rrelu(
    x: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    slope: Any = (lower + upper) / 2
    if training:
        slope = torch.empty(x.shape, dtype=x.dtype, device=x.device).uniform_(lower, upper)
    return _written(x, torch.where(x >= 0, x, x * slope), inplace)


_attention = F.scaled_dot_product_attention


def _attention_with_dropout(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    if dropout_p == 0:
        return _attention(query, key, value, attn_mask, 0.0, is_causal, **options)
    scale = options.get("scale") or query.shape[-1] ** -0.5
    if options.get("enable_gqa"):
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
    scores = query @ key.transpose(-2, -1) * scale
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    nothing = (scores == float("-inf")).all(-1, keepdim=True)  # attended to: a row of zeros
    weights = scores.masked_fill(nothing, 0).softmax(-1).masked_fill(nothing, 0)
    return _dropout(weights, dropout_p) @ value


_REPLACED: dict[str, Callable[..., Tensor]] = {
    "dropout": _dropout,
    "dropout1d": _channels(1),
    "dropout2d": _channels(2),
    "dropout3d": _channels(3),
    "alpha_dropout": _alpha(False),
    "feature_alpha_dropout": _alpha(True),
    "rrelu": _rrelu,
    "scaled_dot_product_attention": _attention_with_dropout,
}
