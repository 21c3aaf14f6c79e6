"""The layer from which on numbers are not finite."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from isometry.jacobian.function import PureFunction
from isometry.jacobian.modules import names


def where_not_finite(model: Callable[..., object], f: PureFunction, x: Tensor) -> str:
    """Say at which layer outputs, or else derivatives, cease to be finite.

    Parameters
    ----------
    model : Module or callable
        The network whose layers are named.
    f, x : callable, Tensor
        One pass of it, inside an open measurement context.

    Returns
    -------
    str
        To be put into a message; empty where no layer can be named.
    """
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(_m: nn.Module, _a: object, out: object) -> None:
            if isinstance(out, Tensor) and out.is_floating_point():
                seen.append((name, out))

        return hook

    try:
        with ExitStack() as hooks:
            for name, module in names(model).items():
                if name and next(module.children(), None) is None:
                    hooks.callback(module.register_forward_hook(note(name)).remove)
            y = f(x.detach().requires_grad_())
        for name, out in seen:
            if not torch.isfinite(out).all():
                return f", first in the output of {name!r}"
        gradients = torch.autograd.grad(y.sum(), [t for _, t in seen], allow_unused=True)
    except Exception:  # whatever stops PyTorch here, the message does without the name
        return ""
    bad = [i for i, g in enumerate(gradients) if g is not None and not torch.isfinite(g).all()]
    last = bad[-1] if bad else -1
    if last + 1 >= len(seen):
        return f", behind the output of {seen[last][0]!r}" if bad else ""
    before = f"the outputs of {seen[last][0]!r} and" if bad else "the input and the output of"
    return f", between {before} {seen[last + 1][0]!r}"
