"""From the anatomy of a network to the law that its singular values should follow."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isometry.anatomy import Anatomy, Chain
from isometry.distance import kolmogorov_smirnov
from isometry.errors import TheoryError
from isometry.laws import Law, chain_law
from isometry.report import Prediction
from isometry.spectrum import Spectrum

Array = NDArray[np.float64]
Ensemble = Literal["gaussian", "orthogonal"]

_GRID = 400
_NAMES = {"gaussian": "Gaussian", "orthogonal": "orthogonal"}
# Singular values of a matrix that was made orthogonal in float32 agree to about 1e-6.
_ORTHOGONAL = 1e-4
# n times the Kolmogorov–Smirnov distance of one square i.i.d. matrix from its limit is of
# order one (eigenvalue rigidity); trained or structured matrices exceed this by far.
_IID = 4.0
_SMALLEST = 24  # a narrower matrix cannot tell its ensemble


def predict(anatomy: Anatomy, spectrum: Spectrum) -> tuple[list[Prediction], list[str]]:
    """Predict the spectrum from the architecture and the recognised weight ensembles.

    Returns
    -------
    predictions : list of Prediction
        Empty when there is no closed form for this network.
    notes : list of str
        Why there is none.
    """
    try:
        law = _law(anatomy)
        return [_prediction(law, spectrum)], []
    except TheoryError as why:
        return [], [f"no theory overlay: {why}"]


def _law(anatomy: Anatomy) -> Law:
    chain = anatomy.chain
    if chain is None:
        raise TheoryError(anatomy.why_not_chain)
    widths = {n for w in chain.weights for n in w.shape}
    if len(widths) != 1:
        raise TheoryError("its layers differ in width, and closed forms need equal widths")
    if chain.activation not in (None, "ReLU"):
        raise TheoryError(
            f"the law of a {chain.activation} chain has no closed form (linear and ReLU chains do)"
        )
    if chain.activation == "ReLU" and not all(map(_centred, chain.biases)):
        raise TheoryError("its biases are not centred, so its ReLUs do not pass half of the units")
    ensemble, log_scale = _ensemble(chain)
    depth = len(chain.weights)
    name = f"{depth}-layer {chain.activation or 'linear'} chain, {_NAMES[ensemble]} weights, n → ∞"
    return chain_law(ensemble, depth, chain.activations, log_scale=log_scale, name=name)


def _ensemble(chain: Chain) -> tuple[Ensemble, float]:
    """Recognise the ensemble that all weights share; return it with Σ log σ_w."""
    kinds = {recognise(w) for w in chain.weights}
    ensemble = kinds.pop() if len(kinds) == 1 else None
    if ensemble is None:
        raise TheoryError(
            "its weights are neither all orthogonal nor all like independent random entries "
            "(trained, structured, or too narrow to tell)"
        )
    n = chain.weights[0].shape[0]
    log_scale = sum(0.5 * np.log(n * np.mean(w**2)) for w in chain.weights)
    return ensemble, float(log_scale)


def _centred(bias: Array) -> bool:
    """Whether the mean of the biases is within four standard errors of zero."""
    return bool(abs(bias.mean()) <= 4 * bias.std() / np.sqrt(len(bias)))


def recognise(weight: Array) -> Ensemble | None:
    """Tell the ensemble of a square matrix from its singular values.

    Returns
    -------
    "orthogonal" when they are equal, "gaussian" when they follow the Marchenko–Pastur law
    (which every matrix of independent centred entries does, whatever their distribution),
    else None.
    """
    sigma = np.linalg.svd(weight, compute_uv=False)
    n = len(sigma)
    rms = np.sqrt(np.mean(sigma**2))
    if not rms > 0 or (n < _SMALLEST and np.ptp(sigma) > _ORTHOGONAL * rms):
        return None
    if np.all(np.abs(sigma / rms - 1) < _ORTHOGONAL):
        return "orthogonal"
    smallest = np.finfo(np.float64).tiny
    law = chain_law("gaussian", 1, 0)
    ks = kolmogorov_smirnov(np.log(np.maximum(sigma / rms, smallest)), np.full(n, 1 / n), law)
    return "gaussian" if n * ks < _IID else None


def _prediction(law: Law, spectrum: Spectrum) -> Prediction:
    grid = law.grid(_GRID)
    return Prediction(
        name="mean field",
        law=law.name,
        score=law.score,
        std_log_sigma=law.std_log_sigma,
        mean_log_sigma=law.mean_log_sigma,
        atoms=tuple((a.sigma, a.mass) for a in law.atoms),
        grid=tuple(map(float, grid)),
        cdf=tuple(map(float, law.cdf(grid))),
        density=tuple(map(float, law.density(grid))),
        ks=kolmogorov_smirnov(
            spectrum.log_sigma,
            spectrum.weights,
            law,
            spectrum.dead + spectrum.unresolved,
            floor=spectrum.log_floor,
            atom_width=_ORTHOGONAL,
        ),
    )
