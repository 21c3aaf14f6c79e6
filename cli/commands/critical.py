"""``isometry critical``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from ..options import activation
from ..output import check_target, write_record

if TYPE_CHECKING:
    from isometry.meanfield import Activation, OperatingPoint

_USUAL_SIGMA_B = 0.05  # of a critical point that nobody chose


@click.command(
    "critical",
    short_help="Find the weights at which gradients neither vanish nor explode.",
    epilog="Example:  isometry critical --activation tanh --sigma-b 0.05",
)
@activation
@click.option("--sigma-b", type=float, help="Standard deviation of biases.")
@click.option("--q-star", type=float, help="Variance of the pre-activations.")
@click.option("--json", "json_path", metavar="PATH|-", help="Write it as JSON; - prints it.")
def command(
    activation: str, sigma_b: float | None, q_star: float | None, json_path: str | None
) -> None:
    """Find the critical point of an activation: σ_w with χ₁ = 1, and how stable it is.

    W has entries of variance σ_w²/n, or is σ_w times orthogonal. --sigma-b or --q-star say
    where on the critical line; ReLU and its like have one critical point and need neither.
    """
    check_target(json_path)
    from isometry.codec import encode
    from isometry.meanfield import activation as named
    from isometry.meanfield import trainable_depth

    if sigma_b is not None and q_star is not None:
        raise click.UsageError("--sigma-b and --q-star each fix the other: give one of them")
    point, chosen = found_point(named(activation), q_star, sigma_b)
    write_record(json_path, "critical", encode(point))
    if json_path != "-":
        click.echo(_summary(point, trainable_depth(point.xi_c)))
    for note in (*chosen, *point.notes):
        click.echo(f"note: {note}", err=True)


def found_point(
    phi: Activation, q_star: float | None, sigma_b: float | None
) -> tuple[OperatingPoint, list[str]]:
    """The critical point that was asked for, and a note where nobody said which."""
    from isometry.meanfield import critical_point

    notes = []
    if q_star is None and sigma_b is None and phi.homogeneous is None:
        sigma_b = _USUAL_SIGMA_B
        notes.append(f"critical point at sigma_b = {sigma_b:g} (auto): another with --sigma-b")
    return critical_point(phi, q_star=q_star, sigma_b=sigma_b), notes


def _summary(p: Any, trainable: float) -> str:
    return "\n".join(
        [
            f"{p.activation}: critical at sigma_w {p.sigma_w:.9g}, sigma_b {p.sigma_b:.9g}",
            "",
            f"q*     {p.q_star:.9g}   variance of the pre-activations, "
            f"{'stable' if p.stable else 'not stable'}",
            f"chi_1  {p.chi_1:.9g}   growth of gradients per layer, σ_w² E φ′²",
            f"chi_q  {p.chi_q:.9g}   growth of a deviation from q* per layer",
            f"xi_q   {_settling(p.xi_q)}",
            f"xi_c   {_layers(p.xi_c)}, over which inputs stay distinguishable",
            f"depth that can be trained, about 6 xi_c: {_layers(trainable)}",
        ]
    )


def _settling(xi_q: float) -> str:
    if xi_q < 0:
        return f"{-xi_q:.4g} layers, over which the variance leaves q*"
    return f"{_layers(xi_q)}, over which the variance settles at q*"


def _layers(depth: float) -> str:
    return "any number of layers" if math.isinf(depth) else f"{depth:.4g} layers"
