"""The Jacobian of a network as a linear operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from isometry.errors import InputError, MeasurementError, MemoryBudgetError
from isometry.jacobian import products
from isometry.jacobian.context import measuring, modules_of, unwrap
from isometry.jacobian.function import (
    PureFunction,
    call,
    count_bad,
    pure_function,
    weights_not_finite,
)
from isometry.memory import default_budget, format_size

# What PyTorch raises where a derivative rule is missing or a transform does not apply.
AD_ERRORS = (RuntimeError, NotImplementedError, TypeError, ValueError)

# One vector of a block holds a few intermediate tensors of the network at a time.
_TENSORS_ALIVE = 4
_WIDEST_BLOCK = 1024
# Intermediate tensors do not exceed input and output by more: where this much would not fit,
# they are measured.
_USUAL_GROWTH = 4096


class Jacobian:
    """J = ∂f(x)/∂x of a network at one input, of shape (m, n), never formed unless asked.

    With n the number of elements of the input and m that of the output, both flattened
    in row-major order: ``J @ V`` for V of shape (n,) or (n, k), ``J.T @ U`` for U of shape
    (m,) or (m, k), and ``J.dense()``.

    Parameters
    ----------
    model : torch.nn.Module or callable
        Maps a tensor of the shape of `x` to one tensor. It is measured in evaluation mode
        and left bit-identical: weights, buffers, gradients, flags, hooks, random state.
    x : Tensor
        The point of linearisation, shaped as `model` takes it, batch dimension included.
    dtype : torch.dtype, optional
        Precision of the measurement. By default float64 where the network runs in it,
        otherwise the network's own (a note says so).
    device : torch.device, optional
        By default the device of the model's first parameter.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    dtype, device
        Those in which products are computed.
    notes : list of str
        What was chosen or changed for the measurement.

    Raises
    ------
    InputError
        If the input is not a finite floating tensor with elements, if the network raises,
        or if it does not return one tensor.
    MeasurementError
        If a parameter or the output is not finite, or the output has no derivative.

    Examples
    --------
    >>> import torch, isometry
    >>> J = isometry.Jacobian(torch.nn.Linear(3, 2, dtype=torch.float64), torch.zeros(1, 3))
    >>> J.shape
    (2, 3)
    >>> (J @ torch.ones(3)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        model: Callable[..., Any],
        x: Tensor,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.model = unwrap(model)
        self.modules = modules_of(self.model)
        _refuse_bad_input(x)
        self.notes: list[str] = []
        self.device = torch.device(device) if device is not None else device_of(self.model, x)
        self.f, self.x, y, self.pullback = self._prepare(x, dtype)
        if not torch.isfinite(y).all():
            raise MeasurementError(
                weights_not_finite(self.model)
                or f"the output is not finite at this input ({count_bad(y)} of {y.numel()} "
                "values): look for overflow, or a division or logarithm at zero"
            )
        if y.numel() == 0:
            raise InputError(f"the output has no elements: its shape is {tuple(y.shape)}")
        self.dtype = self.x.dtype
        self.output_shape = y.shape
        self.shape = (y.numel(), self.x.numel())

    @property
    def T(self) -> TransposedJacobian:
        """The adjoint Jᵀ, for ``J.T @ U``."""
        return TransposedJacobian(self)

    def __matmul__(self, v: Tensor) -> Tensor:
        """Return J V for V of shape (n,) or (n, k)."""
        m, n = self.shape
        block = self._block(v, n, "J @ V")
        with self.session() as s:
            return _columns(s.push(block.T.reshape(-1, *self.x.shape)), m, v)

    def rmatmul(self, u: Tensor) -> Tensor:
        """Return Jᵀ U for U of shape (m,) or (m, k); the same as ``J.T @ U``."""
        m, n = self.shape
        block = self._block(u, m, "J.T @ U")
        with self.session() as s:
            return _columns(s.pull(block.T.reshape(-1, *self.output_shape)), n, u)

    def dense(
        self, *, memory: int | None = None, progress: Callable[[float], None] | None = None
    ) -> Tensor:
        """Return J as an (m, n) tensor, computed in blocks of rows or of columns.

        Parameters
        ----------
        memory : int, optional
            Bytes that may be used; by default half of the device's memory.
        progress : callable, optional
            Called with the fraction done, in (0, 1], after each block.

        Raises
        ------
        MemoryBudgetError
            If J and the workspace of its singular values would not fit.
        MeasurementError
            If automatic differentiation fails.
        """
        budget = self._checked_budget(memory)
        m, n = self.shape
        by_rows = m <= n
        with self.session() as s:
            if not by_rows and not s.can_push():
                by_rows = True
                self.notes.append("forward mode is not available: measured by rows")
            width = self._block_width(budget, by_rows)
            jac = torch.empty(m, n, dtype=self.dtype, device=self.device)
            if by_rows:
                for i, rows in _blocks(s.pull, m, self.output_shape, jac, width):
                    jac[i : i + len(rows)] = rows.reshape(-1, n)
                    _tell(progress, (i + len(rows)) / m)
            else:
                for i, columns in _blocks(s.push, n, self.x.shape, jac, width):
                    jac[:, i : i + len(columns)] = columns.reshape(-1, m).T
                    _tell(progress, (i + len(columns)) / n)
        return jac

    @contextmanager
    def session(self, at: Tensor | None = None) -> Iterator[Session]:
        """Hold the measurement context open for several products at one point."""
        with measuring(self.modules, self.device):
            yield Session(self, self.x if at is None else at)

    def _prepare(
        self, x: Tensor, dtype: torch.dtype | None
    ) -> tuple[PureFunction, Tensor, Tensor, products.Block]:
        wanted = dtype or (torch.float32 if self.device.type == "mps" else torch.float64)
        own = _dtype_of(self.model, x)
        with measuring(self.modules, self.device):
            try:
                return self._linearise(x, wanted)
            except InputError as failure:
                if dtype is not None or own == wanted:
                    raise
                try:
                    made = self._linearise(x, own)
                except InputError:
                    raise failure from failure.__cause__
                self.notes.append(
                    f"measured in {_name(own)}: the network does not run in {_name(wanted)} "
                    f"({failure})"
                )
                return made

    def _linearise(
        self, x: Tensor, dtype: torch.dtype
    ) -> tuple[PureFunction, Tensor, Tensor, products.Block]:
        f = pure_function(self.model, self.modules, dtype, self.device)
        # A clone, so that tensors made in inference mode can be differentiated.
        point = x.detach().to(self.device, dtype).clone()
        try:
            y, pullback = products.pull(f, point)
        except (InputError, *AD_ERRORS) as e:
            call(f, point)  # when the network does not even run, its own complaint is the answer
            text = (str(e.__cause__ or e).strip().splitlines() or [""])[0]
            raise MeasurementError(
                "the network runs, but PyTorch's function transforms cannot differentiate it: "
                f"{text}"
            ) from e
        return f, point, y, pullback

    def _checked_budget(self, memory: int | None) -> int:
        budget = default_budget(self.device) if memory is None else memory
        m, n = self.shape
        # J itself and the copy that the singular value routine overwrites.
        needed = 2 * m * n * self.x.element_size()
        if needed > budget:
            raise MemoryBudgetError(
                f"the dense Jacobian is {m} x {n} in {_name(self.dtype)} and needs "
                f"{format_size(needed)}, more than the {format_size(budget)} allowed: give a "
                f"smaller input, or allow it with --memory {format_size(1.1 * needed, '')}"
            )
        return budget - needed

    def _block_width(self, budget: int, by_rows: bool) -> int:
        vectors = min(self.shape[0 if by_rows else 1], _WIDEST_BLOCK)
        per_element = _TENSORS_ALIVE * self.x.element_size()
        if vectors * per_element * _USUAL_GROWTH * max(self.shape) <= budget:
            return vectors
        with self.session() as s:
            largest = s.largest_intermediate()
        return min(max(1, int(budget // (per_element * largest))), vectors)

    def _block(self, v: Tensor, rows: int, product: str) -> Tensor:
        if not isinstance(v, Tensor) or v.ndim not in (1, 2) or v.shape[0] != rows:
            came = f"a tensor {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
            raise InputError(
                f"{product} needs a tensor of shape ({rows},) or ({rows}, k), got {came}"
            )
        return v.detach().to(self.device, self.dtype).reshape(rows, -1)


class TransposedJacobian:
    """The adjoint of a `Jacobian`, of shape (n, m)."""

    def __init__(self, jacobian: Jacobian) -> None:
        self.T = jacobian
        self.shape = jacobian.shape[::-1]

    def __matmul__(self, u: Tensor) -> Tensor:
        """Return Jᵀ U for U of shape (m,) or (m, k)."""
        return self.T.rmatmul(u)


class Session:
    """Products at one point, made inside an open measurement context."""

    def __init__(self, jacobian: Jacobian, at: Tensor) -> None:
        self.f, self.x, self._jacobian = jacobian.f, at, jacobian
        self._pull: products.Block | None = jacobian.pullback if at is jacobian.x else None
        self._push: products.Block | None = None

    def pull(self, u: Tensor) -> Tensor:
        """Rows: (k, *output) cotangents to (k, *input), without a graph to a function's weights."""
        with _explained("reverse-mode"):
            if self._pull is None:
                _, self._pull = products.pull(self.f, self.x)
            return self._pull(u).detach()

    def push(self, v: Tensor) -> Tensor:
        """Columns: (k, *input) tangents to (k, *output), by the first route that works."""
        if self._push is None:
            with _explained("forward-mode"):
                return self._try_push(v).detach()
        with _explained("forward-mode"):
            return self._push(v).detach()

    def can_push(self) -> bool:
        """Whether any route for forward products works on this network."""
        try:
            self.push(torch.zeros((1, *self.x.shape), dtype=self.x.dtype, device=self.x.device))
        except MeasurementError:
            return False
        return True

    def largest_intermediate(self) -> int:
        """Elements of the largest tensor that the backward pass keeps, output included."""
        sizes = [self._jacobian.shape[0], self._jacobian.shape[1]]

        def record(t: Tensor) -> Tensor:
            sizes.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(record, lambda t: t):
            call(self.f, self.x.detach().requires_grad_())
        return max(sizes)

    def _try_push(self, v: Tensor) -> Tensor:
        try:
            route = products.push(self.f, self.x)
            out = route(v)
        except AD_ERRORS:
            route = products.push_by_reverse(self.f, self.x)
            out = route(v)
            self._jacobian.notes.append(
                "forward mode has no rule for this network: products J v are taken by "
                "differentiating the backward pass"
            )
        self._push = route
        return out


@contextmanager
def _explained(mode: str) -> Iterator[None]:
    try:
        yield
    except (InputError, MeasurementError):
        raise
    except AD_ERRORS as e:
        text = (str(e).strip().splitlines() or ["no message"])[0]
        raise MeasurementError(f"{mode} differentiation failed: {text}") from e


def _blocks(
    route: products.Block, total: int, shape: torch.Size, like: Tensor, width: int
) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, total, width):
        k = min(width, total - start)
        basis = torch.zeros(k, total, dtype=like.dtype, device=like.device)
        basis[:, start : start + k].fill_diagonal_(1)
        yield start, route(basis.reshape(k, *shape))


def _columns(rows: Tensor, size: int, like: Tensor) -> Tensor:
    out = rows.reshape(-1, size).T
    return out[:, 0] if like.ndim == 1 else out


def _tell(progress: Callable[[float], None] | None, fraction: float) -> None:
    if progress is not None:
        progress(fraction)


def _refuse_bad_input(x: object) -> None:
    if not isinstance(x, Tensor):
        raise InputError(f"the input must be a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise InputError(
            f"the input is {_name(x.dtype)}, expected floating point: convert it to float32, or "
            "give the embedded input if these are token ids"
        )
    if x.numel() == 0:
        raise InputError(f"the input has no elements: its shape is {tuple(x.shape)}")
    if x.is_meta:
        raise InputError("the input has no values (meta device): give a real tensor")
    if bad := count_bad(x):
        raise InputError(
            f"the input has {bad} NaN or infinite values of {math.prod(x.shape)}: clean it first"
        )


def device_of(model: object, x: Tensor) -> torch.device:
    """Return where a model is measured unless told otherwise: where its first parameter is."""
    if isinstance(model, nn.Module):
        for p in model.parameters():
            return p.device if not p.is_meta else x.device
    return x.device


def _dtype_of(model: object, x: Tensor) -> torch.dtype:
    if isinstance(model, nn.Module):
        for p in model.parameters():
            if p.is_floating_point():
                return p.dtype
    return x.dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
