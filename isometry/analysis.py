"""The one place where all parts meet: a network and an input in, a report out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import chain
from numbers import Real
from typing import Any

import torch
from torch import nn

from isometry import anatomy, diagnosis, theory
from isometry.anatomy import Anatomy
from isometry.ensemble import ensemble
from isometry.errors import InputError, IsometryError, MeasurementError, NotIsometricError
from isometry.gate import outcome, passes
from isometry.generators import seeded
from isometry.inputs import default_inputs, explained_shape, single_inputs
from isometry.jacobian import Selection
from isometry.jacobian.context import measuring
from isometry.jacobian.modules import modules_of, unwrap
from isometry.jacobian.products import first_line
from isometry.measure import BUDGET, TOLERANCE, Checkpoint, Options, Progress, Sample, sample
from isometry.measure.sample import joined, share
from isometry.report import ModelInfo, Prediction, Provenance, Report
from isometry.score import score
from isometry.spectrum import Spectrum
from isometry.twins import twin


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
    seeds: int | None = None,
    band: int | None = None,
    memory: int | str | None = None,
    check_itself: bool = True,
    method: str = "auto",
    probes: int | None = None,
    steps: int | None = None,
    tolerance: float = TOLERANCE,
    budget: float = BUDGET,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    model_info: ModelInfo | None = None,
    input_source: str | None = None,
) -> Report:
    """Measure how isometric a network is at an input, and say what is wrong.

    Parameters
    ----------
    model : torch.nn.Module or callable
        It is left bit-identical: weights, buffers, gradients, training flags, hooks, random
        state and device. With `seeds`, a function without arguments that builds a module.
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
    seeds : int, optional
        Build so many networks, by random numbers of `seed`, `seed` + 1, …, and measure all of
        them at the same inputs: their spectra are pooled, their scores compared.
    band : int, optional
        Measure so many twins too: copies of the network whose weights keep their singular values
        and are turned at random. Their spectra show what chance alone would make of it.
    memory : int or str, optional
        Bytes that the measurement may use, or a size as "4GB"; by default half of the device's
        memory.
    check_itself : bool
        Whether to run the self-check; without it the report says so.
    method : {"auto", "exact", "quadrature", "product"}
        Every singular value from the dense Jacobian; or their distribution from products
        with random probes, with confidence intervals; or, where the network is a chain of
        modules, every singular value from the product of its stages, however small or large.
        "auto" takes the first where it fits the memory and the budget, and goes on to the last
        where directions stay unresolved; the notes say so.
    probes, steps : int, optional
        Random directions, and length of their Krylov runs; by default as many as the tolerance
        asks for.
    tolerance : float
        Half the width of the score's 95 % interval.
    budget : float
        Seconds within which "auto" wants to be done.
    checkpoint : Checkpoint, optional
        Where finished blocks of probes are kept and looked for; ``--checkpoint FILE`` of the
        command line is one.
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
    options = Options(
        shape=shape,
        input_scale=input_scale,
        samples=samples,
        wrt=wrt,
        output=output,
        at=at,
        start=start,
        stop=stop,
        train_mode=train_mode,
        dtype=dtype,
        device=device,
        seed=seed,
        seeds=seeds,
        band=band,
        memory=memory,
        check_itself=check_itself,
        method=method,
        probes=probes,
        steps=steps,
        tolerance=tolerance,
        budget=budget,
        checkpoint=checkpoint,
        progress=progress,
    )
    network, measured = _measure(model, x, options, input_source)
    return _report(network, measured, options, began, model_info)


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
    number = min_score is None or isinstance(min_score, Real)
    if not number or (min_score is not None and not 0 <= min_score <= 1):
        raise InputError(
            f"the lowest passing score must lie in [0, 1], got {min_score!r:.60}: give a number "
            "such as 0.05"
        )
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
        As for `analyze`, but for `model_info` and `input_source`, which name things in a report.

    Raises
    ------
    InputError, MemoryBudgetError
        As for `analyze`.
    MeasurementError
        Also when the self-check fails: a wrong spectrum is never returned. The report is
        attached where there is one.

    Examples
    --------
    >>> import torch, isometry
    >>> isometry.spectrum(torch.nn.Tanh(), torch.zeros(1, 3)).singular_values
    array([1., 1., 1.])
    """
    began = time.perf_counter()
    chosen = replace(Options(**options), theory=False)
    network, measured = _measure(model, x, chosen)
    if not measured.trustworthy:
        report = _report(network, measured, chosen, began)
        raise MeasurementError(report.verdict.reason, report)
    return measured.spectrum


def describe(model: Callable[..., Any]) -> ModelInfo:
    """Name a network and count its parts."""
    inner = unwrap(model)
    return _described(inner, _read(inner))


def _described(inner: Callable[..., Any], built: Anatomy) -> ModelInfo:
    parameters = inner.parameters() if isinstance(inner, nn.Module) else ()
    return ModelInfo(
        name=str(getattr(inner, "__name__", type(inner).__name__)),
        kind="module" if isinstance(inner, nn.Module) else "function",
        parameters=sum(p.numel() for p in parameters),
        weight_layers=len(built.kinds),
        activations=built.activations,
    )


def _read(model: Callable[..., Any]) -> Anatomy:
    # Reading a parametrised weight computes it, and in training mode may also change it.
    with measuring(modules_of(model), torch.device("cpu")):
        return anatomy.read(model)


def _measure(
    model: Callable[..., Any], x: object, options: Options, source: str | None = None
) -> tuple[Callable[..., Any], Sample]:
    """Find the inputs and measure at each; return also the network, the first if there are many.

    All that `analyze` and `spectrum` share.
    """
    networks = _networks(model, options)
    first = next(networks)
    inputs, found, notes = chosen_inputs(first, x, options)
    total = (options.seeds or 1) + (options.band or 0)
    with explained_shape(first):
        each = [
            sample(
                network,
                inputs,
                replace(
                    options,
                    progress=share(options.progress, i, total),
                    theory=options.theory and i == 0,
                ),
                source=source or found,
            )
            for i, network in enumerate(chain([first], networks))
        ]
        twins = [
            sample(
                twin(first, options.seed + i),
                inputs,
                replace(
                    options, progress=share(options.progress, len(each) + i, total), theory=False
                ),
            ).spectrum
            for i in range(options.band or 0)
        ]
    measured = replace(joined(each), twins=tuple(twins))
    return first, replace(measured, notes=(*notes, *measured.notes, *_of_seeds(each, options)))


def _networks(model: Callable[..., Any], options: Options) -> Iterator[Callable[..., Any]]:
    """Yield the network, or those that a factory builds, one at a time."""
    if options.seeds is None:
        yield model
        return
    if isinstance(model, nn.Module) or not callable(model):
        raise InputError(
            f"seeds builds networks anew, and cannot with a {type(model).__name__}: give the "
            "function that builds it (--model PKG.MODULE:FACTORY)"
        )
    for seed in range(options.seed, options.seed + options.seeds):
        with seeded(seed):
            built = _built(model)
        yield built


def _built(factory: Callable[[], Any]) -> nn.Module:
    try:
        built = factory()
    except IsometryError:
        raise
    except (Exception, SystemExit) as e:  # the user's code, which may raise anything
        raise InputError(f"the factory raised {type(e).__name__}: {first_line(e)}") from e
    if not isinstance(built, nn.Module):
        raise InputError(f"the factory gave {type(built).__name__}, expected a torch.nn.Module")
    return built


def _of_seeds(each: Sequence[Sample], options: Options) -> list[str]:
    if len(each) == 1:
        return []
    last = options.seed + len(each) - 1
    notes = [
        f"{len(each)} networks, of seeds {options.seed} to {last}, were measured at the same "
        "inputs, and what is said of layers is of the first"
    ]
    if all(sample.spectra == each[0].spectra for sample in each):
        notes.append("all of them are alike: the factory draws nothing, or sets a seed of its own")
    return notes


def chosen_inputs(
    model: Callable[..., Any], x: object, options: Options
) -> tuple[list[Any], str, list[str]]:
    """Return the inputs to measure at, what they are, and what was chosen."""
    if x is None:
        scale, seed = options.input_scale, options.seed
        drawn = default_inputs(model, options.shape, options.samples, scale=scale, seed=seed)
        return *drawn, []
    if options.shape is not None:
        raise InputError("give an input or a shape, not both")
    inputs, notes = single_inputs(model, x, options.samples, options.selection)
    return inputs, "given", notes


def _report(
    model: Callable[..., Any],
    measured: Sample,
    options: Options,
    began: float,
    model_info: ModelInfo | None = None,
) -> Report:
    inner = unwrap(model)
    built = _read(inner)
    overall = score(measured.spectrum, measured.by_input)
    predictions, why_none = _predictions(measured)
    ends = (_printable(options.start or "input"), _printable(options.stop or "output"))
    verdict, findings = diagnosis.diagnose(
        diagnosis.Evidence(
            measured.spectrum,
            overall,
            measured.jacobian,
            measured.input,
            built,
            ends,
            whole=options.selection == Selection(),
            untouched=built.untouched and not options.train_mode,
            odd=tuple(theory.odd(measured.parts)),
        )
    )
    return Report(
        model=model_info or _described(inner, built),
        input=measured.input,
        jacobian=measured.jacobian,
        spectrum=measured.spectrum,
        score=overall,
        theory=tuple(predictions),
        verdict=verdict,
        findings=findings,
        notes=tuple(dict.fromkeys([*measured.notes, *_unused(measured, options), *why_none])),
        provenance=Provenance(
            version=version("isometry"),
            torch=str(torch.__version__),  # a class of its own, which JSON would not bring back
            seed=options.seed,
            seconds=round(time.perf_counter() - began, 3),
        ),
        uncertainty=measured.uncertainty,
        inputs=ensemble(measured.by_input),
        seeds=ensemble(measured.by_network),
        band=ensemble(measured.twins),
    )


def _predictions(measured: Sample) -> tuple[list[Prediction], list[str]]:
    if not measured.parts:  # the notes say why
        return [], []
    return theory.predict(measured.parts, measured.spectra[0], measured.jacobian.rank)


def _unused(measured: Sample, options: Options) -> list[str]:
    if options.checkpoint is None or measured.quadratures:
        return []
    return ["the checkpoint was not used: only random probes (method quadrature) keep any work"]


def _printable(name: str) -> str:
    """Layers may be called anything; a report is printed."""
    return name if name.isprintable() else repr(name)
