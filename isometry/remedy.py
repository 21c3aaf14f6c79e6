"""Code that can be pasted to mend a network, from the mean field of its activation.

Every snippet works on a variable ``model`` and needs ``torch`` imported.
"""

from __future__ import annotations

import math

import numpy as np

from isometry.anatomy import Anatomy

# Fixed point at which tanh networks are started: small enough that a hundred layers stay
# near their linear range, large enough that they compute something (σ_w² = 1 + 2q*).
_Q_STAR = 0.02


def reinitialise(anatomy: Anatomy, input_variance: float) -> str | None:
    """Return a snippet that makes a plain chain as isometric as its activation allows.

    Parameters
    ----------
    anatomy : Anatomy
    input_variance : float
        Mean square of the input's entries.

    Returns
    -------
    str or None
        None when no recipe is known for this kind of network.
    """
    if anatomy.chain is None:
        return None
    activation = anatomy.chain.activation
    if activation is None:
        return _orthogonal(1.0)
    if activation == "ReLU":
        return _orthogonal(math.sqrt(2))
    if activation == "Tanh" and len(anatomy.chain.weights) > 1 and input_variance > 0:
        return _critical_tanh(input_variance)
    return None


def rescale(anatomy: Anatomy, gain: float) -> str:
    """Return a snippet that divides each of the L weights by its share gain^(1/L)."""
    factor = gain ** (-1 / max(1, len(anatomy.kinds)))
    kinds = ", ".join(f"torch.nn.{k}" for k in dict.fromkeys(anatomy.kinds))
    return (
        f"[m.weight.data.mul_({factor:.4g}) for m in model.modules() if isinstance(m, ({kinds},))]"
    )


def _orthogonal(gain: float) -> str:
    return (
        f"[(torch.nn.init.orthogonal_(m.weight, gain={gain:.6g}), "
        "m.bias is not None and torch.nn.init.zeros_(m.bias)) "
        "for m in model.modules() if isinstance(m, torch.nn.Linear)]"
    )


def _critical_tanh(input_variance: float) -> str:
    """Orthogonal weights at criticality, the first layer scaled to the fixed point q*.

    With g the gain of the first layer, σ_w that of the others and D the slopes, of mean
    square 1/σ_w² at criticality, the map is isometric when the last gain is σ_w/g.
    """
    sw2, sb2 = critical_tanh(_Q_STAR)
    first = math.sqrt((_Q_STAR - sb2) / input_variance)
    last = math.sqrt(sw2) / first
    return (
        "ws = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]; "
        f"gains = [{first:.6g}] + [{math.sqrt(sw2):.6g}] * (len(ws) - 2) + [{last:.6g}]; "
        "[(torch.nn.init.orthogonal_(m.weight, gain=g), m.bias is not None and "
        f"torch.nn.init.normal_(m.bias, std={math.sqrt(sb2):.4g})) for m, g in zip(ws, gains)]"
    )


def critical_tanh(q_star: float) -> tuple[float, float]:
    """Return (σ_w², σ_b²) at which q* is a fixed point and χ₁ = σ_w² E[φ′(√q* z)²] = 1.

    The critical line parametrised by its fixed point (Poole et al. 2016, Schoenholz et al.
    2017): σ_w² = 1 / E[φ′²], σ_b² = q* − σ_w² E[φ²], z a standard Gaussian.
    """
    z, w = np.polynomial.hermite_e.hermegauss(80)
    phi = np.tanh(math.sqrt(q_star) * z)
    w = w / w.sum()
    sw2 = 1 / float(w @ (1 - phi**2) ** 2)
    return sw2, q_star - sw2 * float(w @ phi**2)
