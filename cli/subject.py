"""What a command is about: a network, from a file or a factory, and its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .checkpoint import checkpoint
from .output import FIRST_RANK, results_only
from .progress import progress_bar

if TYPE_CHECKING:
    from isometry.depth import DepthProfile
    from isometry.report import Report


@dataclass(frozen=True)
class Subject:
    """The command line's description of what to measure and how."""

    path: str | None
    reference: str | None
    kwargs: dict[str, Any] | None
    trust: bool
    inputs: tuple[str, ...]
    input_key: str | None
    shape: tuple[int, ...] | None
    input_scale: float | None
    samples: int
    wrt: str | None
    output: str | None
    start: str | None
    stop: str | None
    at: str | None
    train_mode: bool
    device: str
    dtype: str
    seed: int
    seeds: int | None
    band: int | None
    memory: int | None
    method: str
    probes: int | None
    steps: int | None
    tolerance: float
    budget: float
    checkpoint: str | None
    check_itself: bool

    def __post_init__(self) -> None:
        for name, value in self._names():
            if value == "":
                raise click.UsageError(f"{name} is an empty name: is a variable not set?")
        if self.path is None and self.reference is None:
            raise click.UsageError(
                "nothing to measure: give a model file, or --model pkg.module:factory"
            )
        if self.kwargs is not None and self.reference is None:
            raise click.UsageError("--kwargs are arguments for a factory: give --model as well")
        if self.seeds is not None and (self.reference is None or self.path is not None):
            raise click.UsageError(
                "--seeds draws the weights anew: give --model pkg.module:factory, and no file of "
                "weights"
            )
        if self.inputs and self.shape is not None:
            raise click.UsageError("give --input or --shape, not both")
        if self.inputs and self.input_scale is not None:
            raise click.UsageError("--input-scale is for Gaussian input: give it without --input")
        if self.input_key is not None and len(self.inputs) != 1:
            raise click.UsageError("--input-key names an array of --input FILE: give one such file")
        if len(self.inputs) > 1 and not all(_name_of(f) for f in self.inputs):
            raise click.UsageError("several inputs need names: --input x=a.npy --input mask=b.npy")

    def _names(self) -> list[tuple[str, str | None]]:
        return [
            ("MODEL", self.path),
            *(("--input", f) for f in self.inputs),
            ("--wrt", self.wrt),
            ("--output", self.output),
            ("--start", self.start),
            ("--stop", self.stop),
            ("--at", self.at),
            ("--checkpoint", self.checkpoint),
        ]

    @property
    def input_files(self) -> tuple[str, ...]:
        """The paths of the inputs, without the names of the arguments."""
        return tuple(f.removeprefix(f"{_name_of(f)}=") for f in self.inputs)

    def analyze(self, *, quiet: bool) -> Report:
        """Load the network and its input, and measure."""
        from isometry import analyze

        report: Report = self._by(analyze, quiet=quiet)
        return report

    def layers(self) -> DepthProfile:
        """Load the network and its input, and measure block by block."""
        from isometry import layers

        profile: DepthProfile = self._by(layers, quiet=False)
        return profile

    def _by(self, measure: Callable[..., Any], *, quiet: bool) -> Any:
        # What the user's code prints must not end up in the middle of a result.
        with results_only():
            return self._measure(measure, quiet=quiet)

    def _measure(self, measure: Callable[..., Any], *, quiet: bool) -> Any:
        from isometry.measure import torchrun

        model, named, notes = self._load()
        x, source, choices = self._input()
        with (
            torchrun(),
            progress_bar("measuring", quiet=quiet or not FIRST_RANK) as progress,
            checkpoint(self.checkpoint) as runs,
        ):
            found = measure(
                model,
                x,
                shape=self.shape,
                input_scale=1.0 if self.input_scale is None else self.input_scale,
                samples=self.samples,
                wrt=self.wrt,
                output=self.output,
                start=self.start,
                stop=self.stop,
                at=self.at,
                train_mode=self.train_mode,
                dtype=self.dtype,
                device=self.device,
                seed=self.seed,
                seeds=self.seeds,
                band=self.band,
                memory=self.memory,
                method=self.method,
                probes=self.probes,
                steps=self.steps,
                tolerance=self.tolerance,
                budget=self.budget,
                checkpoint=runs,
                check_itself=self.check_itself,
                progress=progress,
                input_source=source,
            )
        info = replace(found.model, **named)
        return replace(found, model=info, notes=(*notes, *choices, *found.notes))

    def _input(self) -> tuple[Any, str | None, list[str]]:
        """Read the input: one array, or arrays by the names of arguments; and what was chosen."""
        from isometry.load import load_array
        from isometry.load.wording import show

        if not self.inputs:
            return None, None, []
        notes: list[str] = []
        arrays = [
            load_array(path, key=self.input_key, note=notes.append) for path in self.input_files
        ]
        source = ", ".join(show(Path(path).name) for path in self.input_files)
        names = [_name_of(f) for f in self.inputs]
        x = dict(zip(names, arrays, strict=True)) if names[0] else arrays[0]
        return x, source, notes

    def _load(self) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
        """Return the network, or with --seeds its factory; what the report calls it; and notes."""
        from isometry.load import build_model, load_model
        from isometry.load.wording import show

        named = {"name": self.reference, "kind": "factory"}
        if self.seeds is not None:
            return self._factory(), named, ()
        built = None
        if self.reference is not None:
            built = build_model(self.reference, self.kwargs or {}, seed=self.seed)
        if built is not None and self.path is None:
            drawn = f"{show(self.reference)} was built with random numbers of seed {self.seed}"
            return built, named, (f"{drawn}; another with --seed",)
        loaded = load_model(str(self.path), model=built, trust=self.trust, seed=self.seed)
        name = show(Path(str(self.path)).name)
        named = {"name": name, "kind": loaded.kind, "sha256": loaded.sha256}
        return loaded.module, named, loaded.notes

    def _factory(self) -> Callable[[], Any]:
        """Return what builds the network by the seed that torch was given last."""
        import torch

        from isometry.load import build_model

        def build() -> Any:
            seed = (torch.initial_seed() + 2**63) % 2**64 - 2**63  # with its sign
            return build_model(str(self.reference), self.kwargs or {}, seed=seed)

        return build


def _name_of(given: str) -> str:
    """Return NAME of ``NAME=FILE``; empty for a bare file, whose own name may hold a sign."""
    name, equals, _ = given.partition("=")
    return name if equals and name.isidentifier() and not Path(given).exists() else ""
