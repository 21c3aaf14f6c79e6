"""Weights behind which a ReLU network is linear."""

from __future__ import annotations

import torch
from torch import Tensor

from isometry.errors import InputError
from isometry.init import options
from isometry.init.draw import at_centre, haar
from isometry.init.layout import cut
from isometry.init.options import Preserve
from isometry.init.target import checked, write


def looks_linear_(
    weight: Tensor,
    sigma_w: float = 1.0,
    *,
    paired_in: bool = True,
    paired_out: bool = True,
    transposed: bool = False,
    preserve: Preserve = "variance",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fill a weight so that pairs of ReLUs pass on what each of them alone would halve.

        W = [[V, -V], [-V, V]],    V orthogonal as in `delta_orthogonal_`.

    Outputs come as h and -h, and inputs as relu(u) and relu(-u), whose difference is u: with
    such weights a ReLU network is a linear map at initialisation, and isometric, which ReLU with
    independent weights cannot be. One such layer by itself has the singular values 2 σ_w and 0.

    * The first layer, whose inputs are no pairs, is [V; -V]: ``paired_in=False``.
    * The last, whose outputs should not be pairs, is [V, -V]: ``paired_out=False``. So is every
      layer behind a concatenated ReLU, which makes the pairs itself.

    Biases must be zero. n_in and n_out below are those of V. Mean squares are those of u and h:
    σ_w = 1 keeps them, not √2.

    Parameters
    ----------
    weight : Tensor
        (n_out, n_in, *kernel), or (n_in, n_out, *kernel) if transposed; paired channels are
        the first half and the second half. On the meta device it is left as it is.
    sigma_w : float
        Of V.
    paired_in, paired_out : bool
    transposed : bool
        Whether it is the weight of a transposed convolution.
    preserve : {"variance", "norm"}
        They differ where n_out > n_in: "variance" multiplies V by √(n_out / n_in).
    generator : torch.Generator, optional
        By default the global one of the weight's device.

    Returns
    -------
    Tensor
        The weight.

    Raises
    ------
    InputError
        If paired channels are odd in number, the weight cannot be filled or an option is out of
        range; it is then unchanged.

    References
    ----------
    Balduzzi, Frean, Leary, Lewis, Ma & McWilliams 2017, "The shattered gradients problem: if
    resnets are the answer, then what is the question?".

    Examples
    --------
    >>> first, last = torch.nn.Linear(4, 8, bias=False), torch.nn.Linear(8, 4, bias=False)
    >>> _ = looks_linear_(first.weight, paired_in=False)
    >>> _ = looks_linear_(last.weight, paired_out=False)
    >>> x = torch.randn(4)
    >>> torch.allclose(last(first(x).relu()).norm(), x.norm())
    True
    """
    shape = cut(checked(weight), 1, transposed)
    pairs = (paired_in, paired_out) if shape.transposed else (paired_out, paired_in)
    rows, columns = (
        _halved(weight, axis) if paired else weight.shape[axis] for axis, paired in enumerate(pairs)
    )
    fan_in, fan_out = (rows, columns) if shape.transposed else (columns, rows)
    scale = options.sigma("sigma_w", sigma_w) * options.widening(preserve, fan_out, fan_in)
    generator = options.generator(generator)
    matrix = haar((1, rows, columns), weight, generator)[0]
    for axis, paired in enumerate(pairs):
        if paired:
            matrix = torch.cat([matrix, -matrix], axis)
    return write(weight, scale * at_centre(matrix, shape))


def _halved(weight: Tensor, axis: int) -> int:
    if weight.shape[axis] % 2:
        raise InputError(
            f"the weight has shape {tuple(weight.shape)}; expected an even number of channels "
            f"on dimension {axis}, whose halves are pairs, or paired_in / paired_out = False"
        )
    return weight.shape[axis] // 2
