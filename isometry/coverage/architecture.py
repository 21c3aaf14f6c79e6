"""Run every check and every route on one architecture."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from isometry.coverage.invariants import CHECKS, Subject, outcomes
from isometry.coverage.record import Check, Coverage
from isometry.coverage.ways import BARE, IN_CONTEXT
from isometry.errors import InputError, MeasurementError
from isometry.inputs import default_inputs
from isometry.jacobian.products import first_line
from isometry.jacobian.selection import Selection


def check_architecture(
    factory: Callable[..., Any],
    inputs: object = None,
    *,
    expected_failures: Mapping[str, str] | None = None,
    seed: int = 0,
    **selection: Any,
) -> Coverage:
    """Check that the operator tells the truth about an architecture, or refuses by name.

    The truth are central differences in float64. Beside the operator, each route of
    differentiation is tried, inside the measurement context and as users write it.

    Parameters
    ----------
    factory : callable or Module
        Returns a fresh network at each call; or a network, of which copies are made.
    inputs : Tensor, tuple or mapping, optional
        As for `Jacobian`; by default one drawn input, as for `analyze`.
    expected_failures : mapping of str to str, optional
        Names of checks that are known to fail or to be refused, with the reason. Strict: one
        that passes is an "unexpected pass", and a failure.
    seed : int
        For the network's own initialisation, a drawn input and the random vectors.
    **selection
        `wrt`, `output`, `at`, `start`, `stop`, `train_mode`: as for `Jacobian`.

    Returns
    -------
    Coverage

    Raises
    ------
    InputError
        If the network does not run on the input, or an option is unusable.

    Examples
    --------
    >>> import torch, isometry
    >>> coverage = isometry.check_architecture(lambda: torch.nn.Linear(3, 2))
    >>> coverage.passed
    True
    >>> print(coverage.checks[0].outcome, coverage.checks[0].name)
    passed the operator agrees with central differences
    """
    expected = dict(expected_failures or {})
    if unknown := expected.keys() - CHECKS.keys():
        listed = ", ".join(map(repr, CHECKS))
        raise InputError(f"there is no check named {min(unknown)!r}; there is {listed}")
    chosen = Selection(**selection)
    with torch.random.fork_rng(devices=[]):
        make = _maker(factory, seed)
        x = default_inputs(make(), None, 1, seed=seed)[0][0] if inputs is None else inputs
        subject = Subject(make, x, chosen, seed)
        checks = [_judged(c, expected) for c in outcomes(subject)]
        return Coverage(tuple(checks), tuple(_routes(subject)))


def _maker(factory: Callable[..., Any], seed: int) -> Callable[[], Callable[..., Any]]:
    """Return what makes the same network at every call."""

    def make() -> Callable[..., Any]:
        torch.manual_seed(seed)
        if not _makes(factory):
            return copy.deepcopy(factory)
        try:
            made: Callable[..., Any] = factory()
        except Exception as e:  # the user's own code may raise anything
            raise InputError(f"the factory raised {type(e).__name__}: {first_line(e)}") from e
        return made

    return make


def _makes(factory: Callable[..., Any]) -> bool:
    """Whether a callable is a factory: it asks for no argument, and is no module."""
    if isinstance(factory, nn.Module):
        return False
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return False
    given = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in given for p in parameters)


def _judged(check: Check, expected: Mapping[str, str]) -> Check:
    """Compare an outcome with the list of expected failures."""
    if check.name not in expected or check.outcome == "skipped":
        return check
    if check.outcome == "passed":
        detail = f"take it off the list ({expected[check.name]})"
        return Check(check.name, "unexpected pass", check.error, detail)
    return Check(check.name, "expected failure", check.error, expected[check.name])


def _routes(subject: Subject) -> list[Check]:
    """Try each route inside the context, and each bare one on a network of its own."""
    try:
        jacobian, truth = subject.unchecked, subject.truth
    except MeasurementError:
        return []
    if not subject.credible:
        return []
    found = []
    with jacobian.session():
        for way in IN_CONTEXT:
            found.append(
                way.tried("in the context", jacobian.f, jacobian.x, truth, subject.accuracy)
            )
    for way in BARE:
        f, x = subject.bare()
        found.append(way.tried("bare", f, x, truth, subject.accuracy))
    return found
