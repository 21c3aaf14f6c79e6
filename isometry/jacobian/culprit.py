"""The layer from which on numbers are not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from isometry.jacobian.function import PureFunction
from isometry.jacobian.kept import hooks_kept
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
    try:
        return _traced(model, f, x.detach().requires_grad_())
    except (Exception, SystemExit):  # whatever stops it, the message does without the name
        return ""


def _traced(model: Callable[..., object], f: PureFunction, x: Tensor) -> str:
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(_m: nn.Module, _a: object, out: object) -> None:
            if isinstance(out, Tensor) and out.is_floating_point():
                seen.append((repr(name), out))

        return hook

    leaves = {
        name: module
        for name, module in names(model).items()
        if name and next(module.children(), None) is None
    }
    with hooks_kept(leaves.values()):
        for name, module in leaves.items():
            module.register_forward_hook(note(name))
        y = f(x)
    for name, out in seen:
        if not torch.isfinite(out).all():
            return f", first in the output of {name}"
    tensors = [x, *(out for _, out in seen)]
    gradients = torch.autograd.grad(y.sum(), tensors, allow_unused=True)
    return _between([name for name, _ in seen], gradients)


def _between(layers: list[str], gradients: Sequence[Tensor | None]) -> str:
    """Name the layers around the last gradient that is not finite; the first is the input's."""
    bad = [i for i, g in enumerate(gradients) if g is not None and not torch.isfinite(g).all()]
    if not (bad and layers):
        return ""
    last = bad[-1]
    if last == len(layers):
        return f", behind the output of {layers[-1]}"
    if last == 0:
        return f", between the input and the output of {layers[0]}"
    return f", between the outputs of {layers[last - 1]} and {layers[last]}"
