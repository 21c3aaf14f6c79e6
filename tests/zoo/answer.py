"""What the operator says of a case, held against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isometry import Jacobian
from isometry.coverage.truth import Truth
from isometry.errors import IsometryError
from tests.zoo.case import Case
from tests.zoo.plain import plain
from tests.zoo.reference import central_difference

_FEW = 128  # inputs with more elements are probed along random directions
_PROBES = 8


@dataclass(frozen=True)
class Answer:
    """Of the operator on one case.

    Attributes
    ----------
    outcome : str
        "right", "WRONG" or "refused".
    error : float or None
        Of the dense Jacobian, relative to its largest entry.
    words : str
        Of the refusal.
    """

    outcome: str
    error: float | None = None
    words: str = ""


def answer(case: Case, truth: Truth | None = None, built: tuple | None = None) -> Answer:
    """Ask the operator for its dense Jacobian; the truth is taken here unless it is given."""
    network, inputs = built or case.build(torch.float64)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # what else is said of a random network depends on its numbers
            jacobian = Jacobian(network, inputs, **case.options)
            found = jacobian.dense()
    except IsometryError as e:
        return Answer("refused", None, str(e))
    if case.own_mask:
        with jacobian.session():
            truth = along_some(jacobian.f, jacobian.x)
    truth = truth or truth_of(case)
    error = truth.of_dense(found)
    return Answer("right" if error <= tolerance(case, truth) else "WRONG", error)


def truth_of(case: Case) -> Truth:
    """Return the truth about a case."""
    return along_some(*plain(case))


def tolerance(case: Case, truth: Truth) -> float:
    """Return what is allowed for: what the case says, and what differences leave open."""
    return max(case.tolerance, 3 * min(truth.error, 1e-3))


def along_some(f, x: Tensor) -> Truth:
    """Take differences along all unit vectors, or along some random directions."""
    n = x.numel()
    g = torch.Generator().manual_seed(0)
    some = torch.randn(_PROBES, n, generator=g, dtype=x.dtype)
    some /= some.norm(dim=1, keepdim=True)  # as short as unit vectors: a long one crosses kinks
    tangents = torch.eye(n, dtype=x.dtype) if n <= _FEW else some
    columns, error = central_difference(f, x, tangents)
    return Truth(tangents, columns.T, error)
