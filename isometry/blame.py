"""What becomes of signals with depth, and which block is to blame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from isometry.depth import Layer, Rate
from isometry.report import Finding, percent, power

# |log gain| at which sech(2·) has fallen to a half: the score is mostly lost to it.
_NOTABLE = 0.5 * math.acosh(2)
_NOTHING = 0.01  # a loss below this, of all blocks together, is none
_SIBLINGS = 3  # fewer do not tell what is usual among them
_ALIKE = 2.5  # the largest loss among siblings, over the usual one


def rates(
    layers: Sequence[Layer],
    gains: Sequence[float | None],
    drifts: Sequence[float | None],
) -> tuple[Rate, ...]:
    """By how much log gain and mean log σ grow per layer, from the first layer to the last.

    Of the layers behind which as many directions are left as behind most: a narrower layer, as that
    of the logits often is, leaves fewer, and moves the mean without any growth.

    Steps from layer to layer are random and add up: their mean is the best estimate of the slope,
    of which that of a straight line through the sums would be too sure.

    Parameters
    ----------
    layers : sequence of Layer
    gains, drifts : sequence of float or None
        Log gain and mean log σ from the input to behind each block, by theory; None where unknown.
    """
    known = [layer.cumulative for layer in layers]
    resolved = [None if s is None or s.unresolved else s.drift for s in known]
    found = [
        _rate("log gain", layers, [layer.log_gain for layer in layers], gains),
        _rate("mean log σ", layers, resolved, drifts),
    ]
    return tuple(rate for rate in found if rate is not None)


def _rate(
    quantity: str,
    layers: Sequence[Layer],
    values: Sequence[float | None],
    expected: Sequence[float | None],
) -> Rate | None:
    depths = np.cumsum([layer.mixes for layer in layers])
    left = np.minimum.accumulate([min(layer.shape) for layer in layers])
    known = [
        i
        for i, (layer, value) in enumerate(zip(layers, values, strict=True))
        if layer.mixes and value is not None and math.isfinite(value)
    ]
    most = max(left[known], key=list(left[known]).count, default=0)
    at = [i for i in known if left[i] == most]
    if len(at) < _SIBLINGS:
        return None
    x, y = depths[at], np.array([values[i] for i in at], dtype=float)
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    scatter = (np.diff(y) - slope * np.diff(x)) ** 2 / np.diff(x)
    error = math.sqrt(scatter.sum() / (len(scatter) - 1) / (x[-1] - x[0]))
    first, last = expected[at[0]], expected[at[-1]]
    theory = None if first is None or last is None else float((last - first) / (x[-1] - x[0]))
    return Rate(quantity, float(slope), error, theory)


def conclusions(
    layers: Sequence[Layer], rates: Sequence[Rate], theory: str, findings: Sequence[Finding]
) -> tuple[str, ...]:
    """Say what becomes of signals, and which block is to blame.

    Parameters
    ----------
    layers : sequence of Layer
    rates : sequence of Rate
    theory : str
        Where their expected values come from.
    findings : sequence of Finding
        What is odd about some of the layers.
    """
    end = next((layer.name for layer in layers if layer.log_gain == -math.inf), None)
    if end is not None:
        return (f"nothing gets through: J = 0 from the input to behind {end!r}",)
    growth = [_growth(rate, theory) for rate in rates]
    return _signals(layers, rates), *growth, _blamed(layers, bool(findings))


def _signals(layers: Sequence[Layer], rates: Sequence[Rate]) -> str:
    log_gain = layers[-1].log_gain
    if abs(log_gain) < _NOTABLE:
        return f"signals keep their size: the gain from input to output is {power(log_gain)}"
    verb = "vanish: they shrink" if log_gain < 0 else "explode: they grow"
    rate = math.copysign(1.0, log_gain) * rates[0].measured if rates else 0.0
    each = f", {power(rate)} per layer" if rates and rate > 2 * rates[0].error else ""
    return f"signals {verb} by a factor of {power(abs(log_gain))} from input to output{each}"


def _growth(rate: Rate, theory: str) -> str:
    beside = "" if rate.expected is None else f" ({theory}: {rate.expected:+.4f})"
    return f"{rate.quantity} per layer: {rate.measured:+.4f} ± {rate.error:.4f}{beside}"


def _blamed(layers: Sequence[Layer], odd: bool) -> str:
    """Name the block that takes most of the isometry, or its kind where siblings are alike."""
    total = sum(layer.loss for layer in layers)
    if total < _NOTHING:
        return "no block takes anything from the isometry"
    worst = max(layers, key=lambda layer: layer.loss)
    group = [a for a in layers if (a.kind, a.shape) == (worst.kind, worst.shape)]
    usual = sorted(group, key=lambda layer: layer.loss)[len(group) // 2]
    if len(group) >= _SIBLINGS and worst.loss <= _ALIKE * usual.loss:
        share = percent(sum(layer.loss for layer in group) / total)
        kind, size = _kind(worst), " × ".join(map(str, worst.shape))
        said = "no layer costs more than its siblings" if odd else "every layer is alike"
        return (
            f"{said}: the {len(group)} {kind}s of {size} take {share} of the "
            f"isometry lost, each about {_parts(usual)}"
        )
    return (
        f"{worst.name!r} contributes most: {percent(worst.loss / total)} of the isometry lost by "
        f"the blocks, {_parts(worst)}"
    )


def _parts(layer: Layer) -> str:
    own = layer.own
    return f"drift {own.drift:+.3f}, spread {own.spread:.3f}, {percent(own.dead)} dead"


def _kind(layer: Layer) -> str:
    return "block" if layer.kind in ("sum", "opaque", "routing") else layer.kind
