"""Pennington, Schoenholz and Ganguli 2017: spectra of deep networks, and how σ_max grows.

The first figure has densities of singular values of ReLU, hard-tanh and erf networks at
criticality, Gaussian and orthogonal, at three depths. The second has the largest singular value
against depth.
Lines are theory at infinite width, dots are random networks.

    python examples/pennington_2017.py    # two minutes; writes figures/pennington_2017_*.png

J. Pennington, S. S. Schoenholz and S. Ganguli, Resurrecting the sigmoid in deep learning through
dynamical isometry: theory and practice, NeurIPS 2017.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.random_networks import (  # noqa: E402
    Recipe,
    chains,
    distance,
    floor,
    per_unit,
    print_table,
)
from isometry import figure  # noqa: E402
from isometry.laws import Law  # noqa: E402
from isometry.meanfield import critical_point  # noqa: E402
from isometry.wide import WideNetwork  # noqa: E402

ENSEMBLES = ("gaussian", "orthogonal")
ACTIVATIONS = {"relu": 1.0, "hard_tanh": 0.5, "erf": 0.5}  # with q*
DEPTHS = (2, 8, 32)
GROWTH = [("relu", 1.0), ("hard_tanh", 0.5), ("hard_tanh", 0.1), ("hard_tanh", 0.02)]
GROWN = (1, 2, 4, 8, 16, 32, 64)
PARTING = """
Where they part. ReLU: a network has the zeros of its narrowest mask, below n/2 units by about
√(n log(L) / 2), and its rank is short of that of the law by as much. σ_max lies below the edge of
the law where L/n is not small: few directions make the heavy top of a deep spectrum, and the edge
is reached only as n → ∞. What lies below n ε σ_max, an SVD in double precision cannot tell from
zero: at depth 32 and Gaussian weights that is a part of the spectrum."""


def recipe(name: str, q: float, weights: str, depth: int) -> Recipe:
    """A critical chain at the fixed point q."""
    point = critical_point(name, q_star=q)
    return Recipe(name, weights, depth, point.sigma_w, point.sigma_b, q)


def law(r: Recipe) -> Law:
    """Its limiting law."""
    return WideNetwork(r.activation, r.weights, r.depth, r.sigma_w, r.sigma_b, None).law


def draw_spectra(n: int, draws: int, path: Path) -> list[list[object]]:
    """Draw densities of σ on a grid of ensembles and activations; return the agreement."""
    import seaborn

    canvas = figure.new_figure(10.0, 6.0)
    axes, rows = canvas.subplots(2, 3), []
    colors = seaborn.color_palette("viridis", len(DEPTHS))
    for i, weights in enumerate(ENSEMBLES):
        for j, (name, q) in enumerate(ACTIVATIONS.items()):
            ax = axes[i, j]
            for depth, color in zip(DEPTHS, colors, strict=True):
                r = recipe(name, q, weights, depth)
                found, limit = chains(r, n, draws, seed=depth), law(r)
                draw_density(ax, limit, np.concatenate(found), color, f"L = {depth}")
                top = float(np.mean([s[0] for s in found]))
                dead = sum(atom.mass for atom in limit.atoms if atom.sigma == 0)
                rank = float(np.mean([np.mean(s > floor(s)) for s in found]))
                rows.append([name, weights, depth, distance(found, limit), 1.0 - dead, rank])
                rows[-1] += [float(np.exp(top_of(limit))), top]
            ax.set(yscale="log", ylim=(1e-3, 30), xlim=(0, 1.05 * np.exp(top_of(limit))))
            title = f"{name.replace('_', ' ')}, {weights}, q* = {q:g}"
            ax.set_title(title, fontsize=10)
            ax.set_xlabel("singular value σ" if i else "")
            ax.set_ylabel("" if j else "density")
            ax.spines[["top", "right"]].set_visible(False)
            ax.legend(fontsize=8)
    canvas.savefig(path, dpi=100)
    return rows


def top_of(limit: Law) -> float:
    """The largest log σ, an atom there included."""
    return max([limit.support[1], *(np.log(a.sigma) for a in limit.atoms if a.sigma > 0)])


def draw_density(ax: Any, limit: Law, sigma: np.ndarray, color: Any, label: str) -> None:
    """Dots for a histogram of all singular values of networks, and the law's density and atoms."""
    grid = limit.grid(1000)
    at = np.exp(grid[grid > -20])
    ax.plot(at, limit.density_of("sigma", at), color=color, label=label)
    edges = np.linspace(0, float(np.exp(top_of(limit))), 30)
    places = [atom.sigma for atom in limit.atoms if atom.sigma > 0]
    alive = sigma > floor(sigma)
    for place in places:
        alive &= np.abs(np.log(np.maximum(sigma, 1e-300) / place)) > 1e-9
    heights = per_unit(np.where(alive, sigma, -1.0), edges)
    seen = heights > 0
    ax.plot((0.5 * (edges[1:] + edges[:-1]))[seen], heights[seen], "o", ms=3, color=color)
    for atom in limit.atoms:
        if atom.sigma > 0:
            ax.plot(atom.sigma, 10, "^", color=color, ms=6)
            ax.text(atom.sigma + 0.1, 9, f"atom, mass {atom.mass:.2f}", fontsize=8, color=color)


def draw_growth(n: int, draws: int, path: Path) -> list[list[object]]:
    """Draw σ_max against depth for both ensembles; return theory beside networks."""
    import seaborn

    canvas = figure.new_figure(9.0, 3.8)
    axes, rows = canvas.subplots(1, 2, sharey=True), []
    colors = ["black", *seaborn.color_palette("viridis", len(GROWTH) - 1)]
    depths = np.unique(np.geomspace(1, 1000, 60).round().astype(int))
    for ax, weights in zip(axes, ENSEMBLES, strict=True):
        for (name, q), color in zip(GROWTH, colors, strict=True):
            base = recipe(name, q, weights, 1)
            limits = {int(L): np.exp(top_of(law(replace(base, depth=int(L))))) for L in depths}
            limits |= {L: np.exp(top_of(law(replace(base, depth=L)))) for L in GROWN}
            label = name if name == "relu" else f"hard tanh, q* = {q:g}"
            ax.loglog(
                depths,
                [limits[int(L)] for L in depths],
                color=color,
                label=label,
                ls="--" if name == "relu" else "-",
            )
            tops = [
                np.mean([s[0] for s in chains(replace(base, depth=L), n, draws, seed=L)])
                for L in GROWN
            ]
            ax.plot(GROWN, tops, "o", ms=4, color=color)
            L = GROWN[-1]
            rows.append([label, weights, L, float(limits[L]), float(tops[-1])])
        ax.set(xlabel="depth L", title=f"{weights} weights", ylim=(0.9, 120))
        ax.title.set_fontsize(10)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(r"largest singular value $\sigma_{max}$")
    axes[0].legend(fontsize=8)
    canvas.savefig(path, dpi=100)
    return rows


@click.command(help=__doc__)
@click.option("--width", default=500, show_default=True)
@click.option("--draws", default=4, show_default=True, help="Networks of each kind.")
@click.option("--out", type=Path, default=ROOT / "examples/figures", help="Folder.")
def main(width: int, draws: int, out: Path) -> None:
    """Draw both figures, print the agreement."""
    rows = draw_spectra(width, draws, out / "pennington_2017_spectra.png")
    columns = ["activation", "weights", "depth", "KS", "rank of the law", "seen in networks"]
    columns += ["σ_max of the law", "of networks"]
    print_table(f"Spectra; {draws} networks of width {width}", columns, rows)
    rows = draw_growth(width, draws, out / "pennington_2017_growth.png")
    columns = ["activation", "weights", "depth", "σ_max of the law", "of networks"]
    print_table(f"Largest singular value; {draws} networks of width {width}", columns, rows)
    print(PARTING)


if __name__ == "__main__":
    main()
