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
_ALIKE = 0.01  # singular values within a per cent: the recipe would only draw again
_LARGEST_EXPONENT = 20.0  # a factor beyond e^20 per layer is no repair


def reinitialise(anatomy: Anatomy, input_variance: float) -> str | None:
    """Return a snippet that makes a plain chain far more isometric than random weights do.

    Parameters
    ----------
    anatomy : Anatomy
    input_variance : float
        Mean square of the input's entries.

    Returns
    -------
    str or None
        None when no recipe is known: not a chain, another activation, or a layer wider than
        its input (what a widening layer gains, a later narrowing one throws away).
    """
    recipe = _recipe(anatomy, input_variance)
    if recipe is None:
        return None
    gains, std = recipe
    depth = len(gains)
    inner = f"[{gains[1]:.6g}] * {depth - 2} + " if depth > 2 else ""
    last = f"[{gains[-1]:.6g}]" if depth > 1 else "[]"
    return (
        f"gains = [{gains[0]:.6g}] + {inner}{last}; "
        "layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]; "
        "[(torch.nn.init.orthogonal_(m.weight, gain=g), m.bias is not None and "
        f"torch.nn.init.normal_(m.bias, std={std:.4g})) for m, g in zip(layers, gains)]"
    )


def is_at_its_best(anatomy: Anatomy, input_variance: float) -> bool:
    """Whether a plain chain has the weights that `reinitialise` would give it, up to rotations."""
    recipe, chain = _recipe(anatomy, input_variance), anatomy.chain
    if recipe is None or chain is None:
        return False
    gains, std = recipe
    for w, g in zip(chain.weights, gains, strict=True):
        # Root mean square of σ²/g² − 1; the norm of a Gram matrix is cheaper than its eigenvalues.
        off = np.linalg.norm(w @ w.T / g**2 - np.eye(len(w))) / math.sqrt(len(w))
        if not off <= 2 * _ALIKE:
            return False
    return all(abs(float(np.sqrt(np.mean(b**2))) - std) <= max(_ALIKE, std) for b in chain.biases)


def _recipe(anatomy: Anatomy, input_variance: float) -> tuple[list[float], float] | None:
    """Return the gain of each orthogonal layer, and σ_b."""
    chain = anatomy.chain
    if chain is None or any(w.shape[0] > w.shape[1] for w in chain.weights):
        return None
    depth, std = len(chain.weights), 0.0
    # A last tanh saturates when the last layer brings large inputs back to their size.
    largest = 1.5 if chain.activations == depth else math.inf
    if chain.activation is None:
        gains = [1.0] * depth
    elif chain.activation == "ReLU":
        # Each mask halves E[σ²]; a last layer without one has nothing to make up for.
        gains = [math.sqrt(2)] * chain.activations + [1.0] * (depth - chain.activations)
    elif chain.activation == "Tanh" and depth > 1 and 0 < input_variance <= largest:
        gains, std = _critical_gains(depth, input_variance)
    else:
        return None
    return gains, std


def rescale(anatomy: Anatomy, log_gain: float) -> str | None:
    """Return a snippet that divides each of the L weights by its share of the gain, g^(1/L).

    A first step only: biases, which stay as they are, move the gain too.

    Returns
    -------
    str or None
        None where the gain is not known to follow: another activation than ReLU and its like,
        layers that normalise, parametrised weights, a forward of the user's.
    """
    if not anatomy.kinds or not anatomy.rescalable:
        return None
    exponent = -log_gain / len(anatomy.kinds)
    if abs(exponent) > _LARGEST_EXPONENT:
        return None
    kinds = ", ".join(f"torch.nn.{k}" for k in dict.fromkeys(anatomy.kinds))
    return (
        f"[m.weight.data.mul_({math.exp(exponent):.6g}) for m in model.modules() "
        f"if isinstance(m, ({kinds},))]  # a first step: measure again"
    )


def _critical_gains(depth: int, input_variance: float) -> tuple[list[float], float]:
    """Orthogonal gains and σ_b at criticality, the first layer scaled to the fixed point q*.

    With g the gain of the first layer, σ_w that of the others and D the slopes, of mean
    square 1/σ_w² at criticality, the map is isometric when the last gain is σ_w/g.
    """
    sw2, sb2 = critical_tanh(_Q_STAR)
    first = math.sqrt((_Q_STAR - sb2) / input_variance)
    inner = [math.sqrt(sw2)] * (depth - 2)
    return [first, *inner, math.sqrt(sw2) / first], math.sqrt(sb2)


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
