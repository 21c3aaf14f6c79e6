"""The one place where all parts meet: a network and an input in, a report out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from isometry import anatomy, diagnosis, theory
from isometry.anatomy import Anatomy
from isometry.errors import InputError, MeasurementError, NotIsometricError
from isometry.gate import outcome, passes
from isometry.inputs import default_inputs, explained_shape, single_inputs, whole_number
from isometry.jacobian import Jacobian, Selection, self_check
from isometry.jacobian.context import measuring
from isometry.jacobian.modules import modules_of, unwrap
from isometry.jacobian.placement import chosen_device, chosen_dtype
from isometry.measure import Measurement, exact
from isometry.memory import parse_size
from isometry.report import InputInfo, JacobianInfo, ModelInfo, Provenance, Report
from isometry.score import score
from isometry.spectrum import Spectrum, pooled
from isometry.trust import SelfCheck

Progress = Callable[[float], None]


def analyze(
    model: Callable[..., Any],
    x: object = None,
    *,
    shape: int | Sequence[int] | None = None,
    input_scale: float = 1.0,
    samples: int = 1,
    wrt: str | None = None,
    output: str | None = None,
    at: str | None = None,
    start: str | None = None,
    stop: str | None = None,
    train_mode: bool = False,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
    memory: int | str | None = None,
    check_itself: bool = True,
    progress: Progress | None = None,
    model_info: ModelInfo | None = None,
    input_source: str | None = None,
) -> Report:
    """Measure how isometric a network is at an input, and say what is wrong.

    Parameters
    ----------
    model : torch.nn.Module or callable
        It is left bit-identical: weights, buffers, gradients, training flags, hooks, random
        state and device.
    x : tensor or array, tuple or mapping, optional
        One input, or a batch whose rows are inputs (the network itself is asked which); or all
        arguments of forward, by position or by name. Token ids are differentiated at the
        output of the embedding. Without it, Gaussian noise (or random token ids) of the given
        or inferred shape.
    shape : sequence of int, optional
        Shape of one Gaussian input, without the batch dimension.
    input_scale : float
        Standard deviation of Gaussian input.
    samples : int
        How many inputs to measure; their spectra are pooled, their scores compared.
    wrt, output, at, start, stop, train_mode : optional
        Which derivative is meant, as for `Jacobian`: by which argument, of which part of the
        output, at which positions, between which layers, and in which mode.
    dtype : torch.dtype or str, optional
        Precision; by default float64 where the network runs in it.
    device : torch.device or str, optional
        "auto" takes CUDA where there is one; by default the device of the model.
    seed : int
        For Gaussian input and for the self-check. The same seed gives the same numbers.
    memory : int or str, optional
        Bytes that the measurement may use, or a size as "4GB"; by default half of the device's
        memory.
    check_itself : bool
        Whether to run the self-check; without it the report says so.
    progress : callable, optional
        Called with the fraction done.
    model_info, input_source : optional
        What the report calls the model and the input.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        If input, shape or an option is unusable, or the network does not run.
    MemoryBudgetError
        If the dense Jacobian does not fit.
    MeasurementError
        If there is nothing to measure: not finite, not differentiable, or J = 0.

    Examples
    --------
    >>> import torch, isometry
    >>> net = torch.nn.Linear(8, 8, bias=False)
    >>> _ = torch.nn.init.orthogonal_(net.weight)
    >>> report = isometry.analyze(net)
    >>> report.verdict.status, round(report.score.value, 6)
    ('PASS', 1.0)
    """
    began = time.perf_counter()
    samples, seed = whole_number(samples, "samples"), whole_number(seed, "seed")
    budget = _budget(memory)
    selection = Selection(wrt, output, at, start, stop, train_mode)
    inputs, source, notes = _inputs(model, x, shape, input_scale, samples, seed, selection)
    m = _measure(model, inputs, selection, dtype, device, seed, budget, check_itself, progress)
    built = _read(unwrap(model))
    overall = score(m.spectrum, m.spectra)
    predictions, why_none = theory.predict(built, m.spectrum)
    ends = (_printable(start or "input"), _printable(stop or "output"))
    verdict, findings = diagnosis.diagnose(
        diagnosis.Evidence(m.spectrum, overall, built, m.rank, m.input_variance, m.check, ends)
    )
    first = m.jacobian
    return Report(
        model=model_info or describe(model),
        input=InputInfo(
            source=input_source or source,
            shape=tuple(first.x.shape),
            samples=len(inputs),
            rms=m.input_variance**0.5,
        ),
        jacobian=JacobianInfo(
            shape=first.shape,
            rank=m.rank,
            dtype=str(first.dtype).removeprefix("torch."),
            device=str(first.device),
            self_check=m.check,
        ),
        spectrum=m.spectrum,
        score=overall,
        theory=tuple(predictions),
        verdict=verdict,
        findings=findings,
        notes=tuple(dict.fromkeys([*notes, *m.notes, *why_none])),
        provenance=Provenance(
            version=version("isometry"),
            torch=str(torch.__version__),  # a class of its own, which JSON would not bring back
            seed=seed,
            seconds=round(time.perf_counter() - began, 3),
        ),
    )


def check(
    model: Callable[..., Any], x: object = None, *, min_score: float | None = None, **options: Any
) -> Report:
    """Return the report of `analyze`, or raise when the network is not isometric enough.

    Parameters
    ----------
    model, x, **options
        As for `analyze`.
    min_score : float, optional
        The lowest score that passes, in [0, 1]; by default whatever is not a FAIL.

    Raises
    ------
    NotIsometricError
        With the verdict and the first fix as its message, and the report attached.
    MeasurementError
        If the measurement cannot be trusted; the report is attached where there is one.

    Examples
    --------
    >>> import torch, isometry
    >>> isometry.check(torch.nn.Identity(), torch.ones(1, 4), min_score=0.9).verdict.status
    'PASS'
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise InputError(f"the lowest passing score must lie in [0, 1], got {min_score}")
    report = analyze(model, x, **options)
    if not report.trustworthy:
        raise MeasurementError(f"{report.verdict.reason}; {report.findings[0].fix}", report)
    if not passes(report, min_score):
        raise NotIsometricError(": ".join(outcome(report, min_score)), report)
    return report


def spectrum(model: Callable[..., Any], x: object = None, **options: Any) -> Spectrum:
    """Return the singular values of the input-output Jacobian, without the rest of the report.

    Parameters
    ----------
    model, x, **options
        As for `analyze`.

    Raises
    ------
    MeasurementError
        Also when the self-check fails: a wrong spectrum is never returned.

    Examples
    --------
    >>> import torch, isometry
    >>> isometry.spectrum(torch.nn.Tanh(), torch.zeros(1, 3)).singular_values
    array([1., 1., 1.])
    """
    report = analyze(model, x, **options)
    if not report.trustworthy:
        raise MeasurementError(report.verdict.reason, report)
    return report.spectrum


def describe(model: Callable[..., Any], *, name: str | None = None, kind: str = "") -> ModelInfo:
    """Name a network and count its parts."""
    inner = unwrap(model)
    built = _read(inner)
    parameters = inner.parameters() if isinstance(inner, nn.Module) else ()
    return ModelInfo(
        name=name or str(getattr(inner, "__name__", type(inner).__name__)),
        kind=kind or ("module" if isinstance(inner, nn.Module) else "function"),
        parameters=sum(p.numel() for p in parameters),
        weight_layers=len(built.kinds),
        activations=built.activations,
    )


def _read(model: Callable[..., Any]) -> Anatomy:
    # Reading a parametrised weight computes it, and in training mode may also change it.
    with measuring(modules_of(model), torch.device("cpu")):
        return anatomy.read(model)


@dataclass(frozen=True)
class _Measured:
    """What the measurements of all inputs have in common."""

    spectrum: Spectrum
    spectra: list[Spectrum]
    rank: int
    input_variance: float
    check: SelfCheck | None
    notes: list[str]
    jacobian: Jacobian


def _budget(memory: int | str | None) -> int | None:
    if memory is None:
        return None
    try:
        return parse_size(str(memory))
    except InputError as e:
        raise InputError(f"{e} (memory={memory!r:.40})") from e


def _printable(name: str) -> str:
    """Layers may be called anything; a report is printed."""
    return name if name.isprintable() else repr(name)


def _inputs(
    model: Callable[..., Any],
    x: object,
    shape: int | Sequence[int] | None,
    scale: float,
    samples: int,
    seed: int,
    selection: Selection,
) -> tuple[list[Any], str, list[str]]:
    if x is None:
        return *default_inputs(model, shape, samples, scale=scale, seed=seed), []
    if shape is not None:
        raise InputError("give an input or a shape, not both")
    inputs, notes = single_inputs(model, x, samples, selection)
    return inputs, "given", notes


def _measure(
    model: Callable[..., Any],
    inputs: list[Any],
    selection: Selection,
    dtype: torch.dtype | str | None,
    device: torch.device | str | None,
    seed: int,
    memory: int | None,
    check_itself: bool,
    progress: Progress | None,
) -> _Measured:
    place, notes = chosen_device(device)
    precision = chosen_dtype(dtype)
    measured: list[Measurement] = []
    jacobians: list[Jacobian] = []
    checks: list[SelfCheck] = []
    for i, x in enumerate(inputs):
        with explained_shape(model):
            jacobian = Jacobian(
                model,
                x,
                **asdict(selection),
                dtype=precision,
                device=place,
                memory=memory,
                self_check=False,
            )
            share = _share(progress, i, len(inputs))
            m, check = _trusted(jacobian, check_itself, seed, progress=share)
        measured.append(m)
        jacobians.append(jacobian)
        checks += [check] if check else []
        notes += jacobian.notes
        if m.bottleneck.width < min(jacobian.shape):
            notes.append(
                f"the narrowest layer leaves {m.bottleneck.width} directions; the zeros that it "
                "forces are not counted"
            )
    if not check_itself:
        notes.append("the self-check was switched off: wrong derivatives would go unnoticed")
    if any(c.difference_error is None and c.passed for c in checks):
        notes.append(
            "finite differences cannot tell whether the derivative is right: it is below their "
            "rounding noise, or they do not converge; the other tests of the self-check ran"
        )
    spectra = [m.spectrum for m in measured]
    return _Measured(
        pooled(spectra),
        spectra,
        max(m.bottleneck.width for m in measured),
        sum(float(j.x.double().square().mean()) for j in jacobians) / len(jacobians),
        max(checks, key=lambda c: (len(c.failures), c.kink), default=None),
        notes,
        jacobians[0],
    )


def _trusted(
    jacobian: Jacobian, check_itself: bool, seed: int, **options: Any
) -> tuple[Measurement, SelfCheck | None]:
    """Measure and check; where a route of differentiation is wrong, again by the next one."""
    # One context around all: leaving and entering it costs as much as a small network.
    with jacobian.session():
        while True:
            m = exact(jacobian, **options)
            if not check_itself:
                return m, None
            check, suspect = self_check(jacobian, m.dense, seed=seed)
            if not suspect:
                return m, check
            if not jacobian.descend(suspect):
                # Nothing but finite differences is left: measured by them, and no verdict.
                with suppress(MeasurementError):
                    m = exact(jacobian, **options)
                return m, check


def _share(progress: Progress | None, i: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction: progress((i + fraction) / total)
