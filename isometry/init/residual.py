"""Scales that let the branches of a residual network begin small."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from isometry.errors import InputError
from isometry.init import options
from isometry.init.target import checked, rounded_as, write


def depth_scaled_(weight: Tensor, blocks: int) -> Tensor:
    r"""Divide the last weight of a residual branch by √L.

    Blocks x + F(x) / √L: with c = χ_1 of a branch, E σ² = e^c and the standard deviation of
    log σ is ½ √(2c + c²/3), whatever the depth; without the factor both grow with L.

    Parameters
    ----------
    weight : Tensor
        Drawn before. Biases behind it are to be scaled alike, or zero.
    blocks : int
        Number L of residual blocks.

    Returns
    -------
    Tensor
        The weight.

    Raises
    ------
    InputError
        If the weight cannot be changed or `blocks` < 1; it is then unchanged.

    References
    ----------
    Tarnowski, Warchoł, Jastrzębski, Tabor & Nowak 2019, "Dynamical isometry is achieved in
    residual networks in a universal way for any activation function"; Hayou et al. 2021, "Stable
    ResNet".
    """
    blocks = options.whole("blocks", blocks)
    checked(weight, dimensions=1)
    return write(weight, weight.detach() * blocks**-0.5)


def skip_init_(alpha: Tensor) -> Tensor:
    """Set the factor α of a branch, x + α F(x), to zero: every block begins as the identity.

    SkipInit and ReZero have one number for a branch, others one for each channel.

    Raises
    ------
    InputError
        If it cannot be changed.

    References
    ----------
    De & Smith 2020, "Batch normalization biases residual blocks towards the identity function in
    deep networks" (SkipInit); Bachlechner et al. 2021, "ReZero is all you need".
    """
    checked(alpha, "alpha", 0)
    return write(alpha, torch.zeros_like(alpha))


def fixup_(weights: Iterable[Tensor], blocks: int) -> list[Tensor]:
    r"""Scale the weights of a residual branch of m layers so that no normalisation is needed.

        W_i \to L^{-1/(2m-2)} W_i for i < m,    W_m \to 0,

    so that every block begins as the identity, and one step of gradient descent changes the
    network by as much at every depth L.

    Parameters
    ----------
    weights : iterable of Tensor
        Of one branch, in order, drawn before: ``gaussian_(w, gain("relu"))``. Biases are to be
        zero, and so is the network's last layer.
    blocks : int
        Number L of residual blocks.

    Returns
    -------
    list of Tensor
        The weights.

    Raises
    ------
    InputError
        If there are none, one cannot be changed or `blocks` < 1; all are then unchanged.

    References
    ----------
    Zhang, Dauphin & Ma 2019, "Fixup initialization: residual learning without normalization".
    """
    blocks = options.whole("blocks", blocks)
    branch = [] if isinstance(weights, Tensor) else [checked(w) for w in weights]
    if not branch:
        raise InputError("weights is empty, or one tensor; expected a list of those of a branch")
    scale = blocks ** (-0.5 / (len(branch) - 1)) if len(branch) > 1 else 0.0
    values = [rounded_as(w, scale * w.detach()) for w in branch[:-1]]
    for w, value in zip(branch, [*values, torch.zeros_like(branch[-1])], strict=True):
        write(w, value)
    return branch
