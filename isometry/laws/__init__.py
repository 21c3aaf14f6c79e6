"""Limiting laws of the singular values of a network's Jacobian, by free probability."""

from __future__ import annotations

from typing import Literal

from isometry.domain import finite, fraction, whole
from isometry.errors import TheoryError
from isometry.laws.atom import Atom
from isometry.laws.atomic import AtomicLaw
from isometry.laws.dyson import DysonLaw, Neurons, NeuronTypes, Node
from isometry.laws.factors import Diagonal, Factor, Gaussian, Isometry, Residual
from isometry.laws.free import free_product
from isometry.laws.fuss_catalan import FussCatalan
from isometry.laws.law import Law
from isometry.laws.marchenko_pastur import MarchenkoPastur
from isometry.laws.product import FreeProduct
from isometry.laws.pushforward import PushforwardLaw
from isometry.laws.universal import BernoulliUniversal, ResidualUniversal, SmoothUniversal

__all__ = [
    "Atom",
    "Law",
    "AtomicLaw",
    "BernoulliUniversal",
    "FussCatalan",
    "MarchenkoPastur",
    "PushforwardLaw",
    "ResidualUniversal",
    "SmoothUniversal",
    "FreeProduct",
    "free_product",
    "chain_law",
    "Factor",
    "Diagonal",
    "Gaussian",
    "Isometry",
    "Residual",
    "DysonLaw",
    "Neurons",
    "NeuronTypes",
    "Node",
]


def chain_law(
    weights: Literal["gaussian", "orthogonal"],
    depth: int,
    masks: int,
    rank_fraction: float = 0.5,
    log_scale: float = 0.0,
    name: str | None = None,
) -> Law:
    """Law of the singular values of a chain of square weights and masks, as its width grows.

    Parameters
    ----------
    weights
        "gaussian": entries N(0, σ_w²/n); "orthogonal": σ_w times a Haar orthogonal matrix.
    depth
        Number of weights, >= 1.
    masks
        Number of 0/1 diagonal masks, >= 0; depth - 1 when the last layer is linear.
    rank_fraction
        p in (0, 1], the fraction that each mask keeps: 1/2 for ReLU.
    log_scale
        Σ_l log σ_w,l over the weights.
    name
        For a legend; one is made up when it is None.

    Returns
    -------
    Law
        `FussCatalan` without masks, `AtomicLaw` for orthogonal weights with at most one
        mask, else `FreeProduct`. Masks with rank_fraction = 1 count as none.

    Raises
    ------
    TheoryError
        When an argument is outside the domain above.

    Examples
    --------
    >>> law = chain_law("gaussian", depth=1, masks=0)  # the Marchenko–Pastur law
    >>> round(law.score, 12)
    0.60048518044
    """
    if weights not in ("gaussian", "orthogonal"):
        raise TheoryError(f'weights is {weights!r}; expected "gaussian" or "orthogonal"')
    depth, masks = whole("depth", depth, 1), whole("masks", masks, 0)
    p = fraction("rank_fraction", rank_fraction)
    shift = finite("log_scale", log_scale)
    if p == 1.0:
        masks = 0
    gaussian = weights == "gaussian"
    title = name or _title(weights, depth, masks, p)
    if gaussian and masks == 0:
        return FussCatalan(depth, shift, title)
    if masks == 0:
        return AtomicLaw.dirac(shift, title)
    if masks == 1 and not gaussian:
        return AtomicLaw.two_point(p, shift, title)
    factors: list[tuple[Factor, int]] = [(Isometry.mask(1.0, p), masks)]
    if gaussian:
        factors.append((Gaussian(1.0, 1.0), depth))
    return FreeProduct(factors, log_scale=shift, name=title)


def _title(weights: str, depth: int, masks: int, p: float) -> str:
    counted = f"{depth} {weights} weight{'s' if depth > 1 else ''}"
    if masks:
        counted += f", {masks} mask{'s' if masks > 1 else ''} of rank {p:g} n"
    return f"{counted}, infinite width"
