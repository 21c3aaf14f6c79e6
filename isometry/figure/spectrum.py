"""A report as a picture. Everything is drawn from the report; nothing is computed anew."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from isometry.ensemble import Ensemble
from isometry.figure.style import LINES, MEASURED, THEORY, legend, new_figure, stem
from isometry.histogram import bin_edges, heights
from isometry.report import COLOURS, Prediction, Report, percent, power

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FLOOR = "#BAB0AC"
_BAND = "#59A14F"
_MOST_ADDED = 200  # bins of twins beyond those of the network
_LONGEST_HALF = 40  # characters of a name in the title
_HANDLE = 5.0  # points; the legend's text has 8
_NARROWEST_VIEW = 1.0  # in log σ: what is equal to a few per cent should look equal


def spectrum(report: Report, ax: Axes | None = None, *, bins: int | None = None) -> Axes:
    """Draw the histogram of log σ with the predicted densities over it.

    Bars and curves share one unit, mass per unit of the natural log σ over *all* directions,
    so the bars add up to the resolved mass. Atoms are stems, those at σ = 0 on the left edge;
    their masses are in the legend. The range below the floor is shaded.

    Parameters
    ----------
    report : Report
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure of 6 × 3.8 inches.
    bins : int, optional
        Number of bars.

    Returns
    -------
    matplotlib.axes.Axes
    """
    import seaborn

    if ax is None:
        ax = new_figure().subplots()
    measured = report.spectrum
    edges = bin_edges(measured, bins)
    width = float(edges[1] - edges[0])
    left, right = _limits(report, _extended(edges, report.band))
    top = 1.08 * max(
        float(heights(measured, edges).max(initial=0.0)), *(_peak(p) for p in report.theory), 1e-9
    )
    ax.set_xlim(left, right)
    ax.set_ylim(0, top)
    seaborn.histplot(
        x=np.clip(measured.log_sigma, edges[0], edges[-1]),
        weights=measured.weights / width,
        bins=list(edges),
        stat="count",
        color=MEASURED,
        edgecolor="white",
        linewidth=0.4,
        label=_counted(len(measured.log_sigma)),
        ax=ax,
    )
    if len(measured.log_sigma) and np.ptp(measured.log_sigma) < width:
        at, mass = measured.mean_log, measured.resolved
        label = f"measured: all at σ = {power(at)} (mass {mass:.2g})"
        # Broad, so that it is seen beneath the atom of a law at the same place.
        stem(ax, at, mass, MEASURED, label, breadth=2.5)
    if report.band is not None:
        _draw_band(ax, report.band, edges)
    for prediction in report.theory:
        _draw_prediction(ax, prediction)
    if measured.dead > 0:
        stem(
            ax,
            left + 0.008 * (right - left),
            measured.dead,
            MEASURED,
            f"dead, σ = 0 (mass {measured.dead:.2g})",
        )
    if measured.unresolved > 0 and math.isfinite(measured.log_floor):
        label = f"below the floor (mass {measured.unresolved:.2g})"
        ax.axvspan(left, measured.log_floor, color=_FLOOR, alpha=0.35, lw=0, label=label)
    elif measured.unresolved > 0:
        label = f"lost to rounding (mass {measured.unresolved:.2g})"
        stem(ax, left + 0.03 * (right - left), measured.unresolved, _FLOOR, label)
    ax.axvline(0.0, color="black", lw=0.9, ls=(0, (4, 3)), label="σ = 1", zorder=1)
    _annotate(ax, report)
    return ax


def _counted(count: int) -> str:
    return f"measured ({count} singular value{'' if count == 1 else 's'})"


def _draw_band(ax: Axes, band: Ensemble, edges: np.ndarray[Any, Any]) -> None:
    """Shade from the lowest to the highest of the twins' bars."""
    edges = _extended(edges, band)
    each = np.array([heights(s, edges) for s in band.spectra])
    label = f"{len(each)} twins, lowest to highest"
    ax.stairs(each.max(0), edges, baseline=each.min(0), fill=True, color=_BAND, alpha=0.5,
              label=label)  # fmt: skip


def _extended(edges: np.ndarray[Any, Any], band: Ensemble | None) -> np.ndarray[Any, Any]:
    """Add bins of the same width as far as the twins reach."""
    if band is None:
        return edges
    reached = np.concatenate([edges, *(s.log_sigma for s in band.spectra)])
    width = edges[1] - edges[0]
    below = min(_MOST_ADDED, math.ceil((edges[0] - reached.min()) / width))
    above = min(_MOST_ADDED, math.ceil((reached.max() - edges[-1]) / width))
    return np.asarray(edges[0] + width * np.arange(-below, len(edges) + above))


def _draw_prediction(ax: Axes, prediction: Prediction) -> None:
    if any(prediction.density):
        colour, line = LINES.get(prediction.name, (THEORY, "-"))
        judged = f", {prediction.judgement.word}" if prediction.judgement else ""
        label = f"{prediction.name} (KS {prediction.ks:.3f}{judged})"
        ax.plot(prediction.grid, prediction.density, color=colour, ls=line, lw=1.8, label=label)
    for sigma, mass in prediction.atoms:
        # Atoms at zero stand beside the measured dead mass, not on it.
        left, right = ax.get_xlim()
        x = math.log(sigma) if sigma > 0 else left + 0.02 * (right - left)
        colour = LINES.get(prediction.name, (THEORY, "-"))[0]
        stem(ax, x, mass, colour, f"{prediction.name}: atom at σ = {sigma:.3g} (mass {mass:.2g})")


def _peak(prediction: Prediction) -> float:
    """Height worth showing: a density that diverges at an edge must not squash the bars."""
    density = np.array(prediction.density)
    return min(float(density.max()), 3 * float(np.quantile(density, 0.9))) if len(density) else 0.0


def _limits(report: Report, edges: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Cover the bars, σ = 1, the bulk of every law, and the floor when mass lies below it."""
    points = [float(edges[0]), float(edges[-1]), 0.0]
    for prediction in report.theory:
        points += [math.log(s) for s, _ in prediction.atoms if s > 0]
        if prediction.grid:
            points += [prediction.grid[-1], max(prediction.grid[0], points[0] - 2)]
    if report.spectrum.unresolved > 0 and math.isfinite(report.spectrum.log_floor):
        points.append(report.spectrum.log_floor - 1)
    extent = max(points) - min(points)
    margin = max(0.04 * extent, 0.5 * (_NARROWEST_VIEW - extent))
    return min(points) - margin, max(points) + margin


def _annotate(ax: Axes, report: Report) -> None:
    ax.set_xlabel("log σ  (natural)")
    ax.set_ylabel("mass per unit log σ")
    _entitle(ax, report)
    ax.spines[["top", "right"]].set_visible(False)
    legend(ax)
    _slim_handles(ax)


def _entitle(ax: Axes, report: Report) -> None:
    """Write name, score and verdict; of a long name as much as does not run into the verdict."""
    name, score, status = report.model.name, report.score, report.verdict.status
    rest = f": score {score.value:.3g}, {percent(score.dead)} dead"
    verdict = ax.set_title(
        status, fontsize=10, loc="right", color=COLOURS[status], fontweight="bold"
    )
    room = ax.bbox.width - verdict.get_window_extent().width
    # A file's name may hold $, and signs that the font lacks.
    title = ax.set_title(name + rest, fontsize=10, loc="left", parse_math=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for kept in range(min(len(name) // 2, _LONGEST_HALF), 0, -1):
            if title.get_window_extent().width < room:
                break
            title.set_text(f"{name[:kept]}…{name[-kept:]}{rest}")


def _slim_handles(ax: Axes) -> None:
    """Draw stems in the legend no broader than its text is high, whatever they are outside it."""
    from matplotlib.lines import Line2D

    legend = ax.get_legend()
    for handle in legend.legend_handles if legend is not None else ():
        if isinstance(handle, Line2D):
            handle.set_markersize(min(handle.get_markersize(), _HANDLE))
            handle.set_linewidth(min(handle.get_linewidth(), _HANDLE / 2))
