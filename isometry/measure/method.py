"""Which estimator answers: every singular value while that is affordable, probes past that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from isometry.jacobian.operator import Jacobian
from isometry.memory import default_budget, format_size

BUDGET = 60.0  # seconds
_SMALL = 1024  # both dimensions: exact without asking the clock
_BLOCK = 8
# Of one stage of a product, measured: seconds whatever its size, and operations over m n r.
_STAGE = 1e-3
_OPERATIONS = 40


class Choice(NamedTuple):
    """A method, and why it was chosen."""

    method: str
    why: str


def choose(jacobian: Jacobian, budget: float, memory: int | str | None) -> Choice:
    """Predict the cost of the exact spectrum, and take it where it fits time and memory.

    The dense Jacobian and a copy take 16 m n bytes in float64. Its time is that of min(m, n)
    vectors, by a block of products that is tried, and of the singular values, by the rate of
    a matrix product that is tried too.

    Parameters
    ----------
    jacobian : Jacobian
    budget : float
        Seconds.
    memory : int, optional
        Bytes; by default half of the device's.
    """
    m, n = jacobian.shape
    if max(m, n) <= _SMALL:
        return Choice("exact", "")
    allowed = default_budget(jacobian.device) if memory is None else int(memory)
    needed = 2 * m * n * jacobian.x.element_size()
    if needed > allowed:
        return Choice(
            "quadrature",
            f"the dense Jacobian needs {format_size(needed)}, more than the "
            f"{format_size(allowed)} allowed",
        )
    seconds = _products(jacobian) + _decomposition(jacobian)
    if seconds > budget:
        return Choice(
            "quadrature",
            f"every singular value would take about {seconds:.0f} s, more than the budget of "
            f"{budget:g} s (--budget {2 * seconds:.0f}, or --method exact, buys it)",
        )
    return Choice("exact", "")


def too_dear(
    jacobian: Jacobian, shapes: Sequence[tuple[int, int]], budget: float, memory: int | str | None
) -> str:
    """Predict the cost of the product of stages; say which limit it exceeds, if any.

    A stage of shape (m, n) takes about 40 m n r operations: its dense Jacobian, and the products
    and the QR decomposition with the r directions that the stages before it left.

    Parameters
    ----------
    jacobian : Jacobian
        Of the whole network.
    shapes : sequence of (int, int)
        (m, n) of each stage, the first first.
    budget, memory
        As for `choose`.
    """
    allowed = default_budget(jacobian.device) if memory is None else int(memory)
    needed = max(2 * m * n for m, n in shapes) * jacobian.x.element_size()
    if needed > allowed:
        return f"it needs {format_size(needed)}, more than the {format_size(allowed)} allowed"
    r, operations = shapes[0][1], 0
    for m, n in shapes:
        operations += _OPERATIONS * m * n * r
        r = min(r, m)
    seconds = len(shapes) * _STAGE + operations / _rate(torch.device("cpu"))
    if seconds > budget:
        return f"it would take about {seconds:.0f} s, more than the budget of {budget:g} s"
    return ""


def _products(jacobian: Jacobian) -> float:
    """Seconds that all rows take, or all columns."""
    m, n = jacobian.shape
    block = torch.ones(min(m, n), _BLOCK, dtype=jacobian.dtype, device=jacobian.device)
    product = jacobian.T if m <= n else jacobian
    _ = product @ block  # what is done once is not counted
    began = time.perf_counter()
    _ = (product @ block).sum().item()
    return (time.perf_counter() - began) * min(m, n) / _BLOCK


def _decomposition(jacobian: Jacobian) -> float:
    """Seconds that the singular values take: (8/3) max(m, n) min(m, n)² operations or so.

    Half of the reduction to bidiagonal form is bound by memory: a fifth of the rate of a product.
    """
    m, n = jacobian.shape
    return 5 * 8 / 3 * max(m, n) * min(m, n) ** 2 / _rate(jacobian.device, jacobian.dtype)


def _rate(device: torch.device, dtype: torch.dtype = torch.float64) -> float:
    """Operations per second of a matrix product."""
    a = torch.ones(512, 512, dtype=dtype, device=device)
    _ = a @ a
    began = time.perf_counter()
    _ = (a @ a).sum().item()
    return 2 * 512**3 / (time.perf_counter() - began)
