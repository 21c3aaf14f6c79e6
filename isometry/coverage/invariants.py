"""What must hold of the operator for every network that it does not refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from isometry.coverage.record import Check
from isometry.coverage.traces import changed, traces
from isometry.coverage.truth import Truth, by_differences, distance, gaussian
from isometry.errors import MeasurementError, MemoryBudgetError
from isometry.jacobian import Jacobian, Selection
from isometry.jacobian.function import Network, PureFunction
from isometry.jacobian.modules import modules_of
from isometry.jacobian.products import first_line

_BLOCK = 3
_CREDIBLE = 1e-2  # differences that disagree by more are no truth
_LARGEST = 1024  # rows or columns of a dense Jacobian that are worth their time here


class _UndecidedError(Exception):
    """Why a check cannot tell."""


class _TraceError(Exception):
    """What is wrong, where that is no number."""


class Subject:
    """A network under test, and what several checks need of it.

    Attributes
    ----------
    make : callable
        Returns the same network afresh.
    network : callable
        The one that is measured.
    """

    def __init__(
        self,
        make: Callable[[], Callable[..., Any]],
        inputs: object,
        selection: Selection,
        seed: int,
    ) -> None:
        self.make, self.inputs, self.selection, self.seed = make, inputs, selection, seed
        self.network = make()
        self.before = traces(self.network)

    def operator(self, *, self_check: bool = True) -> Jacobian:
        """Return a new operator on the network."""
        options = vars(self.selection)
        return Jacobian(self.network, self.inputs, **options, self_check=self_check)

    @cached_property
    def unchecked(self) -> Jacobian:
        """The operator without its self-check, whose function is the one to be differentiated."""
        return self.operator(self_check=False)

    @cached_property
    def jacobian(self) -> Jacobian:
        """The operator as users have it."""
        return self.operator()

    @cached_property
    def truth(self) -> Truth:
        """J by differences alone."""
        with self.unchecked.session():
            return by_differences(self.unchecked.f, self.unchecked.x, seed=self.seed)

    def bare(self) -> tuple[PureFunction, Tensor]:
        """Return a fresh network as a function, nothing lent and nothing held still."""
        model, dtype, train = self.make(), self.unchecked.dtype, self.selection.train_mode
        for m in modules_of(model):
            m.to(dtype)
            if m.training is not train:
                m.training = train
        network = Network(model, self.inputs, self.selection)
        network.modules = ()  # so that it runs with its own weights and buffers
        return network.function(dtype, self.unchecked.device)

    @property
    def credible(self) -> bool:
        """Whether the differences converge."""
        return self.truth.error <= _CREDIBLE

    @property
    def tolerance(self) -> float:
        """What products of one Jacobian may differ by; float64 networks may hold float32 parts."""
        return 2e-6 if self.unchecked.dtype == torch.float64 else 1e-2

    @property
    def accuracy(self) -> float:
        """What a product may differ by from the truth."""
        return max(self.tolerance, 3 * self.truth.error)

    def tangents(self, k: int = _BLOCK) -> Tensor:
        """Gaussian tangents (n, k)."""
        x = self.unchecked.x
        return gaussian(k, x.numel(), like=x, seed=self.seed + 1).T

    def cotangents(self, k: int = _BLOCK) -> Tensor:
        """Gaussian cotangents (m, k)."""
        return gaussian(k, self.unchecked.shape[0], like=self.unchecked.x, seed=self.seed + 2).T


def _agrees_with_differences(s: Subject) -> float:
    jacobian, u = s.jacobian, s.cotangents()
    columns, rows = jacobian @ s.truth.tangents.T, jacobian.T @ u
    if jacobian.verify(seed=s.seed).kink:
        raise _UndecidedError("the input sits on a kink, where the derivative is one of several")
    if not s.credible:
        raise _UndecidedError(f"differences of two step sizes disagree by {s.truth.error:.1g}")
    return max(distance(columns, s.truth.columns.T), s.truth.of_rows(u.T, rows.T))


def _measured_as_written(s: Subject) -> float:
    if s.selection.train_mode:
        raise _UndecidedError("in training mode the operator's random numbers are its own")
    try:
        with torch.no_grad():
            f, x = s.bare()
            y = f(x)
    except Exception as e:
        raise _UndecidedError(f"a bare copy does not run: {first_line(e)}") from e
    with s.unchecked.session(), torch.no_grad():
        return distance(s.unchecked.f(s.unchecked.x), y)


def _products_are_adjoint(s: Subject) -> float:
    u, v = s.cotangents(), s.tangents()
    return distance((s.jacobian.T @ u).T @ v, u.T @ (s.jacobian @ v))


def _blocks_agree(s: Subject) -> float:
    u, v = s.cotangents(), s.tangents()
    columns = torch.stack([s.jacobian @ one for one in v.T], dim=1)
    rows = torch.stack([s.jacobian.T @ one for one in u.T], dim=1)
    return max(distance(s.jacobian @ v, columns), distance(s.jacobian.T @ u, rows))


def _dense_agrees(s: Subject) -> float:
    if min(s.jacobian.shape) > _LARGEST:
        raise _UndecidedError(
            f"the dense Jacobian is {s.jacobian.shape[0]} x {s.jacobian.shape[1]}"
        )
    try:
        dense = s.jacobian.dense()
    except MemoryBudgetError as e:
        raise _UndecidedError(str(e)) from e
    u, v = s.cotangents(), s.tangents()
    return max(distance(dense @ v, s.jacobian @ v), distance(dense.T @ u, s.jacobian.T @ u))


def _same_seed(s: Subject) -> float:
    found = []
    for state in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state)
            found.append(astuple(s.operator().verify(seed=s.seed)))
    numbers = [[v for v in one if isinstance(v, float)] for one in found]
    rest = [[v for v in one if not isinstance(v, float)] for one in found]
    if rest[0] != rest[1]:
        return float("inf")
    return max((abs(a - b) for a, b in zip(*numbers, strict=True)), default=0.0)


def _second_operator(s: Subject) -> float:
    second, u, v = s.operator(), s.cotangents(), s.tangents()
    return max(distance(second @ v, s.jacobian @ v), distance(second.T @ u, s.jacobian.T @ u))


def _bit_identical(s: Subject) -> float:
    if found := changed(s.before, traces(s.network)):
        raise _TraceError("changed: " + ", ".join(found))
    return 0.0


CHECKS: Mapping[str, Callable[[Subject], float]] = {
    "the operator agrees with central differences": _agrees_with_differences,
    "the network is measured as it is written": _measured_as_written,
    "products are adjoint": _products_are_adjoint,
    "blocks agree with single products": _blocks_agree,
    "dense agrees with products": _dense_agrees,
    "the same seed gives the same numbers": _same_seed,
    "a second operator on the same network gives the same numbers": _second_operator,
    "the network is bit-identical afterwards": _bit_identical,
}


def outcomes(subject: Subject) -> list[Check]:
    """Run every check; where the operator refuses, only that it left no trace."""
    found: list[Check] = []
    for name, check in CHECKS.items():
        if check is not _bit_identical and any(c.outcome == "refused" for c in found):
            found.append(Check(name, "skipped", None, "the operator refuses"))
        else:
            found.append(_outcome(name, check, subject))
    return found


def _outcome(name: str, check: Callable[[Subject], float], s: Subject) -> Check:
    try:
        error = check(s)
        allowed = s.accuracy if check is _agrees_with_differences else s.tolerance
    except _UndecidedError as e:
        return Check(name, "skipped", None, str(e))
    except _TraceError as e:
        return Check(name, "failed", None, str(e))
    except MeasurementError as e:
        return Check(name, "refused", None, str(e))
    return Check(name, "passed" if error <= allowed else "failed", error)
