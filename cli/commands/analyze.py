"""``isometry analyze``."""

from __future__ import annotations

from typing import Any

import click

from ..options import results, subject
from ..results import Results
from ..subject import Subject


@click.command(
    "analyze",
    short_help="Measure how isometric a network is, and say what is wrong.",
    epilog="Example:  isometry analyze model.pt --input batch.npy --samples 8 --figure out.svg",
)
@subject
@results
@click.option("-q", "--quiet", is_flag=True, help="Print the verdict only.")
def command(
    json_path: str | None,
    figure_path: str | None,
    fail_under: float | None,
    quiet: bool,
    **what: Any,
) -> int:
    """Measure the singular values of MODEL's input-output Jacobian, and say what they mean.

    MODEL is a file: a whole module, a state dict or checkpoint (with --model), or safetensors.
    No code from the file is run unless you --trust it. Without --input or --shape, Gaussian
    input is used where the first layer makes its shape unambiguous.
    """
    wanted = Results(json_path, figure_path, fail_under)
    return wanted.of(Subject(**what), quiet=quiet, gated=fail_under is not None)
