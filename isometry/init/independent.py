"""Weights and biases whose entries are independent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isometry.errors import InputError
from isometry.init import options
from isometry.init.draw import entries
from isometry.init.layout import cut
from isometry.init.target import checked, write


def gaussian_(
    weight: Tensor,
    sigma_w: float = 1.0,
    *,
    groups: int = 1,
    transposed: bool = False,
    stride: int | tuple[int, ...] = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fill a weight with Gaussians: W_ij ~ N(0, σ_w² / fan_in).

    Inputs of mean square q give outputs of mean square σ_w² q. fan_in is the number of inputs
    of an output: n_in / groups · k^d of a convolution, and n_in / groups · (k / s)^d of a
    transposed one, on average, whose stride s must be given.

    Parameters
    ----------
    weight : Tensor
        (n_out, n_in / groups, *kernel), or (n_in, n_out / groups, *kernel) if transposed. On
        the meta device it is left as it is.
    sigma_w : float
        See `gain`.
    groups : int
        Only that of a transposed convolution matters.
    transposed : bool
        Whether it is the weight of a transposed convolution.
    stride : int or tuple of int
        Of a transposed convolution; that of others does not matter.
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
    Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli 2016, "Exponential expressivity in deep
    neural networks through transient chaos".
    """
    std = _deviation(weight, sigma_w, groups, transposed, stride)
    generator = options.generator(generator)
    return write(weight, std * entries("normal", tuple(weight.shape), weight, generator))


def uniform_(
    weight: Tensor,
    sigma_w: float = 1.0,
    *,
    groups: int = 1,
    transposed: bool = False,
    stride: int | tuple[int, ...] = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fill a weight with uniform numbers: W_ij ~ U(-a, a), a = σ_w √(3 / fan_in).

    Their variance is that of `gaussian_`, whose parameters and errors these are. In the limit
    of large widths their spectra are the same, too.

    Returns
    -------
    Tensor
        The weight.
    """
    std = _deviation(weight, sigma_w, groups, transposed, stride)
    generator = options.generator(generator)
    drawn = entries("uniform", tuple(weight.shape), weight, generator)
    return write(weight, math.sqrt(12.0) * std * (drawn - 0.5))


def biases_(
    bias: Tensor, sigma_b: float = 0.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill a bias with Gaussians: b_i ~ N(0, σ_b²), or zeros.

    Parameters
    ----------
    bias : Tensor
        Of any shape. On the meta device it is left as it is.
    sigma_b : float
        As `isometry.meanfield.critical_point` has it.
    generator : torch.Generator, optional
        By default the global one of the bias's device.

    Returns
    -------
    Tensor
        The bias.

    Raises
    ------
    InputError
        If the bias cannot be filled or σ_b < 0; it is then unchanged.
    """
    checked(bias, "bias", 0)
    std = options.sigma("sigma_b", sigma_b)
    generator = options.generator(generator)
    return write(bias, std * entries("normal", tuple(bias.shape), bias, generator))


def _deviation(
    weight: Tensor, sigma_w: float, groups: int, transposed: bool, stride: int | tuple[int, ...]
) -> float:
    """Return σ_w / √fan_in."""
    shape = cut(checked(weight), groups, transposed)
    steps = stride if isinstance(stride, tuple) else (stride,) * len(shape.offsets)
    if len(steps) != len(shape.offsets):
        raise InputError(
            f"stride is {stride!r}, and the kernel has {len(shape.offsets)} dimensions; expected "
            "a number for each, or one for all"
        )
    apart = math.prod(options.whole("stride", s) for s in steps) if shape.transposed else 1
    fan_in = shape.fan_in * math.prod(shape.offsets) / apart
    return options.sigma("sigma_w", sigma_w) / math.sqrt(fan_in)
