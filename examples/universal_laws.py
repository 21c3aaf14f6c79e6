"""Pennington, Schoenholz and Ganguli 2018: two universal laws of deep orthogonal networks.

Networks at criticality with Var σ² = 1/4 at every depth: q* shrinks as L grows. Those with a smooth
activation (tanh, erf) approach one law, those with rare kinks (hard tanh) another. Coloured lines
are theory at finite depth, black lines the limits, dots random networks of the largest depth that
is simulated. The last panel has the distance of each depth from its limit.

    python examples/universal_laws.py    # a minute; writes figures/universal_laws.png

J. Pennington, S. S. Schoenholz and S. Ganguli, The emergence of spectral universality in deep
networks, AISTATS 2018.
"""

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.optimize import brentq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.random_networks import Recipe, chains, distance, per_unit, print_table  # noqa: E402
from isometry import figure  # noqa: E402
from isometry.laws import BernoulliUniversal, Law, SmoothUniversal  # noqa: E402
from isometry.meanfield import critical_point, slope_moment  # noqa: E402
from isometry.wide import WideNetwork  # noqa: E402

VARIANCE = 0.25  # of σ²
LIMITS: dict[str, Law] = {
    "tanh": SmoothUniversal(VARIANCE),
    "erf": SmoothUniversal(VARIANCE),
    "hard_tanh": BernoulliUniversal(VARIANCE),
}
SHOWN = (2, 8, 128)
DEPTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
PARTING = """
Where they part. The limits are of L → ∞ after n → ∞, and the smooth one is slow: a correction of
relative size q* ~ 1/√L is left, so that 8,192 layers are needed for what hard tanh has at 16. At
depth 128 hard tanh stops less than one of 400 units in a layer: a network's atom scatters by as
much as the number of those units, about 0.02 to 0.04."""


def recipe(name: str, depth: int) -> Recipe:
    """The critical chain with Var σ² = L (μ₂/μ₁² - 1) = VARIANCE."""

    def excess(log_q: float) -> float:
        q = np.exp(log_q)
        first, second = (slope_moment(name, q, k) for k in (1, 2))
        return depth * (second / first**2 - 1) - VARIANCE

    q = float(np.exp(brentq(excess, np.log(1e-5), np.log(5.0), xtol=1e-14)))
    point = critical_point(name, q_star=q)
    return Recipe(name, "orthogonal", depth, point.sigma_w, point.sigma_b, q)


def law(r: Recipe) -> Law:
    """Its law at infinite width and this depth."""
    return WideNetwork(r.activation, r.weights, r.depth, r.sigma_w, r.sigma_b).law


def between(one: Law, other: Law) -> float:
    """Kolmogorov–Smirnov distance of two laws, away from atoms that move as the depth grows."""
    ends = [x for each in (one, other) for x in each.support]
    atoms = [np.log(a.sigma) for each in (one, other) for a in each.atoms if a.sigma > 0]
    low = max(min(e for e in ends if np.isfinite(e)) if np.all(np.isfinite(ends)) else -6.0, -6.0)
    grid = np.linspace(low, max(ends), 4000)
    for place in atoms:
        grid = grid[grid < place - 1e-6]
    return float(np.max(np.abs(one.cdf(grid) - other.cdf(grid))))


def draw_class(ax: Any, names: list[str], n: int, draws: int) -> list[list[object]]:
    """Draw laws of finite depth, their limit, and networks; return the agreement."""
    import seaborn

    colors = seaborn.color_palette("viridis", len(SHOWN) + 1)[1:]
    styles, rows = ("-", "--"), []
    for name, style in zip(names, styles, strict=False):
        for depth, color in zip(SHOWN, colors, strict=True):
            r = recipe(name, depth)
            limit = law(r)
            draw_density(ax, limit, color, style, f"{name.replace('_', ' ')}, L = {depth}")
            found = chains(r, n, draws, seed=depth)
            rows.append([name, depth, r.q, distance(found, limit), between(limit, LIMITS[name])])
        draw_dots(ax, np.concatenate(found), limit, "os"[style == "--"], color)
    draw_density(ax, LIMITS[names[0]], "black", ":", "limit L → ∞")
    ax.set(xlabel="singular value σ", xlim=(0, 1.8), ylim=(0, 2.6))
    ax.legend(fontsize=7.5, loc="upper left")
    return rows


def draw_density(ax: Any, limit: Law, color: Any, style: str, label: str) -> None:
    """Draw a density of σ, with the mass of an atom written beside it."""
    grid = np.exp(limit.grid(600))
    ax.plot(grid, limit.density_of("sigma", grid), style, color=color, lw=1.6, label=label)
    for atom in limit.atoms:
        if atom.sigma > 0:
            ax.plot(
                [atom.sigma] * 2,
                [0, 2 * atom.mass],
                style,
                color=color,
                marker="^",
                ms=5,
                markevery=[1],
            )
            if color == "black":
                where = (atom.sigma - 0.04, 2 * atom.mass)
                ax.text(*where, f"atoms, mass {atom.mass:.2f}", fontsize=8, ha="right")


def draw_dots(ax: Any, sigma: np.ndarray, limit: Law, marker: str, color: Any) -> None:
    """Dots for a histogram of the singular values of networks, those on an atom left out."""
    edges = np.linspace(0, float(np.exp(limit.support[1])), 22)
    for atom in limit.atoms:
        if atom.sigma > 0:
            sigma = np.where(np.abs(sigma / atom.sigma - 1) < 1e-9, -1.0, sigma)
    middle = 0.5 * (edges[1:] + edges[:-1])
    ax.plot(middle, per_unit(sigma, edges), marker, ms=3.5, color=color, mec="black", mew=0.4)


def draw_rates(ax: Any) -> list[list[object]]:
    """Draw and return the distance of finite depth from the limit."""
    rows: list[list[object]] = []
    for name, limit in LIMITS.items():
        gaps = [between(law(recipe(name, depth)), limit) for depth in DEPTHS]
        ax.loglog(DEPTHS, gaps, "o-", ms=3.5, label=name.replace("_", " "))
        slope = np.polyfit(np.log(DEPTHS[-5:]), np.log(gaps[-5:]), 1)[0]
        rows.append([name, *(gaps[DEPTHS.index(L)] for L in (2, 32, 1024, 8192)), float(slope)])
    ax.set(xlabel="depth L", ylabel="distance from the limit (KS)")
    ax.legend(fontsize=8)
    return rows


@click.command(help=__doc__)
@click.option("--width", default=400, show_default=True)
@click.option("--draws", default=2, show_default=True, help="Networks of each kind.")
@click.option("--out", type=Path, default=ROOT / "examples/figures/universal_laws.png")
def main(width: int, draws: int, out: Path) -> None:
    """Draw the figure, print the agreement."""
    canvas = figure.new_figure(11.0, 3.8)
    smooth, bernoulli, rates = canvas.subplots(1, 3)
    rows = draw_class(smooth, ["tanh", "erf"], width, draws)
    rows += draw_class(bernoulli, ["hard_tanh"], width, draws)
    columns = ["activation", "depth", "q*", "KS of networks to it", "KS of it to the limit"]
    print_table(f"The law of each depth; {draws} networks of width {width}", columns, rows)
    smooth.set(ylabel="density", title="smooth class")
    bernoulli.set(title="Bernoulli class")
    rates.set(title="rate of convergence")
    rows = draw_rates(rates)
    columns = ["activation", *(f"L = {L}" for L in (2, 32, 1024, 8192)), "power of L"]
    print_table("Distance of the law of finite depth from its limit (KS)", columns, rows)
    print(PARTING)
    for ax in (smooth, bernoulli, rates):
        ax.title.set_fontsize(10)
        ax.spines[["top", "right"]].set_visible(False)
    canvas.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
