"""What every figure shares: colours, stems for point masses, and room for the legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURED, THEORY = "#4C78A8", "#D1495B"
# Colours that stay apart for every eye, and lines that stay apart in print.
LINES = {
    "mean field": (THEORY, "-"),
    "free product": ("#2A2A2A", "--"),
    "free skips": ("#E69F00", "-."),
    "correlated skips": ("#009E73", ":"),
}
_STEM = 0.9  # height of the whole mass, as a share of the axis without the legend


def new_figure(width: float = 6.0, height: float = 3.8) -> Figure:
    """Return an empty figure that belongs to no window and no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def stem(ax: Axes, x: float, mass: float, color: str, label: str, breadth: float = 1.0) -> None:
    """Draw a point mass; its height is its share of the axis, since it has no density."""
    high = _STEM * mass * ax.get_ylim()[1]
    style: Any = {"color": color, "lw": 2.4 * breadth, "ms": 5 * breadth, "marker": "o"}
    ax.plot([x, x], [0, high], markevery=[1], label=label, **style)


def legend(ax: Axes) -> None:
    """Draw the legend above everything, on axes made higher by as much as it takes."""
    size = 8.0
    legend = ax.legend(loc="upper left", fontsize=size, edgecolor="none", borderaxespad=0.2)
    height = size * (1.5 * len(legend.get_texts()) + 1.5)  # in points, as is the next
    available = 72 * ax.bbox.height / ax.figure.dpi
    ax.set_ylim(0, ax.get_ylim()[1] / (1 - min(height / available, 0.6)))
