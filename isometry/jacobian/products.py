"""Blocks of Jacobian products by automatic differentiation.

With f: ℝⁿ → ℝᵐ (any tensor shapes) at x, a *pull* maps a block U of k cotangents to the
rows UᵀJ, a *push* maps a block V of k tangents to the columns J V. Both carry the block in
the first dimension. `torch.func.linearize` is not used: it returns wrong products from its
second call on for several architectures (recurrent networks among them).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from isometry.jacobian.function import PureFunction, call

Block = Callable[[Tensor], Tensor]


def pull(f: PureFunction, x: Tensor) -> tuple[Tensor, Block]:
    """Reverse mode: f(x), at the cost of one forward pass, and the map of cotangent blocks.

    Always through `vmap`, also for a block of one: the plain pullback returns wrong
    values through batch norm at batch size 1 when its output is flattened and transposed.
    """
    y, pullback = vjp(lambda point: call(f, point), x)[:2]
    return y, lambda u: vmap(lambda one: pullback(one)[0])(u)


def push(f: PureFunction, x: Tensor) -> Block:
    """Forward mode: the primal is computed once per block, tangents are batched."""
    _load_forward_rules()
    return lambda v: vmap(lambda one: jvp(f, (x,), (one,))[1])(v)


def push_by_reverse(f: PureFunction, x: Tensor) -> Block:
    """Forward products by differentiating the pullback, where forward mode has no rule.

    The pullback u ↦ Jᵀu is linear, so the pullback *of the pullback* at any u is v ↦ J v.
    A random u is used because some second derivatives are NaN at u = 0.
    """
    y = f(x)
    g = torch.Generator(device="cpu").manual_seed(0)
    u = torch.randn(y.shape, generator=g, dtype=torch.float64, device="cpu").to(y)
    second = vjp(lambda w: vjp(f, x)[1](w)[0], u)[1]
    return lambda v: vmap(lambda one: second(one)[0])(v)


@functools.cache
def _load_forward_rules() -> None:
    # At its first forward-mode product PyTorch imports rules of its own that use a deprecated
    # function; where warnings are errors that would look like a network without such rules.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        one = torch.ones((), device="cpu")
        jvp(torch.neg, (one,), (one,))
