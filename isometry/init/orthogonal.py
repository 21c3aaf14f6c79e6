"""Orthogonal matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isometry.init import options
from isometry.init.draw import haar
from isometry.init.layout import cut
from isometry.init.options import Preserve
from isometry.init.target import checked, write


def orthogonal_(
    weight: Tensor,
    sigma_w: float = 1.0,
    *,
    groups: int = 1,
    transposed: bool = False,
    preserve: Preserve = "variance",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fill a weight with a random matrix all of whose singular values are equal.

        W = \sigma_w \sqrt{\max(1, n_out / n_in)} Q,    QᵀQ = 1 or QQᵀ = 1, Q uniform,

    so that inputs of mean square q give outputs of mean square σ_w² q, as Gaussian weights of
    variance σ_w² / n_in do; with `preserve="norm"` W = σ_w Q, which keeps lengths instead.

    Where n_out < n_in, n_in - n_out singular values of the map are forced to 0: W Wᵀ is the
    identity times σ_w², and Wᵀ W a projection.

    A kernel is one matrix, of n_out × (n_in · offsets), or of n_in × (n_out · offsets) where
    it is transposed: exact where patches do not overlap, stride = kernel size, as when an image
    is cut into tokens. Where they overlap use `delta_orthogonal_`.

    Parameters
    ----------
    weight : Tensor
        (n_out, n_in / groups, *kernel), or (n_in, n_out / groups, *kernel) if transposed. On
        the meta device it is left as it is.
    sigma_w : float
        See `gain`.
    groups : int
        Matrices one above the other, each orthogonal by itself: the groups of a convolution,
        or 3 for the joint projection of queries, keys and values.
    transposed : bool
        Whether it is the weight of a transposed convolution.
    preserve : {"variance", "norm"}
        They differ where n_out > n_in.
    generator : torch.Generator, optional
        By default the global one of the weight's device.

    Returns
    -------
    Tensor
        The weight.

    Raises
    ------
    InputError
        If the weight cannot be filled or an option is out of range; it is then unchanged.

    References
    ----------
    Saxe, McClelland & Ganguli 2014, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks".

    Examples
    --------
    >>> w = orthogonal_(torch.empty(3, 5, dtype=torch.float64), sigma_w=2.0)
    >>> torch.allclose(w @ w.T, 4.0 * torch.eye(3, dtype=torch.float64))
    True
    """
    shape = cut(checked(weight), groups, transposed)
    offsets = math.prod(shape.offsets)
    fans = (shape.rows, shape.columns * offsets)
    fan_in, fan_out = fans if shape.transposed else fans[::-1]
    scale = options.sigma("sigma_w", sigma_w) * options.widening(preserve, fan_out, fan_in)
    generator = options.generator(generator)
    drawn = haar((shape.groups, *fans), weight, generator)
    return write(weight, scale * drawn.reshape(weight.shape))
