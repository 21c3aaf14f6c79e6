"""``isometry layers``."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import click

from ..options import subject
from ..output import FIRST_RANK, check_targets, picture, write_record
from ..subject import Subject

if TYPE_CHECKING:
    from isometry.depth import DepthProfile, Layer

_ROWS = 60  # of longer tables the middle is left out
_COLUMNS = (
    ("block", "kind", "shape"),
    ("drift", "spread", "dead", "gain", "score"),
    ("gain from input", "drift", "spread", "dead", "score"),
    ("gain to output", "mean square"),
)


@click.command(
    "layers",
    short_help="Follow an input through a network: which block is to blame.",
    epilog="Example:  isometry layers model.pt --shape 3,32,32 --plot depth.png",
)
@subject
@click.option(
    "--json", "json_path", metavar="PATH|-", help="Write the record as JSON; - prints it."
)
@click.option(
    "--plot",
    "--figure",
    "figure_path",
    metavar="PATH",
    help="Draw σ against depth: .png, .svg or .pdf.",
)
def command(json_path: str | None, figure_path: str | None, **what: Any) -> None:
    """Measure every block of MODEL alone, and all that lies before and behind it.

    Of each block: drift and spread (mean and deviation of log σ), dead share, gain and score of
    its own Jacobian; the same from the input to behind it; the gain from before it to the output;
    and the mean square of the signal behind it.
    """
    subject = Subject(**what)
    check_targets(json_path, figure_path, subject.path, *subject.input_files)
    from isometry import render

    found = subject.layers()
    if not FIRST_RANK:
        return
    if figure_path is not None:
        from isometry import figure

        picture(figure_path, lambda axes: figure.depth(found, axes), **figure.DEPTH_PANELS)
        click.echo(f"figure: {figure_path}", err=True)
    write_record(json_path, "layers", found.to_dict())
    if json_path != "-":
        click.echo("\n".join([*found.conclusions, *map(render.finding, found.findings), ""]))
        click.echo(_table(found))
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


def _table(found: DepthProfile) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for group in _COLUMNS:
        for i, name in enumerate(group):
            words = group is _COLUMNS[0]
            table.add_column(
                name, justify="left" if words else "right", no_wrap=True, max_width=32 if i else 40
            )
    layers, left_out = found.layers, len(found.layers) - _ROWS
    for i, layer in enumerate(layers):
        if left_out <= 0 or i < _ROWS // 2 or i >= len(layers) - _ROWS // 2:
            table.add_row(*map(Text, _row(layer)))
        elif i == _ROWS // 2:
            table.add_row(Text(f"… {left_out} more (--json)"))
    # As wide as it takes: a pipe has no width, and numbers that are cut off are wrong. Not printed
    # by rich, which would end the process where the reader of a pipe has gone.
    console = Console(file=io.StringIO(), width=1000, highlight=False)
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().splitlines())


def _row(layer: Layer) -> list[str]:
    from isometry.report import percent, power

    own, far = layer.own, layer.cumulative
    gain = power(layer.log_gain)
    if layer.log_gain_error:
        gain += f" ± {layer.log_gain_error:.0%}"
    cells = [layer.name, layer.kind, " × ".join(map(str, layer.shape))]
    for s, rms in ((own, power(own.log_gain)), (far, gain)):
        if s is None:
            cells += [rms, "", "", "", ""]
            continue
        lost = s.dead + s.unresolved > 1 - 1e-9  # and nothing left to say
        drift, spread = ("", "") if lost else (f"{s.drift:+.3f}", f"{s.spread:.3f}")
        if s is own:
            cells += [drift, spread, percent(s.dead), rms, f"{s.score:.3f}"]
        else:
            cells += [rms, drift, spread, percent(s.dead), f"{s.score:.3f}"]
    return [*cells, power(layer.onward), f"{layer.mean_square:.3g}"]
