"""Every way to take products with a Jacobian: the operator's routes, and bare PyTorch's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import jacrev, jvp, linearize, vjp, vmap

from isometry.coverage.record import Check
from isometry.coverage.truth import Truth, distance, gaussian
from isometry.jacobian.function import PureFunction
from isometry.jacobian.products import first_line
from isometry.jacobian.routes import FORWARD, REVERSE, Route

_Products = Callable[[PureFunction, Tensor, Tensor], Tensor]
_MOST_ROWS = 256  # of a Jacobian that is worth its time as a whole
_BLOCK = 3  # a first product may be right where the next is wrong


@dataclass(frozen=True)
class Way:
    """A way to take products: rows UᵀJ for cotangents, or columns J V for tangents."""

    name: str
    by_rows: bool
    products: _Products
    wholly: bool = False  # it computes all rows for the sake of a few

    def tried(
        self, where: str, f: PureFunction, x: Tensor, truth: Truth, tolerance: float
    ) -> Check:
        """Compare a block of products with the truth."""
        name = f"{where}, {self.name}"
        if self.wholly and truth.columns.shape[1] > _MOST_ROWS:
            return Check(name, "skipped", None, "too many rows")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what PyTorch says of itself
                error = self._error(f, x, truth)
        except Exception as e:  # whatever PyTorch raises where a way does not apply
            return Check(name, "raises", None, first_line(e.__cause__ or e))
        return Check(name, "right" if error <= tolerance else "WRONG", error)

    def _error(self, f: PureFunction, x: Tensor, truth: Truth) -> float:
        k, m = truth.columns.shape
        if self.by_rows:
            u = gaussian(_BLOCK, m, like=x, seed=1)
            with torch.no_grad():
                shape = f(x.clone()).shape
            rows = self.products(f, x.clone(), u.reshape(_BLOCK, *shape))
            return truth.of_rows(u, rows.detach().reshape(_BLOCK, -1))
        v, expected = truth.mixed(gaussian(_BLOCK, k, like=x, seed=1))
        columns = self.products(f, x.clone(), v.reshape(_BLOCK, *x.shape))
        return distance(columns.detach().reshape(_BLOCK, -1), expected)


def _route(route: type[Route]) -> _Products:
    return lambda f, x, block: route(f, x)(block)


def _vjp(f: PureFunction, x: Tensor, u: Tensor) -> Tensor:
    pull = vjp(f, x)[1]
    return torch.stack([pull(one)[0] for one in u])


def _vmap_vjp(f: PureFunction, x: Tensor, u: Tensor) -> Tensor:
    pull = vjp(f, x)[1]
    rows: Tensor = vmap(lambda one: pull(one)[0])(u)
    return rows


def _grad(f: PureFunction, x: Tensor, u: Tensor) -> Tensor:
    y = f(x.requires_grad_())
    return torch.stack([torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in u])


def _grad_batched(f: PureFunction, x: Tensor, u: Tensor) -> Tensor:
    return torch.autograd.grad(f(x.requires_grad_()), x, u, is_grads_batched=True)[0]


def _jacrev(f: PureFunction, x: Tensor, u: Tensor) -> Tensor:
    jac: Any = jacrev(f, chunk_size=2)(x)
    rows: Tensor = u.flatten(1) @ jac.reshape(u[0].numel(), x.numel())
    return rows


def _jvp(f: PureFunction, x: Tensor, v: Tensor) -> Tensor:
    return torch.stack([jvp(f, (x,), (one,))[1] for one in v])


def _vmap_jvp(f: PureFunction, x: Tensor, v: Tensor) -> Tensor:
    columns: Tensor = vmap(lambda one: jvp(f, (x,), (one,))[1])(v)
    return columns


def _double_vjp(f: PureFunction, x: Tensor, v: Tensor) -> Tensor:
    push = vjp(lambda u: vjp(f, x)[1](u)[0], torch.ones_like(f(x)))[1]
    return torch.stack([push(one)[0] for one in v])


def _linearize(f: PureFunction, x: Tensor, v: Tensor) -> Tensor:
    push = linearize(f, x)[1]
    return torch.stack([push(one) for one in v])


IN_CONTEXT = (
    *(Way(route.name, True, _route(route)) for route in REVERSE),
    *(Way(route.name, False, _route(route)) for route in FORWARD),
)
BARE = (
    Way("vjp", True, _vjp),
    Way("vmap(vjp)", True, _vmap_vjp),
    Way("autograd.grad", True, _grad),
    Way("is_grads_batched", True, _grad_batched),
    Way("jacrev", True, _jacrev, wholly=True),
    Way("jvp", False, _jvp),
    Way("vmap(jvp)", False, _vmap_jvp),
    Way("double vjp", False, _double_vjp),
    Way("linearize", False, _linearize),
)
