"""The limit of infinite width, layer by layer, from the weights that were recognised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isometry.errors import TheoryError
from isometry.laws import Diagonal, Factor, Gaussian, Isometry, Law, free_product
from isometry.meanfield import Activation, activation, slope_law
from isometry.meanfield.moments import second_moment
from isometry.part import Matrix, Part
from isometry.theory.ensemble import ORTHOGONAL, Ensemble, by_values, of_matrix, summary
from isometry.theory.free_product import measured
from isometry.theory.odd import odd


class Limit(NamedTuple):
    """A law, and which parts it does not predict.

    Attributes
    ----------
    law : Law
    measured : dict of str to str
        Names of the parts that enter as they were measured, and why.
    """

    law: Law
    measured: dict[str, str]


def of_limit(parts: Sequence[Part]) -> Limit:
    """Law of J at infinite width.

    Each weight that looks Gaussian or orthogonal is replaced by its ensemble, with its σ_w, σ_b and
    widths, and each activation by the law of φ′(h)² at the variance

        q_l = σ_w,l² m_{l-1} + σ_b,l²,   m_l = E φ(√q_l z)²,

    which starts from the mean square m_0 of the input. A kernel counts as one matrix at every
    frequency, as it does where the padding is circular and channels are many. What has no theory
    enters as it was measured, and signals start anew behind it.

    Raises
    ------
    TheoryError
        If no part has a theory.
    """
    factors, why = limit_factors(parts)
    if len(why) == len(parts):
        raise TheoryError("; ".join(grouped(why)))
    layers = sum(p.kind == "weight" for p in parts)
    name = f"{layers} layer{'s' if layers > 1 else ''} of infinite width"
    if why:
        name += f", {len(why)} part{'s' if len(why) > 1 else ''} as measured"
    return Limit(free_product(factors, name=name), why)


def limit_factors(
    parts: Sequence[Part], *, own: bool = False
) -> tuple[list[Factor], dict[str, str]]:
    """The factors of that law, one for each part; and which are as measured, and why.

    Parameters
    ----------
    parts : sequence of Part
    own : bool
        Take q_l and m_l as they were measured behind each part, in place of the recursion.
    """
    factors: list[Factor] = []
    why: dict[str, str] = {}
    m = parts[0].before if parts else 1.0  # mean square of the signal
    q: float | None = None  # of Gaussian pre-activations, where these are
    for part in parts:
        try:
            if part.kind == "weight":
                factor, q = _weight(part, m)
                m = q = part.after if own else q
            elif part.kind == "activation":
                factor, m = _activation(part, q)
                m, q = part.after if own else m, None
            else:
                raise TheoryError(_KINDS[part.kind])
        except TheoryError as e:
            why[part.name] = str(e)
            gaussian = _keeps_gaussian(part, q)
            factor, m, q = measured(part), part.after, part.after if gaussian else None
        factors.append(factor)
    return factors, why


def _keeps_gaussian(part: Part, q: float | None) -> bool:
    """Whether pre-activations behind a part without a law are Gaussian all the same.

    Normalised, they are as Gaussian as they were; behind a random kernel they are sums of many
    terms, whatever its spectrum is as a convolution.
    """
    if part.kind == "normalisation":
        return q is not None
    if part.matrix is None or not part.matrix.bias_centred:
        return False
    return by_values(part.matrix).name != "other"


def recognised(parts: Sequence[Part]) -> list[str]:
    """Say how many weights look like which ensemble, those inside of sums among them."""
    weights = [m for p in parts for m in ((p.matrix,) if p.matrix else p.inside)]
    return [f"weights: {summary(map(of_matrix, weights))}"] if weights else []


def unlike(parts: Sequence[Part]) -> list[str]:
    """Say which weights are odd, which the law at infinite width takes as they are."""
    return [
        f"{f.where} enters as it is, although it is odd among the weights: {f.message}"
        for f in odd(parts)
        if f.code in ("ISO402", "ISO404")
    ]


def grouped(why: dict[str, str]) -> list[str]:
    """Say of the parts without theory which they are, those of one reason together."""
    names: dict[str, list[str]] = {}
    for name, reason in why.items():
        names.setdefault(reason, []).append(name)
    return [
        f"no theory for {', '.join(which[:3])}{f' and {len(which) - 3} more' * (len(which) > 3)}, "
        f"because {reason}; measured as a block instead"
        for reason, which in names.items()
    ]


_KINDS = {
    "sum": "it is a sum of two ways",
    "routing": "it selects entries",
    "normalisation": "it is a normalisation",
    "opaque": "it is neither a weight, nor an activation, nor a sum",
}


def _weight(part: Part, m: float) -> tuple[Factor, float]:
    """A random matrix in the place of a weight, and the variance behind it."""
    if part.matrix is None:
        raise TheoryError("its weight is not one matrix (it has groups, or is transposed)")
    ensemble = by_values(part.matrix)
    isometric = _scale(part)
    if isometric is None:
        _require_independent(part.matrix, ensemble)
    if not part.matrix.bias_centred:
        raise TheoryError("its biases are not centred")
    rows, columns = part.shape
    if isometric is not None:
        q = isometric**2 * min(rows, columns) / rows * m + part.matrix.bias_variance
        return Isometry(rows, columns, scale=isometric), q
    q = ensemble.sigma_w**2 * m + part.matrix.bias_variance
    return Gaussian(rows, columns, ensemble.sigma_w**2), q


def _scale(part: Part) -> float | None:
    """The singular value of a weight that has but one, as what it does and not as it is drawn."""
    spectrum = part.spectrum
    known = not spectrum.dead + spectrum.unresolved
    if known and np.ptp(spectrum.log_sigma) < ORTHOGONAL:
        return math.exp(spectrum.mean_log)
    return None


def _require_independent(matrix: Matrix, ensemble: Ensemble) -> None:
    if ensemble.name == "other":
        raise TheoryError(f"its weight looks neither Gaussian nor orthogonal ({ensemble.evidence})")
    if ensemble.name == "orthogonal":
        raise TheoryError("its kernel is orthogonal as a matrix, which as a convolution it is not")
    if not matrix.alike:
        raise TheoryError("its stride or padding gives a kernel a spectrum of its own")


def _activation(part: Part, q: float | None) -> tuple[Factor, float]:
    """The law of the slopes in the place of those measured, and the mean square behind them."""
    if part.activation is None:
        raise TheoryError("it is not one function of every entry")
    if part.shape[0] != part.shape[1]:
        raise TheoryError("it selects entries")
    if q is None:
        raise TheoryError("what it is given is not the output of a random weight")
    act: Activation = activation(part.activation)
    values, weights = slope_law(act, q)
    return Diagonal(values, weights, part.shape[0]), second_moment(act, q)
