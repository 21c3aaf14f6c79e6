"""Singular values against depth, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from isometry.depth import DepthProfile, Layer
from isometry.figure.style import MEASURED, THEORY, new_figure
from isometry.report import power
from isometry.spectrum import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What `Figure.subplots` makes of them.
DEPTH_PANELS: dict[str, Any] = {"nrows": 2, "sharex": True, "height_ratios": (3, 1)}
_NAMED = 14  # so many blocks can be named on the axis
_LONGEST = 18  # characters of a name
_DECADE = 1 / math.log(10)
_FLOOR = "#BAB0AC"


def depth(profile: DepthProfile, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the quantiles of σ and the size of the signal behind every block.

    Above: of J from the input to behind each block, 5 to 95 % and 25 to 75 % of the singular values
    as ribbons, their median and their root mean square as lines, on a logarithmic axis; behind
    them, the same by theory, in red. A ribbon that runs off the lower edge holds dead or unresolved
    directions. Below: the mean square of
    the signal.

    Parameters
    ----------
    profile : DepthProfile
    axes : two matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    sequence of matplotlib.axes.Axes
    """
    if axes is None:
        axes = new_figure(6.0, 4.6).subplots(**DEPTH_PANELS)
    above, below = axes
    layers = profile.layers
    measured = {i: s.log_quantiles for i, a in enumerate(layers, 1) if (s := a.cumulative)}
    expected = {i: layer.expected for i, layer in enumerate(layers, 1) if layer.expected}
    gains = _DECADE * np.array([0.0, *(layer.log_gain for layer in layers)])
    floors = _DECADE * np.array([_hidden_below(layer) for layer in layers])
    above.set_ylim(_limits([gains, floors, *map(_decades, (measured, expected))]))
    _ribbons(above, expected, THEORY, f"theory: {profile.theory}", "--", edges=True)
    _ribbons(above, measured, MEASURED, "5–95 %, 25–75 % and median of σ", "-")
    places = np.arange(len(gains))
    above.plot(places, _finite(gains), color="black", lw=1.2, label="gain √E[σ²]", zorder=3)
    if np.isfinite(floors).any():
        above.plot(places[1:], _finite(floors), color=_FLOOR, lw=2, label="floor", zorder=2)
    above.axhline(0.0, color="black", lw=0.9, ls=(0, (4, 3)), zorder=1)
    _style(above, "σ from the input on")
    above.legend(loc="best", fontsize=8, edgecolor="none")
    title = f"{profile.model.name}: gain {power(layers[-1].log_gain)} from input to output"
    above.set_title(title, fontsize=10, loc="left", parse_math=False)  # a name may hold $
    sizes = np.array([profile.mean_square, *(layer.mean_square for layer in layers)])
    with np.errstate(divide="ignore"):
        below.plot(places, _finite(np.log10(sizes)), color=MEASURED, lw=1.5)
    _style(below, "signal²")
    _name(below, profile)
    return axes


def _decades(quantiles: dict[int, tuple[float, ...]]) -> Array:
    return _DECADE * np.array(list(quantiles.values()), dtype=float)


def _limits(values: Sequence[Array]) -> tuple[float, float]:
    """Cover what is finite, and σ = 1; at least a quarter of a decade."""
    known = np.concatenate([[0.0], *(v[np.isfinite(v)] for v in values)])
    extent = float(np.ptp(known))
    margin = max(0.05 * extent, 0.5 * (0.25 - extent))
    return float(known.min()) - margin, float(known.max()) + margin


def _hidden_below(layer: Layer) -> float:
    """Log σ below which nothing is known, where a ribbon runs into it; else -∞."""
    s = layer.cumulative
    return s.log_floor if s and s.unresolved and s.log_quantiles[0] == -math.inf else -math.inf


def _ribbons(
    ax: Axes,
    quantiles: dict[int, tuple[float, ...]],
    color: str,
    label: str,
    line: str,
    *,
    edges: bool = False,
) -> None:
    """Draw quantiles from the identity at the input on; `edges` as thin lines too."""
    if not quantiles:
        return
    places = np.array([0, *quantiles])
    values = np.vstack([np.zeros(5), _decades(quantiles)])
    filled = np.maximum(values, ax.get_ylim()[0])
    style: Any = {"color": color, "lw": 0, "zorder": 1 if edges else 2}
    ax.fill_between(places, filled[:, 0], filled[:, 4], alpha=0.18, **style)
    ax.fill_between(places, filled[:, 1], filled[:, 3], alpha=0.1 if edges else 0.35, **style)
    ax.plot(places, _finite(values[:, 2]), line, color=color, lw=1.5, label=label, zorder=3)
    if edges:
        ax.plot(places, _finite(values[:, [0, 1, 3, 4]]), line, color=color, lw=0.7, zorder=3)


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)


def _style(ax: Axes, label: str) -> None:
    """Write decades as a logarithmic axis would; σ of a deep network leaves what that can hold."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low, high = ax.get_ylim()
    whole = high - low > 2
    if whole:
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    else:
        steps = np.log10([1, 2, 5]) if high - low > 0.5 else np.log10(np.arange(1, 10, 0.1))
        ticks = np.add.outer(np.arange(math.floor(low), math.ceil(high)), steps).ravel()
        seen = ticks[(ticks >= low) & (ticks <= high)]
        ax.set_yticks(seen[:: max(1, len(seen) // 6)])
    ax.yaxis.set_major_formatter(FuncFormatter(_power if whole else _number))
    ax.set_ylabel(label)
    ax.spines[["top", "right"]].set_visible(False)


def _power(decades: float, _: object) -> str:
    return f"$10^{{{decades:.0f}}}$"


def _number(decades: float, _: object) -> str:
    return f"{10**decades:.3g}"


def _name(ax: Axes, profile: DepthProfile) -> None:
    count = len(profile.layers)
    ax.set_xlim(0, count)
    if count > _NAMED:
        ax.set_xlabel("block")
        return
    names = ["input", *(layer.name for layer in profile.layers)]
    short = [n if len(n) <= _LONGEST else f"…{n[1 - _LONGEST :]}" for n in names]
    ax.set_xticks(range(count + 1), short, fontsize=8, parse_math=False)
    if sum(map(len, short)) > 5 * _NAMED:
        ax.tick_params(axis="x", rotation=45)
        for tick in ax.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
