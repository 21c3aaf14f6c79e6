"""Xiao et al. 2018: the phase diagram of tanh networks, and what convolutions do to each frequency.

One figure has the depth scale ξ_c over the variances of weights and biases, and the critical line.
The other has random convolutional networks on a circle of 16 positions: covariances between
positions go through layers with three variance profiles over the kernel, and their Fourier modes m
decay like (χ_c λ_m)^l. A uniform kernel leaves only the mean over space; a delta kernel, as in
delta-orthogonal initialisation, keeps all frequencies. Lines are theory, dots networks.

    python examples/xiao_2018.py    # 15 seconds; writes figures/xiao_2018_*.png

L. Xiao, Y. Bahri, J. Sohl-Dickstein, S. S. Schoenholz and J. Pennington, Dynamical isometry and a
mean field theory of CNNs: how to train 10,000-layer vanilla convolutional neural networks,
ICML 2018.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.random_networks import print_table  # noqa: E402
from isometry import figure  # noqa: E402
from isometry.meanfield import (  # noqa: E402
    covariance_map,
    critical_point,
    fourier_modes,
    mode_depth_scales,
    operating_point,
    phase_diagram,
    variance_profile,
)
from isometry.wide import WideNetwork  # noqa: E402

POSITIONS = 16
MODES = range(1, POSITIONS // 2 + 1)
SHOWN = (1, 2, 4, 8)
SIGMA_W, SIGMA_B = 2.5**0.5, 0.05**0.5  # chaotic: all correlations tend to c* = 0.45
DEPTH = 16
SIGNAL = 3.0  # standard errors that an amplitude must have to be fitted
PROFILES = {
    "uniform": variance_profile("uniform", 3),
    "0.05, 0.9, 0.05": variance_profile([0.05, 0.9, 0.05]),
    "delta": variance_profile("delta", 3),
}

PARTING = """
Where they part. (χ_c |λ_m|)^l is the theory of small deviations; these start at 90 % of what is
possible, which the full covariance map follows ("fit to theory"). Fast modes drown after a few
layers in the fluctuations of order 1/√channels. And depth is not isometry: at the point where the
paper trains 10,000 layers ξ_c is unbounded, but log σ spreads over ± 8.2."""


@dataclass(frozen=True)
class Decay:
    """What is left of each mode after each layer; arrays of shape (DEPTH, modes)."""

    theory: np.ndarray
    measured: np.ndarray  # mean over networks
    error: np.ndarray  # its standard error

    def seen(self, mode: int) -> np.ndarray:
        """Layers before a mode first drowns in the noise."""
        return np.flatnonzero(np.cumprod(self.measured[:, mode] > SIGNAL * self.error[:, mode]))

    def rate(self, mode: int, curve: np.ndarray) -> float:
        """Factor per layer that fits a curve where the networks show the mode's tail."""
        layers = self.seen(mode)
        layers = layers[2:] if len(layers) > 5 else layers
        certain = self.measured[layers, mode] / self.error[layers, mode]
        return float(np.exp(np.polyfit(layers, np.log(curve[layers, mode]), 1, w=certain)[0]))


def start(mode: int) -> np.ndarray:
    """Covariance of a signal whose correlations vary in space with one frequency.

    h_a = √q* (√c_a g + √(1 - c_a) e_a) with one g for all positions and e_a fresh for each.
    """
    point = operating_point("tanh", SIGMA_W, SIGMA_B)
    q, c = point.q_star, point.c_star
    wave = np.cos(2 * np.pi * mode * np.arange(POSITIONS) / POSITIONS)
    common = np.sqrt(c + 0.9 * min(c, 1 - c) * wave)
    covariance = q * np.outer(common, common)
    np.fill_diagonal(covariance, q)
    return covariance


def amplitude(mode: int, covariances: np.ndarray) -> np.ndarray:
    """What is left of a mode: Σ(a, a + d) along a, for all d ≠ 0, projected on the start."""
    rows, wave = np.arange(POSITIONS), np.exp(2j * np.pi * mode * np.arange(POSITIONS) / POSITIONS)
    first, *found = (
        np.array([wave @ c[rows, (rows + d) % POSITIONS] for d in range(1, POSITIONS)])
        for c in [start(mode), *covariances]
    )
    return np.array([np.vdot(first, f).real for f in found]) / np.vdot(first, first).real


def predicted(mode: int, profile: np.ndarray) -> np.ndarray:
    """Amplitudes after each layer by the full covariance map."""
    covariances = [start(mode)]
    for _ in range(DEPTH - 1):
        covariances.append(covariance_map("tanh", covariances[-1], SIGMA_W, SIGMA_B, profile))
    return amplitude(mode, np.array(covariances))


def one_network(profile: np.ndarray, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Amplitudes in one network, which is given a signal for each mode; shape (DEPTH, modes)."""
    noise = rng.standard_normal((len(MODES), channels, POSITIONS))
    h = np.stack([x @ np.linalg.cholesky(start(m)).T for m, x in zip(MODES, noise, strict=True)])
    found = []
    for _ in range(DEPTH):
        found.append(np.swapaxes(h, 1, 2) @ h / channels)
        x, h = np.tanh(h), SIGMA_B * rng.standard_normal((channels, 1))
        for offset, v in zip((-1, 0, 1), profile, strict=True):
            if v > 0:
                kernel = rng.standard_normal((channels, channels)) * (v / channels) ** 0.5
                h = h + SIGMA_W * kernel @ np.roll(x, -offset, axis=2)
    each = np.stack(found, axis=1)
    return np.stack([amplitude(m, c) for m, c in zip(MODES, each, strict=True)], axis=1)


def decay(profile: np.ndarray, channels: int, draws: int) -> Decay:
    """Theory beside networks; a mode with λ_m < 0 changes sign in every layer, which is undone."""
    theory = np.stack([predicted(m, profile) for m in MODES], axis=1)
    seeds = [np.random.default_rng([2018, k]) for k in range(draws)]
    each = np.sign(theory) * np.array([one_network(profile, channels, rng) for rng in seeds])
    return Decay(np.abs(theory), each.mean(axis=0), each.std(axis=0, ddof=1) / draws**0.5)


def draw_modes(found: dict[str, Decay], path: Path) -> None:
    """Draw amplitudes against depth for each profile, and the depth scale of each mode."""
    import seaborn

    canvas = figure.new_figure(10.0, 5.6)
    grid = canvas.add_gridspec(2, 3)
    colors = seaborn.color_palette("viridis", len(SHOWN))
    chi = operating_point("tanh", SIGMA_W, SIGMA_B).chi_c
    for column, (name, decayed) in enumerate(found.items()):
        ax = canvas.add_subplot(grid[0, column])
        for m, color in zip(SHOWN, colors, strict=True):
            ax.semilogy(decayed.theory[:, m - 1], color=color, label=f"m = {m}")
            seen = decayed.seen(m - 1)
            dots, bars = decayed.measured[seen, m - 1], decayed.error[seen, m - 1]
            ax.errorbar(seen, dots, bars, fmt="o", ms=3.5, color=color)
        ax.set(xlabel="layer l", ylim=(3e-3, 1.5), xlim=(-0.5, DEPTH - 0.5))
        ax.set_title(f"kernel variances: {name}", fontsize=10)
        if column == 0:
            ax.set_ylabel("amplitude of mode m")
        if column == 2:
            ax.legend(fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    ax = canvas.add_subplot(grid[1, :])
    for name, decayed in found.items():
        scales = mode_depth_scales(chi, PROFILES[name], POSITIONS)[: POSITIONS // 2 + 1]
        (line,) = ax.plot(range(len(scales)), scales, label=name)
        fits = [-1 / np.log(decayed.rate(m - 1, decayed.measured)) for m in MODES]
        ax.plot(MODES, fits, "o", color=line.get_color())
    ax.set(xlabel="Fourier mode m of 16 positions", ylabel=r"depth scale $\xi_m$ in layers")
    ax.legend(title="kernel variances", fontsize=8, title_fontsize=8, loc="center right")
    ax.set_ylim(0, None)
    ax.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=100)


def draw_phase(path: Path) -> None:
    """Draw the phase diagram over the variances, with the critical line."""
    diagram = phase_diagram("tanh", np.linspace(0.5, 4, 51) ** 0.5, np.linspace(0, 0.5, 41))
    squared = {k: getattr(diagram, k) ** 2 for k in ("sigma_w", "sigma_b", "critical_sigma_w")}
    ax = figure.phase(replace(diagram, **squared))
    ax.set(xlabel=r"$\sigma_w^2$", ylabel=r"$\sigma_b^2$")
    ax.text(0.55, 0.22, "ordered:\ngradients vanish", color="white", fontsize=9, va="center")
    ax.text(2.7, 0.15, "chaotic:\ngradients explode", color="white", fontsize=9, va="center")
    ax.figure.savefig(path, dpi=110)


def print_operating_point() -> None:
    """What the spectrum is where the paper trains 10,000 layers, by the exact law of the chain."""
    point = critical_point("tanh", sigma_b=2.01e-5**0.5)
    rows: list[list[object]] = []
    for depth in (10, 100, 1000, 10_000):
        law = WideNetwork("tanh", "orthogonal", depth, point.sigma_w, point.sigma_b).law
        rows.append([depth, law.mean_log_sigma, law.std_log_sigma, law.support[1], law.score])
    title = f"Critical tanh at σ_b² = 2.01e-5, q* = {point.q_star:.5f}, delta-orthogonal"
    print_table(title, ["depth", "mean log σ", "std log σ", "log σ_max", "score"], rows)


@click.command(help=__doc__)
@click.option("--channels", default=300, show_default=True)
@click.option("--draws", default=24, show_default=True, help="Networks of each kind.")
@click.option("--out", type=Path, default=ROOT / "examples/figures", help="Folder.")
def main(channels: int, draws: int, out: Path) -> None:
    """Send signals through networks, compare, draw."""
    found = {name: decay(profile, channels, draws) for name, profile in PROFILES.items()}
    chi = operating_point("tanh", SIGMA_W, SIGMA_B).chi_c
    rows = []
    for name, decayed in found.items():
        modes = fourier_modes(PROFILES[name], POSITIONS).real
        for m in SHOWN:
            line, dots = decayed.theory, decayed.measured
            fits = [decayed.rate(m - 1, curve) for curve in (line, dots)]
            rows.append([name, m, float(modes[m]), float(chi * abs(modes[m])), *fits])
    columns = ["profile", "m", "λ_m", "χ_c |λ_m|", "fit to theory", "fit to networks"]
    title = f"Factor per layer of Fourier modes; {draws} networks of {channels} channels"
    print_table(title, columns, rows)
    print_operating_point()
    print(PARTING)
    draw_modes(found, out / "xiao_2018_modes.png")
    draw_phase(out / "xiao_2018_phase.png")


if __name__ == "__main__":
    main()
