"""Tarnowski et al. 2019: the universal law of residual networks, and skips that break it.

Left: networks x ← x + b φ(W x) with four activations, b chosen so that the branches add up to
c = 1: one law for all of them. Middle: x ← x + b W φ(x), with ReLU before the weight instead of
after it. Its masks are signs of the stream, which the skip carries from layer to layer; free
probability takes them as free of each other and errs, the matrix Dyson equation with the masks of
this network does not. Right: the error does not vanish with depth.

    python examples/tarnowski_2019.py    # half a minute; writes figures/tarnowski_2019.png

W. Tarnowski, P. Warchoł, S. Jastrzębski, J. Tabor and M. A. Nowak, Dynamical isometry is achieved
in residual networks in a universal way for any activation function, AISTATS 2019.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.random_networks import distance, per_unit, print_table, weight  # noqa: E402
from isometry import figure  # noqa: E402
from isometry.laws import Law, ResidualUniversal  # noqa: E402
from isometry.laws.dyson import DysonLaw  # noqa: E402
from isometry.meanfield import activation  # noqa: E402
from isometry.wide import WideNetwork  # noqa: E402

Order = Literal["after", "before"]  # the activation after or before the weight
STRENGTH = 1.0  # c, the sum over layers of the branches' variances
ACTIVATIONS = ("relu", "tanh", "selu", "hard_tanh")
DEPTH = 20
SKIPPED = 8  # layers of the network in the middle
DEPTHS = (2, 4, 8, 16, 32)
TYPES = 32  # of neurons, in the Dyson equation
PARTING = """
Where they part. The universal law is of L → ∞: at depth 20 it is 0.01 away. With the activation
after the weight, masks are fresh in every layer, and the free product of the same depth agrees to
what three networks can show. Before the weight they are the signs of the stream; the law is off by
0.03 to 0.05 at every depth, while E σ² and E log σ are right. The Dyson equation takes the masks
as they are."""


@dataclass(frozen=True)
class Network:
    """Singular values of one network, and the slopes that it had."""

    sigma: np.ndarray
    slopes: np.ndarray  # (layers, n)


def network(
    name: str, order: Order, depth: int, b: float, n: int, rng: np.random.Generator
) -> Network:
    """Draw x ← x + b φ(W x) or x ← x + b W φ(x) with entries of W of variance 1/n."""
    phi, x, jacobian = activation(name), rng.standard_normal(n), np.eye(n)
    slopes = []
    for _ in range(depth):
        w = b * weight("gaussian", n, 1.0, rng)
        if order == "after":
            h = w @ x / b
            d = phi.derivative(h)
            x, jacobian = x + b * phi.function(h), jacobian + d[:, None] * (w @ jacobian)
        else:
            d = phi.derivative(x)
            x, jacobian = x + w @ phi.function(x), jacobian + w @ (d[:, None] * jacobian)
        slopes.append(d)
    return Network(np.linalg.svd(jacobian, compute_uv=False), np.array(slopes))


def branch(name: str, order: Order, depth: int, n: int) -> float:
    """The b for which c = b² Σ E φ'² is STRENGTH, by the slopes of trial networks."""
    b = (STRENGTH / depth) ** 0.5
    for trial in range(6):
        found = network(name, order, depth, b, n, np.random.default_rng([2019, 99, trial]))
        b = (STRENGTH / np.sum(np.mean(found.slopes**2, axis=1))) ** 0.5
    return float(b)


def networks(name: str, order: Order, depth: int, b: float, n: int, draws: int) -> list[Network]:
    """Draw several."""
    seeds = [np.random.default_rng([2019, depth, k]) for k in range(draws)]
    return [network(name, order, depth, b, n, rng) for rng in seeds]


def dyson(found: Network, b: float, order: Order) -> Law:
    """The law with this network's own masks."""
    return DysonLaw.from_masks(found.slopes, b**2, activation=order, max_types=TYPES)


def product(depth: int, b: float) -> Law:
    """The law of ReLU branches whose masks are free of each other."""
    return WideNetwork("relu", "gaussian", depth, 1.0, residual=(1.0, b)).law


def draw_law(ax: Any, law: Law, style: str, color: Any, label: str) -> None:
    """Draw a density of σ."""
    grid = np.exp(law.grid(500))
    ax.plot(grid, law.density_of("sigma", grid), style, color=color, lw=1.6, label=label)


def draw_dots(ax: Any, found: list[Network], **style: Any) -> None:
    """Dots for a histogram of σ."""
    edges = np.linspace(0, 7, 48)
    heights = per_unit(np.concatenate([f.sigma for f in found]), edges)
    ax.plot(0.5 * (edges[1:] + edges[:-1]), heights, ls="", ms=3.5, **style)


def draw_universal(ax: Any, n: int, draws: int) -> list[list[object]]:
    """Draw four activations over their common law."""
    import seaborn

    limit, rows = ResidualUniversal(STRENGTH), []
    colors = seaborn.color_palette("deep", len(ACTIVATIONS))
    for name, marker, color in zip(ACTIVATIONS, "os^D", colors, strict=True):
        b = branch(name, "after", DEPTH, n)
        found = networks(name, "after", DEPTH, b, n, draws)
        draw_dots(ax, found, marker=marker, color=color, label=name.replace("_", " "))
        rows.append([name, b, distance([f.sigma for f in found], limit)])
    draw_law(ax, limit, "-", "black", f"universal law, c = {STRENGTH:g}")
    ax.set(title=f"x + b φ(W x), {DEPTH} layers", ylabel="density")
    return rows


def draw_skipped(ax: Any, n: int, draws: int) -> None:
    """Draw a ReLU network whose masks the skip correlates, with three laws."""
    b = (2 * STRENGTH / SKIPPED) ** 0.5
    found = networks("relu", "before", SKIPPED, b, n, draws)
    draw_dots(ax, found, marker="o", color="#4C78A8", label="networks")
    draw_law(ax, ResidualUniversal(STRENGTH), ":", "black", "universal law, L → ∞")
    draw_law(ax, product(SKIPPED, b), "--", "#888888", f"free product, L = {SKIPPED}")
    draw_law(ax, dyson(found[0], b, "before"), "-", "#D1495B", "Dyson equation, its own masks")
    ax.set(title=f"x + b W relu(x), {SKIPPED} layers")


def draw_distances(ax: Any, n: int, draws: int) -> list[list[object]]:
    """Draw and return distances from the laws against depth."""
    import seaborn

    rows: list[list[object]] = []
    colors = seaborn.color_palette("deep", 3)
    for order, style, color in (("after", "o-", colors[0]), ("before", "o-", colors[1])):
        gaps = []
        for depth in DEPTHS:
            b = (2 * STRENGTH / depth) ** 0.5
            found = networks("relu", order, depth, b, n, draws)
            sigma = [f.sigma for f in found]
            limit = ResidualUniversal(STRENGTH)
            gaps.append([distance(sigma, product(depth, b)), distance(sigma, limit), np.nan])
            if order == "before" and depth <= 8:
                gaps[-1][2] = distance([found[0].sigma], dyson(found[0], b, order))
            rows.append(["φ(W x)" if order == "after" else "W φ(x)", depth, *gaps[-1]])
            rows[-1] = ["–" if isinstance(x, float) and np.isnan(x) else x for x in rows[-1]]
        columns = np.array(gaps).T
        label = "x + b relu(W x)" if order == "after" else "x + b W relu(x)"
        ax.plot(DEPTHS, columns[0], style, ms=4, color=color, label=f"{label}: free product")
        if order == "before":
            ax.plot(DEPTHS, columns[2], "D-", ms=4, color="#D1495B", label=f"{label}: Dyson")
    ax.set(xscale="log", xlabel="depth L", ylabel="distance of networks (KS)", title="agreement")
    ax.set_ylim(0, 0.075)
    ax.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
    ax.minorticks_off()
    return rows


@click.command(help=__doc__)
@click.option("--width", default=500, show_default=True)
@click.option("--draws", default=3, show_default=True, help="Networks of each kind.")
@click.option("--out", type=Path, default=ROOT / "examples/figures/tarnowski_2019.png")
def main(width: int, draws: int, out: Path) -> None:
    """Draw the figure, print the agreement."""
    canvas = figure.new_figure(12.0, 3.8)
    universal, skipped, distances = canvas.subplots(1, 3)
    rows = draw_universal(universal, width, draws)
    title = f"x + b φ(W x), {DEPTH} layers; {draws} networks of width {width}"
    print_table(title, ["activation", "b", "KS to the universal law"], rows)
    draw_skipped(skipped, width, draws)
    rows = draw_distances(distances, width, draws)
    columns = ["ReLU branch", "depth", "KS to the free product", "KS to the universal law"]
    print_table("The order in the branch", [*columns, "KS to the Dyson equation"], rows)
    print(PARTING)
    for ax in (universal, skipped):
        ax.set(xlabel="singular value σ", xlim=(0, 6), ylim=(0, None))
    for ax in (universal, skipped, distances):
        ax.title.set_fontsize(10)
        ax.legend(fontsize=8, loc="upper right")
        ax.spines[["top", "right"]].set_visible(False)
    canvas.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
