"""Convolutions that are orthogonal matrices at the kernel's centre."""

from __future__ import annotations

import torch
from torch import Tensor

from isometry.init import options
from isometry.init.draw import at_centre, haar
from isometry.init.layout import cut
from isometry.init.options import Preserve
from isometry.init.target import checked, write


def delta_orthogonal_(
    weight: Tensor,
    sigma_w: float = 1.0,
    *,
    groups: int = 1,
    transposed: bool = False,
    preserve: Preserve = "variance",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fill a kernel with zeros but for an orthogonal matrix at its centre.

        K_β = \sigma_w \sqrt{\max(1, n_out / n_in)} Q δ_{β,0},    QᵀQ = 1 or QQᵀ = 1, Q uniform.

    The convolution is Q at every pixel, and no signal is lost to the border: with padding that
    keeps the size of the image it is exactly isometric, up to the factor in front of Q, for
    circular and for zero padding, any dilation and any number of dimensions. The centre of an
    even kernel is its offset (k-1)//2, as in ``padding="same"``.

    Where that cannot be, all other singular values still are equal, and these are forced to 0:

    * n_out < n_in: n_in - n_out for each pixel, in groups for each group;
    * stride s > 1: those of the pixels that are skipped, 1 - s^{-d} of all;
    * less padding, or an even kernel with a dilation, whose centre falls beside its pixel:
      those of the pixels that the centre does not reach. Circular padding reaches them.

    A transposed convolution with a stride loses no input, but leaves the pixels of its output
    between those of the input empty.

    Parameters
    ----------
    weight : Tensor
        (n_out, n_in / groups, *kernel), or (n_in, n_out / groups, *kernel) if transposed; a
        matrix is a kernel of one offset. On the meta device it is left as it is.
    sigma_w : float
        See `gain`.
    groups : int
        Of the convolution: each has an orthogonal matrix of its own.
    transposed : bool
        Whether it is the weight of a transposed convolution.
    preserve : {"variance", "norm"}
        They differ where n_out > n_in: "variance" keeps the mean square of the entries, as
        mean-field theory has it, "norm" (a factor of 1) the length of the vector.
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
    Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington 2018, "Dynamical isometry and a mean
    field theory of CNNs: how to train 10,000-layer vanilla convolutional neural networks".

    Examples
    --------
    >>> conv = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
    >>> x = torch.randn(1, 4, 7, 7)
    >>> delta_orthogonal_(conv.weight) is conv.weight
    True
    >>> torch.allclose(conv(x).norm(), x.norm())
    True
    """
    shape = cut(checked(weight), groups, transposed)
    scale = options.sigma("sigma_w", sigma_w)
    scale *= options.widening(preserve, shape.fan_out, shape.fan_in)
    generator = options.generator(generator)
    matrices = haar((shape.groups, shape.rows, shape.columns), weight, generator)
    return write(weight, scale * at_centre(matrices, shape).flatten(0, 1))
