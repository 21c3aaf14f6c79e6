"""Panels so close that the nodes of a quadrature do not show in a density."""

from __future__ import annotations

import math

import numpy as np

from isometry.domain import Array
from isometry.meanfield.activation import Activation
from isometry.meanfield.quadrature import gaussian_density

#: |z| within which a density is looked at: all but 0.05 % of the mass
_BULK, _SAMPLES = 3.5, 2801
#: length of a panel of 20 nodes in units of the width of a node: the ripple is exp(-80 / 9)
_LENGTH = 9.0
#: panels at most: where more are wanted, in the tails, nodes do show
_MOST = 4000


def close_ends(act: Activation, scale: float, blur: float) -> tuple[float, ...]:
    r"""Places in z at which panels for d = φ'(scale z)² should end, beside the usual ones.

    A factor beside d turns log d into log x = log d + blur t + …, with the moment transform t
    of the product. On the spectrum Im t is -π times the density of log x, next to that of log d
    where the blur is small; so a node is as wide as

        η = π · blur · ρ(log d),    ρ(log d) = density of z / |d log d / dz|,

    and the sum over 20 Gauss–Legendre nodes on a panel of length ℓ ripples by exp(-80 η / ℓ).
    """
    z = np.linspace(-_BULK, _BULK, _SAMPLES)
    h, step = scale * z, 2.0 * _BULK / (_SAMPLES - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.diff(np.log(act.derivative(h) ** 2)) / step
    broken = np.histogram(np.array(act.kinks), h)[0] > 0 if scale > 0.0 else True
    slope[broken | ~np.isfinite(slope)] = 0.0
    density = (2.0 if act.odd else 1.0) * gaussian_density(0.5 * (z[1:] + z[:-1]))
    panels: Array = slope**2 / (_LENGTH * math.pi * blur * density) * step
    order = np.argsort(panels)
    panels[order[np.cumsum(panels[order]) > _MOST]] = 0.0
    count = np.concatenate([[0.0], np.cumsum(panels)])
    return tuple(np.interp(np.arange(1.0, count[-1]), count, z).tolist())
