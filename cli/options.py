"""Options that several commands share, defined once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


# Bare, since ParamType takes a parameter only in later releases of click.
class Shape(click.ParamType):
    """A shape such as ``3,32,32``."""

    name = "shape"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(v) for v in str(value).replace("x", ",").split(","))
        except ValueError:
            self.fail(f"{value!r} is not a shape: write sizes as 3,32,32", param, ctx)
        if any(s < 1 for s in sizes):
            self.fail(
                f"{value!r} has no elements: give sizes of at least 1, as 3,32,32", param, ctx
            )
        return sizes


class Pair(click.ParamType):
    """Two numbers such as ``1,0.5``."""

    name = "pair"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            first, second = (float(v) for v in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a pair of numbers: write it as 1,0.5", param, ctx)
        return first, second


class Activation(click.ParamType):
    """The name of an activation; a callable, which the library takes too, has none here."""

    name = "activation"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        from isometry.errors import TheoryError
        from isometry.meanfield import activation

        try:
            activation(value)
        except TheoryError as e:
            self.fail(str(e).removesuffix("; any callable works too"), param, ctx)
        return str(value)


class Kwargs(click.ParamType):
    """A JSON object such as ``{"depth": 50}``."""

    name = "json"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            read = json.loads(value)
        except (ValueError, RecursionError) as e:
            self.fail(
                f"{value!r:.200} is not JSON ({e}): write an object like '{{\"depth\": 50}}'",
                param,
                ctx,
            )
        if not isinstance(read, dict):
            self.fail(
                f"{value!r:.200} is not a JSON object: write it like '{{\"depth\": 50}}'",
                param,
                ctx,
            )
        return read


class Score(click.FloatRange):
    """A score, in [0, 1]; NaN is in no range and click would let it pass."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        score = float(super().convert(value, param, ctx))
        if math.isnan(score):
            self.fail("nan is not in the range 0<=x<=1.", param, ctx)
        return score


class Memory(click.ParamType):
    """A size such as ``4GB``."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        from isometry.errors import InputError
        from isometry.memory import parse_size

        try:
            return parse_size(str(value))
        except InputError as e:
            self.fail(str(e), param, ctx)


_SUBJECT = (
    click.argument("path", metavar="[MODEL]", required=False),
    click.option(
        "--model",
        "reference",
        metavar="PKG.MODULE:FACTORY",
        help="Build the network with this callable; MODEL, if given, holds its weights. The "
        "working directory is importable.",
    ),
    click.option("--kwargs", type=Kwargs(), metavar="JSON", help="Arguments for the factory."),
    click.option(
        "--trust",
        is_flag=True,
        help="Run the code inside MODEL. Only for files whose origin you vouch for.",
    ),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="[NAME=]FILE",
        help="Measure at this input: .npy, .npz, .pt, .safetensors, .csv, .png or .jpg; again "
        "with NAME= for each of several arguments.",
    ),
    click.option("--input-key", metavar="NAME", help="Which array of FILE."),
    click.option("--shape", type=Shape(), metavar="C,H,W", help="Gaussian input of this shape."),
    click.option(
        "--input-scale",
        type=float,
        help="Standard deviation of Gaussian input.  [default: 1]",
    ),
    click.option(
        "--samples",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Inputs to measure; their spread is reported.",
    ),
    click.option("--wrt", metavar="NAME", help="Differentiate by this argument."),
    click.option("--output", metavar="NAME", help="Measure this part of the output, as logits."),
    click.option(
        "--start",
        "--from",
        "start",
        metavar="LAYER",
        help="Measure from the input of this layer.",
    ),
    click.option(
        "--stop", "--to", "stop", metavar="LAYER", help="Measure to the output of this layer."
    ),
    click.option(
        "--at",
        metavar="OUT[/IN]",
        help="Measure at these positions: 3 is the fourth token, ':,-1 / :,0' two indices.",
    ),
    click.option(
        "--train-mode",
        is_flag=True,
        help="Measure in training mode, dropout frozen to one mask.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N."),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float64", "float32"]),
        default="auto",
        show_default=True,
        help="Precision; auto is float64 where the network runs in it.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(1 - 2**63, 2**63 - 1),
        default=0,
        show_default=True,
        help="For Gaussian input, a network built by --model, and the self-check.",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(min=1),
        metavar="N",
        help="Build the network of --model N times, with seeds from --seed on; their spread is "
        "reported.",
    ),
    click.option(
        "--band",
        type=click.IntRange(min=2),
        metavar="N",
        help="Measure N twins as well, their weights turned at random; the figure shows the band.",
    ),
    click.option(
        "--memory",
        type=Memory(),
        metavar="SIZE",
        help="Memory allowed, as 4GB; by default half of the device's.",
    ),
    click.option(
        "--method",
        type=click.Choice(["auto", "exact", "quadrature", "product"]),
        default="auto",
        show_default=True,
        help="Every singular value; or their distribution from random probes; or, of a chain of "
        "layers, every singular value however small or large, from the product of its stages; "
        "auto takes the first where it fits --memory and --budget, and the last for what the "
        "first leaves unresolved.",
    ),
    click.option("--probes", type=click.IntRange(min=1), help="Random directions of quadrature."),
    click.option("--steps", type=click.IntRange(min=1), help="Length of its Krylov runs."),
    click.option(
        "--tolerance",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.01,
        show_default=True,
        help="Half the width of the 95 % interval of its score.",
    ),
    click.option(
        "--budget",
        type=click.FloatRange(0, min_open=True),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Time that every singular value may take.",
    ),
    click.option(
        "--checkpoint",
        metavar="FILE",
        help="Keep finished blocks of probes here, and go on from those that are there.",
    ),
    click.option(
        "--no-self-check",
        "check_itself",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Skip the test of the derivatives; the report says so.",
    ),
)

_RESULTS = (
    click.option(
        "--json", "json_path", metavar="PATH|-", help="Write the report as JSON; - prints it."
    ),
    click.option("--figure", "figure_path", metavar="PATH", help="Draw it: .png, .svg or .pdf."),
    click.option(
        "--fail-under",
        type=Score(),
        metavar="SCORE",
        help="Exit with 1 when the score is lower.",
    ),
)


activation = click.option(
    "--activation",
    type=Activation(),
    required=True,
    metavar="NAME",
    help="tanh, relu, gelu, …",
)


def subject(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what is measured, and how."""
    return _apply(_SUBJECT, command)


def results(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add where results go, and the gate."""
    return _apply(_RESULTS, command)


def _apply(options: tuple[Decorator, ...], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command
