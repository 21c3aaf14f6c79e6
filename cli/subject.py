"""What a command is about: a network, from a file or a factory, and its input."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .progress import progress_bar

if TYPE_CHECKING:
    from isometry.report import ModelInfo, Report


@dataclass(frozen=True)
class Subject:
    """The command line's description of what to measure and how."""

    path: str | None
    reference: str | None
    kwargs: dict[str, Any] | None
    trust: bool
    input_path: str | None
    input_key: str | None
    shape: tuple[int, ...] | None
    input_scale: float
    samples: int
    device: str
    dtype: str
    seed: int
    memory: int | None
    check_itself: bool

    def __post_init__(self) -> None:
        for name, value in (("MODEL", self.path), ("--input", self.input_path)):
            if value == "":
                raise click.UsageError(f"{name} is an empty name: is a variable not set?")
        if self.path is None and self.reference is None:
            raise click.UsageError(
                "nothing to measure: give a model file, or --model pkg.module:factory"
            )
        if self.kwargs is not None and self.reference is None:
            raise click.UsageError("--kwargs are arguments for a factory: give --model as well")
        if self.input_path is not None and self.shape is not None:
            raise click.UsageError("give --input or --shape, not both")
        if self.input_key is not None and self.input_path is None:
            raise click.UsageError("--input-key names an array of --input FILE: give that as well")

    def analyze(self, *, quiet: bool) -> Report:
        """Load the network and its input, and measure."""
        # What the user's code prints must not end up in the middle of a result.
        with redirect_stdout(sys.stderr):
            return self._analyze(quiet=quiet)

    def _analyze(self, *, quiet: bool) -> Report:
        from isometry import analyze
        from isometry.load import load_array
        from isometry.load.wording import show

        model, info, notes = self._load()
        x = None if self.input_path is None else load_array(self.input_path, key=self.input_key)
        with progress_bar("measuring", quiet=quiet) as progress:
            report = analyze(
                model,
                x,
                shape=self.shape,
                input_scale=self.input_scale,
                samples=self.samples,
                dtype=self.dtype,
                device=self.device,
                seed=self.seed,
                memory=self.memory,
                check_itself=self.check_itself,
                progress=progress,
                model_info=info,
                input_source=None if self.input_path is None else show(Path(self.input_path).name),
            )
        return replace(report, notes=(*notes, *report.notes))

    def _load(self) -> tuple[Any, ModelInfo, tuple[str, ...]]:
        from isometry.analysis import describe
        from isometry.load import build_model, load_model
        from isometry.load.wording import show

        built = None if self.reference is None else build_model(self.reference, self.kwargs or {})
        if built is not None and self.path is None:
            return built, describe(built, name=self.reference, kind="factory"), ()
        loaded = load_model(str(self.path), model=built, trust=self.trust)
        info = describe(loaded.module, name=show(Path(str(self.path)).name), kind=loaded.kind)
        return loaded.module, replace(info, sha256=loaded.sha256), loaded.notes
