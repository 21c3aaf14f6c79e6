"""``isometry theory``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from ..options import Pair, Shape, activation
from ..output import check_targets, picture, write_record
from .critical import found_point

if TYPE_CHECKING:
    from isometry.wide import WideNetwork


@click.command(
    "theory",
    short_help="Predict the spectrum of an infinitely wide network.",
    epilog="Example:  isometry theory --activation tanh --weights orthogonal --depth 50",
)
@activation
@click.option(
    "--weights",
    type=click.Choice(["gaussian", "orthogonal"]),
    default="gaussian",
    show_default=True,
    help="Ensemble of the weight matrices.",
)
@click.option("--depth", type=int, metavar="L", help="Number of layers; --widths implies it.")
@click.option("--widths", type=Shape(), metavar="N,N,…", help="Widths, the input's first.")
@click.option("--sigma-w", type=float, help="Standard deviation of weights, times √n.")
@click.option("--sigma-b", type=float, help="Standard deviation of biases.")
@click.option("--q-star", type=float, help="The critical point of this variance.")
@click.option("--critical", is_flag=True, help="The critical point (at --sigma-b).  [default]")
@click.option("--input-variance", type=float, help="Mean square of the input.  [default: at q*]")
@click.option("--residual", type=Pair(), metavar="A,B", help="Layers A·x + B·W φ(x).")
@click.option(
    "--points", type=click.IntRange(2, 100_000), default=400, show_default=True, help="Of the grid."
)
@click.option("--json", "json_path", metavar="PATH|-", help="Write it as JSON; - prints it.")
@click.option("--figure", "figure_path", metavar="PATH", help="Draw it: .png, .svg or .pdf.")
def command(json_path: str | None, figure_path: str | None, points: int, **what: Any) -> None:
    """Predict the singular values of a random network by mean-field theory and free probability.

    The network is infinitely wide, of independent random weights and one activation. Without
    --sigma-w it stands at the critical point, where gradients neither vanish nor explode.
    """
    check_targets(json_path, figure_path)
    from isometry.codec import encode

    network, chosen = _network(**what)
    found = network.to_dict(points)
    found["notes"] = [*chosen, *network.notes]
    if figure_path is not None:
        from isometry import figure

        picture(figure_path, lambda ax: figure.law(network.law, ax))
        click.echo(f"figure: {figure_path}", err=True)
    write_record(json_path, "theory", {key: encode(value) for key, value in found.items()})
    if json_path != "-":
        click.echo(_summary(network, found))
    for note in found["notes"]:
        click.echo(f"note: {note}", err=True)


def _network(
    activation: str,
    weights: Any,
    depth: int | None,
    widths: tuple[int, ...] | None,
    sigma_w: float | None,
    sigma_b: float | None,
    q_star: float | None,
    critical: bool,
    input_variance: float | None,
    residual: tuple[float, float] | None,
) -> tuple[WideNetwork, list[str]]:
    from isometry.meanfield import activation as named
    from isometry.wide import WideNetwork

    if depth is None and widths is None:
        raise click.UsageError("give --depth, the number of layers, or --widths, as 784,512,10")
    ways = [w for w, on in (("--sigma-w", sigma_w), ("--q-star", q_star)) if on is not None]
    ways += ["--critical"] if critical else []
    if len(ways) > 1:
        raise click.UsageError(f"{' and '.join(ways)} say two different things: give one of them")
    phi, point, chosen = named(activation), None, list[str]()
    if sigma_w is None:
        if q_star is not None and sigma_b is not None:
            raise click.UsageError("--q-star fixes sigma_b too: leave --sigma-b out")
        point, chosen = found_point(phi, q_star, sigma_b)
        sigma_w, sigma_b = point.sigma_w, point.sigma_b
    network = WideNetwork(
        phi,
        weights,
        len(widths) - 1 if depth is None and widths else depth or 0,
        sigma_w,
        sigma_b or 0.0,
        input_variance=input_variance,
        widths=widths or (),
        residual=residual,
        fixed_point=point,
    )
    return network, chosen


def _summary(network: WideNetwork, found: dict[str, Any]) -> str:
    lines = [network.name, ""]
    lines.append(f"sigma_w {found['sigma_w']:.6g}   sigma_b {found['sigma_b']:.6g}")
    if found["q_star"] is not None:
        lines.append(
            f"q* {found['q_star']:.6g}   chi_1 {found['chi_1']:.6g}   chi_q {found['chi_q']:.6g}"
            f"   {found['phase']}{'' if found['stable'] else ', q* is not stable'}"
        )
        lines.append(f"depth scales: xi_q {_layers(found['xi_q'])}, xi_c {_layers(found['xi_c'])}")
    lines += [
        "",
        f"score       {found['score']:.6g}   (1 is an isometry)",
        f"mean log σ  {found['mean_log_sigma']:.6g}   ({_drift(network, found)} per layer)",
        f"std log σ   {found['std_log_sigma']:.6g}",
        f"largest σ   {_sigma(found['log_sigma_max'])}",
        f"rank        {found['rank_fraction']:.6g} of the directions",
    ]
    zero = [("0", mass) for sigma, mass in found["atoms"] if sigma == 0]
    atoms = [*zero, *((_sigma(place), mass) for place, mass in found["log_atoms"])]
    lines += [f"atom        σ = {sigma}, mass {mass:.6g}" for sigma, mass in atoms]
    return "\n".join(lines)


def _drift(network: WideNetwork, found: dict[str, Any]) -> str:
    return f"{found['mean_log_sigma'] / network.depth:.4g}"


def _sigma(log_sigma: float) -> str:
    return f"e^{log_sigma:.4g}" if abs(log_sigma) > 20 else f"{math.exp(log_sigma):.6g}"


def _layers(depth: float) -> str:
    return "unbounded" if math.isinf(depth) else f"{depth:.4g} layers"
