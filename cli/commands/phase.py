"""``isometry phase``."""

from __future__ import annotations

import math

import click

from ..options import Pair, activation
from ..output import check_targets, picture, write_record


@click.command(
    "phase",
    short_help="Draw the phase diagram of an activation.",
    epilog="Example:  isometry phase --activation tanh --figure phase.png",
)
@activation
@click.option("--sigma-w", type=Pair(), default=(0.5, 3.0), show_default="0.5,3", metavar="FROM,TO")
@click.option("--sigma-b", type=Pair(), default=(0.0, 0.5), show_default="0,0.5", metavar="FROM,TO")
@click.option(
    "--points", type=click.IntRange(2, 400), default=40, show_default=True, help="Per axis."
)
@click.option("--json", "json_path", metavar="PATH|-", help="Write it as JSON; - prints it.")
@click.option("--figure", "figure_path", metavar="PATH", help="Draw it: .png, .svg or .pdf.")
def command(
    activation: str,
    sigma_w: tuple[float, float],
    sigma_b: tuple[float, float],
    points: int,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """Where signals die out, where they turn chaotic, and the critical line between.

    Depth scales over the plane of σ_w and σ_b: a network of more than about 6 ξ_c layers
    cannot be trained.
    """
    check_targets(json_path, figure_path)
    if json_path is None and figure_path is None:
        raise click.UsageError("say where the diagram goes: --figure phase.png, or --json -")
    for option, (first, last) in {"--sigma-w": sigma_w, "--sigma-b": sigma_b}.items():
        if not 0.0 <= first < last < math.inf:
            raise click.UsageError(
                f"{option} is {first:g},{last:g}: give an increasing range from 0 up, as 0.5,3"
            )
    import numpy as np

    from isometry import figure
    from isometry.codec import encode
    from isometry.meanfield import phase_diagram

    diagram = phase_diagram(
        activation, np.linspace(*sigma_w, points), np.linspace(*sigma_b, points)
    )
    if figure_path is not None:
        picture(figure_path, lambda ax: figure.phase(diagram, ax))
        click.echo(f"figure: {figure_path}", err=True)
    write_record(json_path, "phase diagram", encode(diagram))
