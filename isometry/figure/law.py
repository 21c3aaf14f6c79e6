"""A limiting law as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from isometry.domain import Array
from isometry.figure.style import THEORY, legend, new_figure, stem
from isometry.laws import Law

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 600
_UNSEEN = 1e-4  # of the mass
_LARGEST_LOG = 20.0  # |log σ| beyond which σ is written as a power of e
_HIGHEST = 0.9  # quantile of the density that a diverging edge may exceed threefold


def law(law: Law, ax: Axes | None = None, *, label: str | None = None, color: str = THEORY) -> Axes:
    """Draw the density of log σ, per unit of the natural logarithm, with atoms as stems.

    Parameters
    ----------
    law : Law
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure of 6 × 3.8 inches.
    label, color : str, optional
        Of the curve; by default the law's name, in the colour of theory.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is None:
        ax = new_figure().subplots()
    grid = _seen(law)
    density = law.density(grid)
    top = 1.0
    if len(grid):
        (line,) = ax.plot(grid, density, color=color, lw=1.8, label=label or law.name)
        line.set_solid_capstyle("butt")
        # a density that diverges at an edge must not squash the rest
        top = min(float(density.max()), 3 * float(np.quantile(density, _HIGHEST)))
    ax.set_ylim(0, 1.08 * top)
    left, right = _limits(law, grid)
    ax.set_xlim(left, right)
    atoms = [(place, _sigma(place), mass) for place, mass in law.log_atoms]
    edge = left + 0.01 * (right - left)
    atoms += [(edge, "0", atom.mass) for atom in law.atoms if atom.sigma == 0]
    for place, sigma, mass in atoms:
        stem(ax, place, mass, color, f"atom at σ = {sigma} (mass {mass:.3g})")
    ax.axvline(0.0, color="black", lw=0.9, ls=(0, (4, 3)), label="σ = 1", zorder=1)
    ax.set_xlabel("log σ  (natural)")
    ax.set_ylabel("mass per unit log σ")
    ax.spines[["top", "right"]].set_visible(False)
    legend(ax)
    return ax


def _sigma(log_sigma: float) -> str:
    large = abs(log_sigma) > _LARGEST_LOG
    return f"e^{log_sigma:.4g}" if large else f"{math.exp(log_sigma):.3g}"


def _seen(law: Law) -> Array:
    """The grid without a tail that holds next to nothing."""
    grid = law.grid(_POINTS)
    if not len(grid):
        return grid
    held = law.cdf(grid)
    first = int(np.searchsorted(held, held[0] + _UNSEEN * (held[-1] - held[0])))
    return grid[max(first - 1, 0) :]


def _limits(law: Law, grid: Array) -> tuple[float, float]:
    places = [place for place, _ in law.log_atoms]
    places += [float(grid[0]), float(grid[-1])] if len(grid) else []
    low, high = min([*places, 0.0]), max([*places, 0.0])
    margin = max(0.04 * (high - low), 0.5 * (1.0 - (high - low)))
    return low - margin, high + margin
