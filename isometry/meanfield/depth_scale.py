"""How many layers a signal lives."""

from __future__ import annotations

import math

from isometry.domain import nonnegative

#: a χ this close to 1 is 1: root finding leaves it uncertain by about as much
SAME = 1e-12


def depth_scale(chi: float) -> float:
    """ξ = -1 / log |χ|: layers over which a deviation shrinks by e; infinite at χ = 1.

    Negative where χ > 1: then the deviation grows by e every |ξ| layers.

    References
    ----------
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information propagation".
    """
    if abs(abs(chi) - 1.0) <= SAME:
        return math.inf
    return 0.0 if chi == 0.0 else -1.0 / math.log(abs(chi))


def gradient_scale(chi_1: float) -> float:
    """1 / log χ_1: E|g^l|² = χ_1^{L-l} E|g^L|²; positive explodes, negative vanishes."""
    scale = depth_scale(chi_1)
    return scale if math.isinf(scale) else -scale + 0.0


def trainable_depth(xi_c: float) -> float:
    """About 6 ξ_c: the depth to which such networks have been seen to train.

    A rule of thumb from experiments with plain tanh networks, not a theorem. It concerns
    whether two inputs can still be told apart after so many layers and says nothing of the
    spread of the Jacobian's spectrum, of skip connections or of normalisation.

    References
    ----------
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information propagation".

    Examples
    --------
    >>> trainable_depth(16.0)
    96.0
    """
    if xi_c == math.inf:
        return math.inf
    return 6.0 * nonnegative("xi_c", xi_c)
