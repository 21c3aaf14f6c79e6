"""A phase diagram as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isometry.figure.style import THEORY, new_figure
from isometry.meanfield import PhaseDiagram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NOWHERE = "#DDDDDD"
_DEEPEST = 1e3  # layers, where the colours end: the depth scale diverges on the critical line


def phase(diagram: PhaseDiagram, ax: Axes | None = None) -> Axes:
    """Draw the depth scale ξ_c over the plane of σ_w and σ_b, with the critical line.

    Networks of about 6 ξ_c layers can be trained: on the critical line, of any depth. Grey is
    where no variance is stable; the line is dashed where q* on it is not stable.

    Parameters
    ----------
    diagram : PhaseDiagram
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure of 6 × 3.8 inches.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.colors import LogNorm

    if ax is None:
        ax = new_figure().subplots()
    depth = np.clip(diagram.xi_c, None, _DEEPEST)
    ax.set_facecolor(_NOWHERE)
    mesh = ax.pcolormesh(
        diagram.sigma_w,
        diagram.sigma_b,
        np.ma.masked_invalid(depth),
        norm=LogNorm(max(float(np.nanmin(depth)), 0.1), _DEEPEST),
        cmap="viridis",
        shading="nearest",
        rasterized=True,
    )
    ax.figure.colorbar(mesh, ax=ax, label=r"depth scale $\xi_c$ in layers", extend="max")
    stable = np.array(diagram.critical_stable)
    lines = ((stable, "-", "critical line, χ₁ = 1"), (~stable, "--", "χ₁ = 1, q* not stable"))
    for where, style, label in lines:
        line = np.where(where, diagram.critical_sigma_w, np.nan)
        if np.isfinite(line).any():
            ax.plot(line, diagram.sigma_b, style, color=THEORY, lw=2, label=label)
    if np.isnan(depth).any():
        ax.fill_between([], [], [], color=_NOWHERE, label="no stable variance")
    ax.set_xlim(diagram.sigma_w[0], diagram.sigma_w[-1])
    ax.set_ylim(diagram.sigma_b[0], diagram.sigma_b[-1])
    ax.set_xlabel(r"$\sigma_w$")
    ax.set_ylabel(r"$\sigma_b$")
    ax.set_title(
        f"{diagram.activation}: over how many layers inputs stay apart", fontsize=10, loc="left"
    )
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower right", fontsize=8)
    return ax
