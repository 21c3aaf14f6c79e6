"""What batch and layer normalisation do to the growth of gradients."""

from __future__ import annotations

from isometry.domain import nonnegative
from isometry.errors import TheoryError
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.moments import expectation, second_moment, slope_moment


def batch_norm_growth(act: ActivationLike) -> float:
    """E φ'² / Var φ at z ~ N(0, 1): growth of E|gradient|² per layer under batch norm.

    Layers W φ(BN(h)) in training mode, the batch drawn at random. π/(π - 1) = 1.467 for
    ReLU, 1 for a linear network, above 1 for everything else: gradients explode backwards
    whatever the scale of the weights, which cancels.

    Valid for large width first and large batches B second, where two samples' activations
    are uncorrelated after normalisation; a finite batch adds about 1.4/B (linear) to
    0.1 at B = 16 (ReLU). It says nothing of evaluation mode, where batch norm is a fixed
    diagonal matrix, nor of networks with skip connections.

    Raises
    ------
    TheoryError
        When φ is constant.

    References
    ----------
    Yang, Pennington, Rao, Sohl-Dickstein & Schoenholz 2019, "A mean field theory of batch
    normalization".

    Examples
    --------
    >>> round(batch_norm_growth("relu"), 6)
    1.466942
    """
    act = activation(act)
    mean = 0.0 if act.odd else expectation(act, 1.0, lambda z, h: act.function(h))
    # about the mean: the difference of two moments would cancel for a nearly constant φ
    variance = expectation(act, 1.0, lambda z, h: (act.function(h) - mean) ** 2)
    if variance == 0.0:
        raise TheoryError(f"{act.name} is constant: batch norm would divide by zero")
    return slope_moment(act, 1.0) / variance


def layer_norm_gain(act: ActivationLike, sigma_w: float, sigma_b: float = 0.0) -> float:
    """g = σ_w² E φ'² / (σ_w² E φ² + σ_b²) at q = 1: mean squared gain of W φ(LN(h)) + b.

    Layer norm fixes q = 1 and divides by the standard deviation of what came before. Without
    biases the scale of the weights cancels; g = 1 for ReLU and for linear layers, g < 1 is
    ordered, g > 1 chaotic.

    Valid to leading order in 1/n: the two directions that layer norm removes (the mean and
    the signal itself) are not counted, and the normalised signal is taken to be Gaussian
    with mean 0. In a pre-norm residual network x + W φ(LN(x)) the stream's variance grows
    like l, the branch enters with squared gain g/l, and E|J|² grows like the power L^g.

    Raises
    ------
    TheoryError
        When a number is negative, or the layer's output is zero.

    References
    ----------
    Doshi, He & Gromov 2023, "Critical initialization of wide and deep neural networks using
    partial Jacobians"; Xiong et al. 2020, "On layer normalization in the transformer
    architecture".
    """
    act = activation(act)
    weight = nonnegative("sigma_w", sigma_w) ** 2
    variance = weight * second_moment(act, 1.0) + nonnegative("sigma_b", sigma_b) ** 2
    if variance == 0.0:
        raise TheoryError(f"the output of {act.name} is zero: layer norm would divide by zero")
    return weight * slope_moment(act, 1.0) / variance
