"""Inputs measured one after the other; of each only what a report needs is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isometry.errors import InputError, MeasurementError
from isometry.jacobian import Jacobian, Selection, self_check
from isometry.jacobian.bottleneck import bottleneck
from isometry.jacobian.function import weights_not_finite
from isometry.jacobian.modules import modules_of, unwrap
from isometry.jacobian.placement import chosen_device, chosen_dtype, dtype_name
from isometry.jacobian.shards import are_sharded
from isometry.measure.chain import multiplied
from isometry.measure.exact import exact
from isometry.measure.fingerprint import fingerprint
from isometry.measure.intervals import uncertainty
from isometry.measure.method import choose, too_dear
from isometry.measure.options import Options, Progress
from isometry.measure.parts import parts
from isometry.measure.quadrature import Quadrature, Run, quadrature
from isometry.measure.ranks import Ranks
from isometry.measure.stages import Stage, stages_of
from isometry.part import Part
from isometry.report import InputInfo, JacobianInfo, percent
from isometry.spectrum import Spectrum, pooled
from isometry.trust import SelfCheck
from isometry.uncertainty import Uncertainty


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
    quadratures : tuple of Quadrature
        One for each input, where spectra were estimated.
    networks : int
        How many were measured at the same inputs; the spectra of the first come first.
    parts : tuple of Part
        Of the network at the first input, for theory; none where it could not be followed.
    twins : tuple of Spectrum
        Of copies whose weights were turned at random.
    """

    spectra: tuple[Spectrum, ...]
    input: InputInfo
    jacobian: JacobianInfo
    notes: tuple[str, ...]
    quadratures: tuple[Quadrature, ...] = ()
    networks: int = 1
    parts: tuple[Part, ...] = ()
    twins: tuple[Spectrum, ...] = ()

    @cached_property
    def spectrum(self) -> Spectrum:
        """All spectra as one measure."""
        return pooled(self.spectra)

    @cached_property
    def by_input(self) -> list[Spectrum]:
        """One for each input, of all networks."""
        inputs = len(self.spectra) // self.networks
        return [pooled(self.spectra[i::inputs]) for i in range(inputs)]

    @cached_property
    def by_network(self) -> list[Spectrum]:
        """One for each network, of all inputs."""
        inputs = len(self.spectra) // self.networks
        starts = range(0, len(self.spectra), inputs)
        return [pooled(self.spectra[i : i + inputs]) for i in starts]

    @cached_property
    def uncertainty(self) -> Uncertainty | None:
        """How sure the numbers are; None where they are exact."""
        return uncertainty(self.quadratures, self.spectrum) if self.quadratures else None

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
    sharded = are_sharded(modules_of(model))
    # Where an infinite weight saturates a unit, the numbers would look healthy.
    if not sharded and (bad := weights_not_finite(unwrap(model), masks=True)):
        raise MeasurementError(bad)
    jobs = [
        partial(
            _at,
            model,
            x,
            replace(options, progress=share(options.progress, i, len(inputs))),
            source,
        )
        for i, x in enumerate(inputs)
    ]
    # Only the first rank writes a checkpoint, and has to know every block of probes; of a sharded
    # network all ranks run each pass.
    together = _together(_done(jobs, sharded or options.checkpoint is not None))
    cut, why = _cut(model, inputs[0], options) if options.theory else ([], [])
    return replace(together, notes=(*notes, *together.notes, *why), parts=tuple(cut))


def _done(jobs: Sequence[Callable[[], Sample]], together: bool) -> list[Sample]:
    """Measure at all inputs: dealt to the ranks if there are enough, else shared one by one."""
    ranks = Ranks()
    if not together and len(jobs) >= ranks.size:
        return ranks.deal(jobs)
    return [job() for job in jobs]


def joined(networks: Sequence[Sample]) -> Sample:
    """Join what several networks gave at the same inputs."""
    first, together = networks[0].input, _together(networks)
    return replace(together, input=first, networks=len(networks), parts=networks[0].parts)


def _together(each: Sequence[Sample]) -> Sample:
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
        quadratures=tuple(quadrature for s in each for quadrature in s.quadratures),
    )


def _at(model: Callable[..., Any], x: Any, options: Options, source: str) -> Sample:
    """Measure at one input; what takes memory ends with this call."""
    jacobian = _jacobian(model, x, options)
    if options.method == "product":
        found, check = _by_stages(jacobian, stages_of(jacobian), options)
    else:
        found, check = _by_method(jacobian, options)
    mean_square = float(jacobian.x.cpu().double().square().mean())
    return Sample(
        spectra=(found.spectrum,),
        input=InputInfo(source, tuple(jacobian.x.shape), 1, mean_square**0.5),
        jacobian=JacobianInfo(
            shape=jacobian.shape,
            rank=found.rank,
            dtype=dtype_name(jacobian.dtype),
            device=str(jacobian.device),
            self_check=check,
        ),
        notes=(*jacobian.notes, *found.notes, *_remarks(jacobian.shape, found.rank, check)),
        quadratures=found.quadratures,
    )


def _jacobian(model: Callable[..., Any], x: Any, options: Options) -> Jacobian:
    return Jacobian(
        model,
        x,
        **asdict(options.selection),
        dtype=options.dtype,
        device=options.device,
        memory=options.memory,
        self_check=False,
    )


def _cut(model: Callable[..., Any], x: Any, options: Options) -> tuple[list[Part], list[str]]:
    """Cut the network into parts for theory, or say why that is not possible."""
    try:
        return parts(_jacobian(model, x, options), budget=options.budget), []
    except MeasurementError as why:
        return [], [f"no theory: {why}"]


def _remarks(shape: tuple[int, int], rank: int, check: SelfCheck | None) -> list[str]:
    found = []
    if rank < min(shape):
        found.append(
            f"the narrowest layer leaves {rank} of {min(shape)} directions; the zeros that it "
            "forces are not counted"
        )
    if check is None:
        found.append("the self-check was switched off: wrong derivatives would go unnoticed")
    elif check.passed and check.difference_error is None:
        found.append(
            "finite differences cannot tell whether the derivative is right: it is below their "
            "rounding noise, or they do not converge; the other tests of the self-check ran"
        )
    return found


class _Found(NamedTuple):
    spectrum: Spectrum
    rank: int
    quadratures: tuple[Quadrature, ...] = ()
    notes: tuple[str, ...] = ()


_Checked = tuple[_Found, SelfCheck | None]
_Method = Callable[[Jacobian, Options], tuple[_Found, Tensor | None]]


def _by_method(jacobian: Jacobian, options: Options) -> _Checked:
    """Measure by the dense Jacobian or by probes; "auto" does not end where float64 does."""
    try:
        found, check = _checked(jacobian, options)
    except MeasurementError as e:
        why = f"the dense Jacobian cannot be measured ({str(e).split(':')[0]})"
        if (product := _beyond(jacobian, options, why)) is None:
            raise
        return product
    lost = found.spectrum.unresolved
    if not lost or found.quadratures or (check is not None and not check.passed):
        return found, check
    why = f"{percent(lost)} of the directions are below the floor of the dense Jacobian"
    return _beyond(jacobian, options, why, lost) or (found, check)


def _beyond(
    jacobian: Jacobian, options: Options, why: str, lost: float = math.inf
) -> _Checked | None:
    """Multiply the stages, where "auto" may, that is a chain, and less than `lost` stays lost."""
    if options.method != "auto" or options.selection != Selection():
        return None
    with suppress(InputError, MeasurementError):
        stages = stages_of(jacobian)
        if len(stages) == 1 or jacobian.dtype != torch.float64:
            return None
        shapes = [s.shape for s in stages]
        if dear := Ranks().agreed(
            lambda: too_dear(jacobian, shapes, options.budget, options.memory)
        ):
            jacobian.note(
                f"{why}; the product of the stages (--method product) might say, but {dear}"
            )
            return None
        found, check = _by_stages(jacobian, stages, options)
        if found.spectrum.unresolved < lost:
            why = f"{why}: the singular values are from the product of {len(stages)} stages (auto)"
            return found._replace(notes=(why, *found.notes)), check
    return None


def _by_stages(jacobian: Jacobian, stages: Sequence[Stage], options: Options) -> _Checked:
    """Multiply the stages of a chain; what the structure proves of its rank holds here too."""
    chain = multiplied(
        jacobian,
        stages,
        memory=options.memory,
        self_check=options.check_itself,
        seed=options.seed,
        progress=options.progress,
    )
    resolved = len(chain.log_sigma)
    if not resolved:
        raise MeasurementError(
            "the output does not depend on the input differentiably (J = 0): every unit of a layer "
            "may be dead; try another input"
        )
    width, alive = chain.rank, round((1 - chain.dead) * chain.rank)
    if resolved < width:  # full rank needs no proof from the structure
        caps = bottleneck(jacobian)
        if resolved <= caps.alive:  # else the bounds are contradicted
            width, alive = min(width, caps.width), min(alive, caps.alive)
    spectrum = Spectrum(
        log_sigma=chain.log_sigma,
        weights=np.full(resolved, 1 / width),
        unresolved=(alive - resolved) / width,
        dead=(width - alive) / width,
        method="graded product",
    )
    return _Found(spectrum, width, notes=chain.notes), chain.self_check


def _checked(jacobian: Jacobian, options: Options) -> _Checked:
    """Measure and check; where a route of differentiation is wrong, again by the next one."""
    # One context around all: leaving and entering it costs as much as a small network.
    with jacobian.session():
        method = _method(jacobian, options)
        while True:
            found, check, suspect = _tried(method, jacobian, options)
            if not suspect:
                return found, check
            if not jacobian.descend(suspect):
                # Nothing but finite differences is left: measured by them, and no verdict.
                with suppress(MeasurementError):
                    found = method(jacobian, options)[0]
                return found, check


def _tried(
    method: _Method, jacobian: Jacobian, options: Options
) -> tuple[_Found, SelfCheck | None, str]:
    """Measure by the routes in use; return also the direction that the self-check suspects."""
    found, dense = method(jacobian, options)
    if not options.check_itself:
        return found, None, ""
    return found, *self_check(jacobian, dense, seed=options.seed)


def _method(jacobian: Jacobian, options: Options) -> _Method:
    if options.method == "auto":
        # By the clock and the memory of one: ranks that chose apart would wait for each other.
        chosen, why = Ranks().agreed(lambda: choose(jacobian, options.budget, options.memory))
        if why:
            jacobian.note(f"the spectrum is estimated (auto): {why}")
    else:
        chosen = options.method
    return _exactly if chosen == "exact" else _by_probes


def _exactly(jacobian: Jacobian, options: Options) -> tuple[_Found, Tensor]:
    m = exact(jacobian, progress=options.progress)
    return _Found(m.spectrum, m.bottleneck.width), m.dense


def _by_probes(jacobian: Jacobian, options: Options) -> tuple[_Found, None]:
    kept, each = _checkpointed(jacobian, options)
    q = quadrature(
        jacobian,
        probes=options.probes,
        steps=options.steps,
        tolerance=options.tolerance,
        seed=options.seed,
        caps=bottleneck(jacobian),
        kept=kept,
        each=each,
        progress=options.progress,
    )
    if q.stopped:
        jacobian.note(f"interrupted: {q.measure.probes} probes were through, and are what follows")
    return _Found(q.spectrum, q.directions, (q,)), None


def _checkpointed(
    jacobian: Jacobian, options: Options
) -> tuple[Sequence[Run], Callable[[Run], None] | None]:
    """Return the runs that a checkpoint holds, and how to add one."""
    if options.checkpoint is None:
        return (), None
    study, point = fingerprint(jacobian, options)
    kept = options.checkpoint.kept(study, point)
    if kept:
        jacobian.note(f"resumed: {len(kept)} blocks of probes came from the checkpoint")
    return kept, partial(options.checkpoint.keep, point)


def share(progress: Progress | None, i: int, total: int) -> Progress | None:
    """Return what the i-th of so many equal parts is to tell its progress to."""
    if progress is None:
        return None
    return lambda fraction: progress((i + fraction) / total)
