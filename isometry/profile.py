"""A network from the input to the output: every block measured, predicted, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from isometry import theory
from isometry.analysis import chosen_inputs, describe
from isometry.blame import conclusions, rates
from isometry.depth import DepthProfile, Layer, Summary
from isometry.errors import InputError
from isometry.inputs import explained_shape
from isometry.jacobian import Jacobian
from isometry.jacobian.placement import chosen_device, chosen_dtype
from isometry.measure import Options
from isometry.measure.depth import Depth, depth
from isometry.report import InputInfo, Provenance
from isometry.theory.depth import ByDepth, by_depth

_UNSERVED = ("samples", "seeds", "band", "method", "probes", "steps", "tolerance", "checkpoint")


def layers(
    model: Callable[..., Any],
    x: object = None,
    *,
    input_source: str | None = None,
    **options: Any,
) -> DepthProfile:
    """Follow one input through a network, and say which block is to blame.

    Parameters
    ----------
    model, x, **options
        As for `analyze`: which derivative, at which input, where and how precisely; `budget` is
        the time that singular values may take. What chooses a method there is refused.
    input_source : str, optional
        What the record calls the input.

    Returns
    -------
    DepthProfile

    Raises
    ------
    InputError, MemoryBudgetError
        As for `analyze`.
    MeasurementError
        Also where the way from the input to the output could not be followed, and when the
        self-check fails.

    Examples
    --------
    >>> import torch, isometry
    >>> from torch import nn
    >>> net = nn.Sequential(*(nn.Linear(32, 32, bias=False) for _ in range(5)))
    >>> for layer in net:
    ...     _ = nn.init.orthogonal_(layer.weight)
    >>> print(isometry.layers(net, torch.ones(1, 32)).conclusions[-1])
    no block takes anything from the isometry
    """
    began = time.perf_counter()
    asked = Options(**options)
    _refuse_unserved(asked)
    place, notes = chosen_device(asked.device)
    inputs, source, choices = chosen_inputs(model, x, asked)
    with explained_shape(model):
        jacobian = Jacobian(
            model,
            inputs[0],
            **asdict(asked.selection),
            dtype=chosen_dtype(asked.dtype),
            device=place,
            memory=asked.memory,
            self_check=asked.check_itself,
        )
    measured = depth(jacobian, seed=asked.seed, budget=asked.budget, progress=asked.progress)
    expected, why = by_depth(measured.parts, measured.spectra)
    name = expected.name if expected else ""
    found = _layers(measured, expected)
    grown = rates(found, *_expected(expected, len(found)))
    findings = tuple(theory.odd(measured.parts))
    mean_square = float(jacobian.x.double().square().mean())
    return DepthProfile(
        model=describe(model),
        input=InputInfo(input_source or source, tuple(jacobian.x.shape), 1, mean_square**0.5),
        mean_square=mean_square,
        layers=found,
        rates=grown,
        theory=name,
        conclusions=conclusions(found, grown, name, findings),
        findings=findings,
        notes=tuple(dict.fromkeys([*notes, *choices, *jacobian.notes, *measured.notes, *why])),
        provenance=Provenance(
            version=version("isometry"),
            torch=str(torch.__version__),
            seed=asked.seed,
            seconds=round(time.perf_counter() - began, 3),
        ),
    )


def _refuse_unserved(asked: Options) -> None:
    usual = Options()
    if names := [name for name in _UNSERVED if getattr(asked, name) != getattr(usual, name)]:
        raise InputError(
            "layers follows one input through every block, by a method of its own, and cannot "
            f"serve {', '.join(names)}: leave that out"
        )


def _layers(measured: Depth, expected: ByDepth | None) -> tuple[Layer, ...]:
    def cumulative(i: int) -> Summary | None:
        return Summary.of(measured.spectra[i]) if i in measured.spectra else None

    return tuple(
        Layer(
            name=part.name,
            kind=part.kind,
            shape=part.shape,
            own=Summary.of(part.spectrum),
            mean_square=part.after,
            log_gain=gain.log,
            log_gain_error=gain.error,
            onward=onward.log,
            onward_error=onward.error,
            cumulative=cumulative(i),
            expected=expected.quantiles.get(i, ()) if expected else (),
        )
        for i, (part, gain, onward) in enumerate(
            zip(measured.parts, measured.gains, measured.onward, strict=True)
        )
    )


def _expected(
    expected: ByDepth | None, count: int
) -> tuple[list[float | None], list[float | None]]:
    """Log gain and mean log σ behind each block by theory, None where it does not say."""
    if expected is None:
        return [None] * count, [None] * count
    return list(expected.log_gain), [expected.drift.get(i) for i in range(count)]
