"""The phase diagram in the plane of weights and biases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import Array, grid
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation
from isometry.meanfield.critical import critical_point
from isometry.meanfield.custom import ActivationLike, activation
from isometry.meanfield.operating_point import operating_point


@dataclass(frozen=True)
class PhaseDiagram:
    """Depth scales over a grid; NaN where no variance is stable."""

    activation: str
    sigma_w: Array  # (n,)
    sigma_b: Array  # (m,)
    q_star: Array  # (m, n), a row for each σ_b
    chi_1: Array  # (m, n); below 1 ordered, above 1 chaotic
    chi_q: Array  # (m, n)
    c_star: Array  # (m, n)
    xi_q: Array  # (m, n), layers
    xi_c: Array  # (m, n), layers; infinite on the critical line
    critical_sigma_w: Array  # (m,) σ_w of the critical line at each σ_b; NaN where there is none
    critical_stable: tuple[bool, ...]  # (m,) whether q* is stable there


def phase_diagram(act: ActivationLike, sigma_w: ArrayLike, sigma_b: ArrayLike) -> PhaseDiagram:
    """Operating points over a grid of σ_w and σ_b, and the critical line through it.

    Parameters
    ----------
    act
        An activation, or what `activation` takes.
    sigma_w, sigma_b
        Increasing numbers >= 0.

    Raises
    ------
    TheoryError
        When a grid is empty, not increasing, or has a negative or infinite number.

    References
    ----------
    Schoenholz et al. 2017, "Deep information propagation"; Xiao et al. 2018, "Dynamical
    isometry and a mean field theory of CNNs".
    """
    act = activation(act)
    w, b = grid("sigma_w", sigma_w), grid("sigma_b", sigma_b)
    table = np.array([[_row(act, x, y) for x in w.tolist()] for y in b.tolist()])
    q, chi_1, chi_q, c, xi_q, xi_c = np.moveaxis(table, 2, 0)
    line = [_critical(act, y) for y in b.tolist()]
    return PhaseDiagram(
        activation=act.name,
        sigma_w=w,
        sigma_b=b,
        q_star=q,
        chi_1=chi_1,
        chi_q=chi_q,
        c_star=c,
        xi_q=xi_q,
        xi_c=xi_c,
        critical_sigma_w=np.array([x for x, _ in line]),
        critical_stable=tuple(stable for _, stable in line),
    )


def _row(act: Activation, sigma_w: float, sigma_b: float) -> tuple[float, ...]:
    try:
        p = operating_point(act, sigma_w, sigma_b)
    except TheoryError:  # no stable variance
        return (np.nan,) * 6
    return p.q_star, p.chi_1, p.chi_q, p.c_star, p.xi_q, p.xi_c


def _critical(act: Activation, sigma_b: float) -> tuple[float, bool]:
    try:
        point = critical_point(act, sigma_b=sigma_b)
    except TheoryError:  # no critical point
        return np.nan, False
    return point.sigma_w, point.stable
