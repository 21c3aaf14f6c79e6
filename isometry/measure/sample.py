"""Inputs measured one after the other; of each only what a report needs is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from isometry.errors import MeasurementError
from isometry.jacobian import Jacobian, self_check
from isometry.jacobian.placement import chosen_device, chosen_dtype
from isometry.measure.exact import exact
from isometry.measure.options import Options, Progress
from isometry.report import InputInfo, JacobianInfo
from isometry.spectrum import Spectrum, pooled
from isometry.trust import SelfCheck


@dataclass(frozen=True)
class Sample:
    """What was measured at one input, or at several together.

    Attributes
    ----------
    spectra : tuple of Spectrum
        One for each input.
    input : InputInfo
        Shape of the first; root mean square over all.
    jacobian : JacobianInfo
        Of the first; with the largest rank and the worst self-check of all.
    notes : tuple of str
        What was chosen or changed for the measurement.
    """

    spectra: tuple[Spectrum, ...]
    input: InputInfo
    jacobian: JacobianInfo
    notes: tuple[str, ...]

    @cached_property
    def spectrum(self) -> Spectrum:
        """All spectra as one measure."""
        return pooled(self.spectra)

    @property
    def trustworthy(self) -> bool:
        """Whether the self-check passed (or was switched off)."""
        check = self.jacobian.self_check
        return check is None or check.passed


def sample(
    model: Callable[..., Any], inputs: Sequence[Any], options: Options, *, source: str = "given"
) -> Sample:
    """Measure a network at each of several inputs.

    Parameters
    ----------
    model : torch.nn.Module or callable
    inputs : sequence
        At least one, each as `Jacobian` takes it.
    options : Options
    source : str
        What the report calls the inputs.

    Returns
    -------
    Sample

    Raises
    ------
    MemoryBudgetError
        If a Jacobian does not fit.
    MeasurementError
        If a Jacobian is not finite, or zero.
    """
    place, notes = chosen_device(options.device)
    options = replace(options, device=place, dtype=chosen_dtype(options.dtype))
    each = [
        _at(model, x, replace(options, progress=_share(options.progress, i, len(inputs))), source)
        for i, x in enumerate(inputs)
    ]
    together = _together(each)
    return replace(together, notes=(*notes, *together.notes))


def _together(each: list[Sample]) -> Sample:
    first = each[0]
    if len(each) == 1:
        return first
    checks = [s.jacobian.self_check for s in each if s.jacobian.self_check is not None]
    return Sample(
        spectra=tuple(spectrum for s in each for spectrum in s.spectra),
        input=replace(
            first.input,
            samples=len(each),
            rms=(sum(s.input.rms**2 for s in each) / len(each)) ** 0.5,
        ),
        jacobian=replace(
            first.jacobian,
            rank=max(s.jacobian.rank for s in each),
            self_check=max(checks, key=lambda c: (len(c.failures), c.kink), default=None),
        ),
        notes=tuple(dict.fromkeys(note for s in each for note in s.notes)),
    )


def _at(model: Callable[..., Any], x: Any, options: Options, source: str) -> Sample:
    """Measure at one input; what takes memory ends with this call."""
    jacobian = Jacobian(
        model,
        x,
        **asdict(options.selection),
        dtype=options.dtype,
        device=options.device,
        memory=options.memory,
        self_check=False,
    )
    spectrum, rank, check = _checked(jacobian, options)
    mean_square = float(jacobian.x.cpu().double().square().mean())
    return Sample(
        spectra=(spectrum,),
        input=InputInfo(source, tuple(jacobian.x.shape), 1, mean_square**0.5),
        jacobian=JacobianInfo(
            shape=jacobian.shape,
            rank=rank,
            dtype=str(jacobian.dtype).removeprefix("torch."),
            device=str(jacobian.device),
            self_check=check,
        ),
        notes=(*jacobian.notes, *_remarks(jacobian.shape, rank, check)),
    )


def _remarks(shape: tuple[int, int], rank: int, check: SelfCheck | None) -> list[str]:
    found = []
    if rank < min(shape):
        found.append(
            f"the narrowest layer leaves {rank} directions; the zeros that it forces are not "
            "counted"
        )
    if check is None:
        found.append("the self-check was switched off: wrong derivatives would go unnoticed")
    elif check.passed and check.difference_error is None:
        found.append(
            "finite differences cannot tell whether the derivative is right: it is below their "
            "rounding noise, or they do not converge; the other tests of the self-check ran"
        )
    return found


def _checked(jacobian: Jacobian, options: Options) -> tuple[Spectrum, int, SelfCheck | None]:
    """Measure and check; where a route of differentiation is wrong, again by the next one."""
    # One context around all: leaving and entering it costs as much as a small network.
    with jacobian.session():
        while True:
            spectrum, rank, check, suspect = _tried(jacobian, options)
            if not suspect:
                return spectrum, rank, check
            if not jacobian.descend(suspect):
                # Nothing but finite differences is left: measured by them, and no verdict.
                with suppress(MeasurementError):
                    unchecked = replace(options, check_itself=False)
                    spectrum, rank, _, _ = _tried(jacobian, unchecked)
                return spectrum, rank, check


def _tried(jacobian: Jacobian, options: Options) -> tuple[Spectrum, int, SelfCheck | None, str]:
    """Measure by the routes in use; return also the direction that the self-check suspects."""
    m = exact(jacobian, progress=options.progress)
    rank = m.bottleneck.width
    if not options.check_itself:
        return m.spectrum, rank, None, ""
    check, suspect = self_check(jacobian, m.dense, seed=options.seed)
    return m.spectrum, rank, check, suspect or ""


def _share(progress: Progress | None, i: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction: progress((i + fraction) / total)
