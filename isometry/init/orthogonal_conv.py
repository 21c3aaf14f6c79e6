"""Orthogonal convolutions with all of their kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from isometry.errors import InputError
from isometry.init import options
from isometry.init.draw import entries, haar
from isometry.init.layout import cut
from isometry.init.options import Preserve
from isometry.init.target import checked, write


def orthogonal_conv_(
    weight: Tensor,
    sigma_w: float = 1.0,
    *,
    groups: int = 1,
    transposed: bool = False,
    preserve: Preserve = "variance",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fill a kernel so that the convolution is orthogonal and mixes neighbours.

        K(S) = \sigma_w \sqrt{\max(1, n_out / n_in)} Q \prod_{i,a} [P_{ia} + (1 - P_{ia}) S_a],

    S_a the shift by one offset along axis a, P_ia random projections on half of the dimensions,
    k_a - 1 for each axis, and Q as in `orthogonal_`. Every factor is orthogonal for circular
    padding, so the product is, for any dilation and number of dimensions. In two dimensions a
    pair of factors is the block of 2 × 2 offsets that the paper convolves.

    Zero padding cuts off what the shifts carry over the border: use `delta_orthogonal_` there.
    With circular padding, and any stride, singular values are equal or forced to 0, of the latter
    n_in - n_out for each pixel and group where n_out < n_in, and all of the pixels that a stride
    skips.

    Parameters
    ----------
    weight : Tensor
        (n_out, n_in / groups, *kernel), or (n_in, n_out / groups, *kernel) if transposed. On
        the meta device it is left as it is.
    sigma_w : float
        See `gain`.
    groups : int
        Of the convolution: each is orthogonal by itself. Of a depthwise one every channel is
        shifted by a random offset, for want of other orthogonal kernels.
    transposed : bool
        Whether it is the weight of a transposed convolution.
    preserve : {"variance", "norm"}
        They differ where n_out > n_in: "variance" keeps the mean square of the entries, "norm"
        (a factor of 1) the length of the vector.
    generator : torch.Generator, optional
        By default the global one of the weight's device.

    Returns
    -------
    Tensor
        The weight.

    Raises
    ------
    InputError
        If the weight is no kernel or cannot be filled, or an option is out of range; it is then
        unchanged.

    References
    ----------
    Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington 2018, "Dynamical isometry and a mean
    field theory of CNNs", algorithm 2; Kautsky & Turcajová 1994, "A matrix approach to discrete
    wavelets".

    Examples
    --------
    >>> conv = torch.nn.Conv1d(4, 4, 5, padding=2, padding_mode="circular", bias=False)
    >>> x = torch.randn(1, 4, 9)
    >>> _ = orthogonal_conv_(conv.weight)
    >>> torch.allclose(conv(x).norm(), x.norm())
    True
    """
    shape = cut(checked(weight), groups, transposed)
    scale = options.sigma("sigma_w", sigma_w)
    scale *= options.widening(preserve, shape.fan_out, shape.fan_in)
    generator = options.generator(generator)
    if not shape.offsets:
        raise InputError(
            f"the weight has shape {tuple(weight.shape)}, and orthogonal_conv_ fills kernels "
            "(out, in, *kernel); use orthogonal_"
        )
    kernel = haar((shape.groups, shape.rows, shape.columns), weight, generator)
    kernel = kernel.reshape(*kernel.shape, *(1 for _ in shape.offsets))
    for step in range(1, max(shape.offsets)):
        for axis, size in enumerate(shape.offsets):
            if step < size:
                p = _projections(shape.groups, shape.columns, weight, generator)
                kernel = _spread(kernel, p, 3 + axis)
    return write(weight, scale * kernel.flatten(0, 1))


def _projections(count: int, n: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw (count, n, n) orthogonal projections on half of the dimensions, the odd one by a coin.

    Of few channels a free choice would often be all or none, and the factor a mere shift.
    """
    basis = haar((count, n, n), like, generator)
    coin = entries("uniform", (count, 1, 1), like, generator) > 0.5
    kept = torch.arange(n, device=like.device) < (n + coin.long()) // 2
    return (basis * kept) @ basis.mT


def _spread(kernel: Tensor, p: Tensor, axis: int) -> Tensor:
    """Return kernel · (p + (1 - p) S), which is longer by one along the axis."""
    stays = torch.einsum("grc...,gcd->grd...", kernel, p)
    empty = torch.zeros_like(kernel.narrow(axis, 0, 1))
    return torch.cat([stays, empty], axis) + torch.cat([empty, kernel - stays], axis)
