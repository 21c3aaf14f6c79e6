"""Schoenholz et al. 2017: over how many layers signals forget their lengths and their angles.

Tanh networks at σ_b² = 0.05, on both sides of the critical point. Lines are mean-field theory, dots
random networks: pairs of inputs that differ in length, and pairs with a given correlation, are sent
through the same weights. The depth scales ξ_q and ξ_c are fitted to what is left of the difference.

    python examples/depth_scales.py    # a minute; writes figures/depth_scales.png

S. S. Schoenholz, J. Gilmer, S. Ganguli and J. Sohl-Dickstein, Deep information propagation,
ICLR 2017.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.random_networks import print_table, weight  # noqa: E402
from isometry import figure  # noqa: E402
from isometry.meanfield import c_map, critical_point, operating_point, q_map  # noqa: E402

SIGMA_B = 0.05**0.5
SHOWN = (1.0, 1.4, 2.5, 4.0)  # σ_w² whose decay is drawn layer by layer
SCANNED = (1.0, 1.2, 1.4, 1.6, 2.1, 2.5, 3.0, 3.5, 4.0)
PAIRS = 40  # of inputs to one network
RATIO = 2.0  # of the variances of two inputs that differ in length
STEP = 0.4  # by which the correlations of two pairs differ, at most
TAIL = 0.3  # of the first difference: there it decays exponentially
SIGNAL = 3.0  # standard errors that a difference must have to be fitted

PARTING = """
Where they part. Lengths: theory has them forget exponentially for ever; in a finite network two
inputs also differ in direction, and a remnant of order 1/√n of that difference decays over ξ_c
instead of ξ_q. Angles: next to the critical point (σ_w² = 1.76) a decay starts algebraically, so
that a fit over tens of layers, to theory or to networks, is not yet at ξ_c."""


@dataclass(frozen=True)
class Decay:
    """What is left of a difference after each layer, over its first value."""

    theory: np.ndarray
    measured: np.ndarray  # mean over networks
    error: np.ndarray  # its standard error

    @property
    def seen(self) -> int:
        """Layers before the difference first drowns in the noise."""
        lost = self.measured < SIGNAL * self.error
        return int(np.argmax(lost)) if np.any(lost) else len(lost)


def starts(c_star: float) -> tuple[float, float]:
    """Two correlations around c*; where c* = 1 one pair has two equal inputs."""
    step = STEP if c_star == 1.0 else min(STEP, 0.8 * (1.0 - c_star), 0.8 * c_star)
    return c_star - step, min(c_star + step, 1.0)


def partners(one: np.ndarray, c: float, rng: np.random.Generator) -> np.ndarray:
    """Vectors of mean square 1 with correlation c to those given, columns of shape (n, PAIRS)."""
    other = rng.standard_normal(one.shape)
    other -= one * np.mean(one * other, axis=0)
    other /= np.sqrt(np.mean(other**2, axis=0))
    return c * one + np.sqrt(1 - c * c) * other


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine of the angle between columns."""
    norms = np.sqrt(np.mean(a**2, axis=0) * np.mean(b**2, axis=0))
    return float(np.mean(np.mean(a * b, axis=0) / norms))


def measure(
    sigma_w: float, q: float, cs: tuple[float, float], n: int, depth: int, rng: np.random.Generator
) -> np.ndarray:
    """Differences of variances and of correlations in one network, shape (2, depth)."""
    one = rng.standard_normal((n, PAIRS))
    one /= np.sqrt(np.mean(one**2, axis=0))
    columns = [one, *(partners(one, c, rng) for c in cs), RATIO**0.5 * one]
    h = np.sqrt(q) * np.concatenate(columns, axis=1)
    found = np.empty((2, depth))
    for layer in range(depth):
        a, low, high, longer = np.split(h, 4, axis=1)
        found[0, layer] = np.mean(longer**2) - np.mean(a**2)
        found[1, layer] = correlation(a, high) - correlation(a, low)
        bias = SIGMA_B * rng.standard_normal((n, 1))
        h = weight("gaussian", n, sigma_w, rng) @ np.tanh(h) + bias
    return found


def expected(sigma_w: float, q: float, cs: tuple[float, float], depth: int) -> np.ndarray:
    """The same by mean-field theory."""
    lengths, angles = np.empty((depth, 2)), np.empty((depth, 2))
    lengths[0], angles[0] = (q, RATIO * q), cs
    for layer in range(1, depth):
        for k in range(2):
            lengths[layer, k] = q_map("tanh", lengths[layer - 1, k], sigma_w, SIGMA_B)
            angles[layer, k] = c_map("tanh", angles[layer - 1, k], q, sigma_w, SIGMA_B)
    return np.stack([np.diff(lengths)[:, 0], np.diff(angles)[:, 0]])


def decays(sigma_w: float, n: int, draws: int, depth: int) -> dict[str, Decay]:
    """Theory beside networks, for the length and for the correlation."""
    point = operating_point("tanh", sigma_w, SIGMA_B)
    cs = starts(point.c_star)
    theory = expected(sigma_w, point.q_star, cs, depth)
    seeds = [[2017, draw, round(1000 * sigma_w)] for draw in range(draws)]
    every = np.array(
        [measure(sigma_w, point.q_star, cs, n, depth, np.random.default_rng(s)) for s in seeds]
    )
    mean, error = every.mean(axis=0), every.std(axis=0, ddof=1) / draws**0.5
    return {
        key: Decay(theory[k] / theory[k, 0], mean[k] / theory[k, 0], error[k] / theory[k, 0])
        for k, key in enumerate(("length", "correlation"))
    }


def fitted_scale(decay: Decay, curve: np.ndarray) -> float:
    """ξ of the exponential that fits a curve where the networks show the tail of the decay."""
    layers = np.arange(decay.seen)
    tail = layers[decay.theory[: decay.seen] < TAIL]
    layers = tail if len(tail) >= 3 else layers[-3:]
    certain = decay.measured[layers] / decay.error[layers]
    return -1 / float(np.polyfit(layers, np.log(curve[layers]), 1, w=certain)[0])


def draw(found: dict[float, dict[str, Decay]], fits: dict[float, dict[str, float]], path: Path):
    """Draw decays above, depth scales below."""
    import seaborn

    colors = dict(zip(SHOWN, seaborn.color_palette("viridis", len(SHOWN)), strict=True))
    canvas = figure.new_figure(9.0, 6.4)
    axes = canvas.subplots(2, 2)
    names = {"length": (r"$q^l$", r"$\xi_q$"), "correlation": (r"$c^l$", r"$\xi_c$")}
    scan = np.concatenate([np.linspace(0.85, 1.74, 40), np.linspace(1.78, 4.2, 60)])
    points = [operating_point("tanh", w2**0.5, SIGMA_B) for w2 in scan]
    critical = critical_point("tanh", sigma_b=SIGMA_B).sigma_w ** 2
    for column, (key, (signal, scale)) in enumerate(names.items()):
        above, below = axes[0, column], axes[1, column]
        for w2 in SHOWN:
            decay = found[w2][key]
            layers = np.arange(len(decay.theory))
            above.semilogy(layers, decay.theory, color=colors[w2], label=rf"$\sigma_w^2$ = {w2:g}")
            seen = layers[: decay.seen]
            above.errorbar(
                seen, decay.measured[seen], decay.error[seen], fmt="o", ms=3.5, color=colors[w2]
            )
        above.set(xlabel="layer l", ylim=(1e-3, 1.5), xlim=(-0.5, (14, 45)[column]))
        above.set_ylabel(f"difference of {signal} from two starts")
        above.legend(fontsize=8, loc="upper right")
        theory = [p.xi_q if key == "length" else p.xi_c for p in points]
        below.plot(scan, theory, color="black", lw=1.5, label="mean field")
        below.plot(list(fits), [f[key] for f in fits.values()], "o", label="fitted to networks")
        alike = [fitted_scale(found[w2][key], found[w2][key].theory) for w2 in fits]
        below.plot(list(fits), alike, "x", color="black", label="fitted to theory alike")
        below.axvline(critical, color="#D1495B", ls="--", lw=1, label=r"critical, $\chi_1$ = 1")
        below.set(xlabel=r"$\sigma_w^2$", ylabel=f"depth scale {scale} in layers")
        below.set_ylim(0, (2.5, 60)[column])
        below.legend(fontsize=8, loc="upper right")
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    canvas.suptitle(
        r"tanh networks, Gaussian weights, $\sigma_b^2$ = 0.05: lines are theory, "
        "dots random networks",
        fontsize=10,
    )
    canvas.savefig(path, dpi=110)


@click.command(help=__doc__)
@click.option("--width", default=500, show_default=True)
@click.option("--draws", default=16, show_default=True, help="Networks of each kind.")
@click.option("--depth", default=60, show_default=True)
@click.option("--out", type=Path, default=ROOT / "examples/figures/depth_scales.png")
def main(width: int, draws: int, depth: int, out: Path) -> None:
    """Send signals through networks, compare, draw."""
    found = {w2: decays(w2**0.5, width, draws, depth) for w2 in sorted({*SHOWN, *SCANNED})}
    fits = {
        w2: {key: fitted_scale(d, d.measured) for key, d in decay.items()}
        for w2, decay in found.items()
    }
    rows: list[list[object]] = []
    for w2, fit in fits.items():
        p = operating_point("tanh", w2**0.5, SIGMA_B)
        row: list[object] = [f"{w2:g}", p.phase]
        for key, scale in (("length", p.xi_q), ("correlation", p.xi_c)):
            decay = found[w2][key]
            row += [scale, fitted_scale(decay, decay.theory), fit[key]]
        rows.append(row)
    columns = ["σ_w²", "phase", "ξ_q", "fit to theory", "fit to networks"]
    columns += ["ξ_c", "fit to theory", "fit to networks"]
    print_table(f"Depth scales in layers; {draws} networks of width {width}", columns, rows)
    print(PARTING)
    draw(found, fits, out)


if __name__ == "__main__":
    main()
