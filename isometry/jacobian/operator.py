"""The Jacobian of a network as a linear operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isometry.errors import InputError, MeasurementError
from isometry.jacobian.arguments import all_finite
from isometry.jacobian.attention import AttentionTables
from isometry.jacobian.blocks import Blocks, as_given, as_rows
from isometry.jacobian.context import differentiating
from isometry.jacobian.culprit import where_not_finite
from isometry.jacobian.function import (
    Network,
    call,
    count_bad,
    weights_not_finite,
)
from isometry.jacobian.outputs import refuse_unmeasurable
from isometry.jacobian.placement import (
    chosen_device,
    dtype_name,
    own_device,
    own_dtype,
    precision,
    read_size,
)
from isometry.jacobian.products import Products, first_line, memory_errors
from isometry.jacobian.routes import (
    FORWARD,
    REVERSE,
    BatchedGradient,
    CentralDifference,
    GraphPullback,
    Ladder,
    Pullback,
    Route,
)
from isometry.jacobian.scipy_operator import as_scipy
from isometry.jacobian.selection import Selection
from isometry.jacobian.selfcheck import self_check
from isometry.jacobian.witness import Witness
from isometry.trust import SelfCheck

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Progress = Callable[[float], None]

_UNCHECKED = SelfCheck(True, None, None, None, False, ())


class Jacobian:
    """J = ∂f(x)/∂x of a network at one input, of shape (m, n), never formed unless asked.

    With n the number of elements of the input and m that of the output, both flattened
    in row-major order: ``J @ V`` for V of shape (n,) or (..., n, k), ``J.T @ U`` for U of shape
    (m,) or (..., m, k), and ``J.dense()``.

    Before the first product the derivative is tested (`verify`): routes of differentiation that
    fail or are wrong are left for the next one, and a note says so.

    Parameters
    ----------
    model : torch.nn.Module or callable
        It is measured in evaluation mode and left bit-identical: weights, buffers, gradients,
        flags, hooks, random state.
    x : Tensor, tuple or mapping
        The point of linearisation, shaped as `model` takes it, batch dimension included; or
        the positional, or the named, arguments of forward. Token ids are differentiated
        at the output of the embedding.
    wrt : str, optional
        Which argument to differentiate by, by name or position; by default the first that is
        a floating tensor.
    output : str, optional
        Which part of the output ("logits", "0", "hidden_states.1"); by default the logits,
        the last hidden state or the first floating tensor.
    at : str, optional
        Positions of output and input; see `Selection`.
    start, stop : str, optional
        Names of layers: J from the input of `start` to the output of `stop`.
    train_mode : bool
        Measure in training mode, with dropout frozen to one mask.
    dtype : torch.dtype, optional
        Precision of the measurement. By default float64 where the network runs in it,
        otherwise the network's own (a note says so).
    device : torch.device, optional
        By default the device of the model's first parameter.
    memory : int, optional
        Bytes that the measurement may use; by default half of the device's memory.
    self_check : bool
        Whether to test the derivative before the first product.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    dtype, device
        Those in which products are computed.
    stock : bool
        Whether the network runs no code but PyTorch's own.
    notes : list of str
        What was chosen or changed for the measurement.

    Raises
    ------
    InputError
        If the input is not a finite floating tensor with elements, if the network raises,
        or if it returns no tensor.
    MeasurementError
        If a parameter or the output is not finite, or the output has no derivative.
    MemoryBudgetError
        If attention over so many positions does not fit on the plain kernel.

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
        x: object,
        *,
        wrt: str | None = None,
        output: str | None = None,
        at: str | None = None,
        start: str | None = None,
        stop: str | None = None,
        train_mode: bool = False,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        memory: int | str | None = None,
        self_check: bool = True,
    ) -> None:
        selection = Selection(wrt, output, at, start, stop, train_mode)
        memory = read_size(memory)
        self.network = Network(model, x, selection, memory)
        chosen = self.network.arguments.chosen
        place = chosen_device(device)[0]
        self.device = place if place is not None else own_device(self.network.model, chosen)
        self.reverse = Ladder(REVERSE, "Jᵀu")
        self.forward = Ladder(FORWARD, "J v")
        self._notes: list[str] = []
        self._check = None if self_check else _UNCHECKED
        self._witnesses: dict[str, Witness] = {}
        y = self._prepare(precision(dtype), memory)
        refuse_unmeasurable(y)
        if y.is_meta:
            raise MeasurementError(
                "the output has no values (meta device): forward must compute where its input is"
            )
        if y.numel() == 0:
            raise InputError(
                f"the output has no elements: its shape is {tuple(y.shape)}, expected at least "
                "one; return what is to be measured, or name it with --output (output=...)"
            )
        if not all_finite(y):
            raise MeasurementError(
                weights_not_finite(self.network.model)
                or f"the output is not finite at this input ({count_bad(y)} of {y.numel()} "
                f"values){self.where_not_finite()}: look for overflow, or a division or logarithm "
                "at zero, or try another input"
            )
        self.dtype = self.x.dtype
        self.output_shape = y.shape
        self.shape = (y.numel(), self.x.numel())

    @property
    def T(self) -> TransposedJacobian:
        """The adjoint Jᵀ, for ``J.T @ U``."""
        return TransposedJacobian(self)

    @property
    def notes(self) -> list[str]:
        """What was chosen or changed for the measurement."""
        routes = [note for ladder in (self.reverse, self.forward) if (note := ladder.note())]
        return [*self.network.notes, *self._notes, *routes]

    def note(self, text: str) -> None:
        """Add to the notes."""
        if text not in self._notes:
            self._notes.append(text)

    def __matmul__(self, v: Tensor) -> Tensor:
        """Return J V for V of shape (n,) or (..., n, k)."""
        m, n = self.shape
        block = as_rows(v, n, self.x, "J @ V")
        self._ensure_verified()
        with self.session() as s:
            push = partial(self._push, s)
            columns = self._blocks.products(s, push, block.reshape(-1, *self.x.shape))
            return as_given(columns, m, v)

    def rmatmul(self, u: Tensor) -> Tensor:
        """Return Jᵀ U for U of shape (m,) or (..., m, k); the same as ``J.T @ U``."""
        m, n = self.shape
        block = as_rows(u, m, self.x, "J.T @ U")
        self._ensure_verified()
        with self._graph_held():
            s = Products(self, self.x, self._made)
            pull = partial(self._pull, s)
            rows = self._blocks.products(s, pull, block.reshape(-1, *self.output_shape))
            return as_given(rows, n, u)

    def dense(self, *, memory: int | None = None, progress: Progress | None = None) -> Tensor:
        """Return J as an (m, n) tensor, computed in blocks of rows or of columns.

        Parameters
        ----------
        memory : int, optional
            Bytes that may be used; by default those given to the operator.
        progress : callable, optional
            Called with the fraction done, in (0, 1], after each block.

        Raises
        ------
        MemoryBudgetError
            If J and the workspace of its singular values would not fit.
        MeasurementError
            If automatic differentiation fails, or its result fails the self-check.
        """
        budget = self.reserve_dense(memory)
        self._ensure_verified()
        with self.session() as s, memory_errors(f"the dense Jacobian of {self.shape}"):
            if self._by_rows(s):
                try:
                    return self._rows(s, budget, progress)
                except MeasurementError:
                    if not self.reverse.exhausted:
                        raise
            return self._columns(s, budget, progress)

    def reserve_dense(self, memory: int | None = None) -> int:
        """Return the bytes that are left beside J itself and the workspace of its SVD.

        Raises
        ------
        MemoryBudgetError
            If these would not fit.
        """
        return self._blocks.reserve_dense(self.shape, self.dtype, memory)

    def _rows(self, s: Products, budget: int, progress: Progress | None) -> Tensor:
        jac = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        for i, rows in self._blocks.of_identity(
            s, partial(self._pull, s), self.output_shape, budget
        ):
            jac[i : i + len(rows)] = rows
            _tell(progress, (i + len(rows)) / len(jac))
        return jac

    def _columns(self, s: Products, budget: int, progress: Progress | None) -> Tensor:
        jac = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        for i, columns in self._blocks.of_identity(s, partial(self._push, s), self.x.shape, budget):
            jac[:, i : i + len(columns)] = columns.T
            _tell(progress, (i + len(columns)) / self.shape[1])
        return jac

    def as_linear_operator(self) -> LinearOperator:
        """Return J as a `scipy.sparse.linalg.LinearOperator` on NumPy arrays.

        Examples
        --------
        >>> import torch, isometry
        >>> from scipy.sparse.linalg import svds
        >>> J = isometry.Jacobian(torch.nn.Tanh(), torch.zeros(1, 5))
        >>> [round(float(s), 6) for s in svds(J.as_linear_operator(), k=2)[1]]
        [1.0, 1.0]
        """
        return as_scipy(self)

    def verify(self, *, seed: int = 0) -> SelfCheck:
        """Test the derivative; leave routes that are wrong, until one is right or none is left.

        Parameters
        ----------
        seed : int
            Seed of the random vectors.

        Returns
        -------
        SelfCheck
            Of the routes that are in use now.
        """
        self._witnesses.clear()
        while True:
            self._check, suspect = self_check(self, seed=seed)
            if not suspect or not self.descend(suspect):
                return self._check

    def descend(self, suspect: str) -> bool:
        """Leave the route of a suspect direction ("forward", "reverse") for the next one."""
        ladder = self.forward if suspect == "forward" else self.reverse
        return ladder.descend("gave wrong products")

    @contextmanager
    def session(self, at: Tensor | None = None) -> Iterator[Products]:
        """Hold the measurement context open for several products at one point."""
        with self.network.held_still(self.device):
            yield Products(self, self.x, self._made) if at is None else Products(self, at, {})

    def kind_of(self, route: type[Route]) -> type[Route]:
        """Return what stands in for a route here, at other points too."""
        return type(self._made[route]) if route in self._made else route

    def graph(self) -> tuple[Tensor, Tensor]:
        """Return x and f(x), joined by the autograd graph of one forward pass."""
        made = self._made.get(self.reverse.route)
        if isinstance(made, BatchedGradient):
            return made.graph
        x = self.x.detach().requires_grad_()
        with self.session():
            return x, call(self.f, x)

    def _ensure_verified(self) -> None:
        check = self._check or self.verify()
        if not check.passed:
            raise MeasurementError(
                f"the self-check failed: {check.reason}; self_check=False gives the numbers "
                "nevertheless"
            )

    def _prepare(self, dtype: torch.dtype | None, memory: int | None) -> Tensor:
        wanted = dtype or (torch.float32 if self.device.type == "mps" else torch.float64)
        own = own_dtype(self.network.model, self.network.arguments.chosen)
        self._notes += self.network.changes(self.device)
        self._attention = AttentionTables(self.network, own, self.device)
        self._blocks = Blocks(memory, self.device, self._attention)
        if large := self._blocks.reserve_attention(wanted.itemsize):
            self._notes.append(large)
        with self.network.held_still(self.device) as changed:
            try:
                y = self._linearise(wanted)
            except InputError as failure:
                if dtype is not None or own == wanted:
                    raise
                try:
                    y = self._linearise(own)
                except InputError:
                    raise failure from failure.__cause__
                self._notes.append(
                    f"measured in {dtype_name(own)}: the network does not run in "
                    f"{dtype_name(wanted)} ({failure})"
                )
            self._notes += changed
            self.network.refuse_writes(self.f)
        if own in (torch.float16, torch.bfloat16) and self.x.dtype != own:
            self._notes.append(
                f"measured in {dtype_name(self.x.dtype)}, with weights of {dtype_name(own)}"
            )
        if name := self.network.output_name:
            self._notes.append(f"measured the output {name!r}")
        return y

    def where_not_finite(self) -> str:
        """Say at which layer numbers cease to be finite; empty where none can be named."""
        with self.network.held_still(self.device):
            return where_not_finite(self.network.model, self.f, self.x)

    def _linearise(self, dtype: torch.dtype) -> Tensor:
        """Set f, x and the first reverse route that can be made; return f(x)."""
        self.f, self.x = self.network.function(dtype, self.device)
        plain = self.network.is_plain()
        self.stock = plain or self.network.is_stock()
        while True:
            route = self.reverse.route
            try:
                made = (GraphPullback if plain and route is Pullback else route)(self.f, self.x)
            except Exception as e:  # whatever PyTorch raises where a route does not apply
                # When the network does not even run, its own complaint is the answer.
                with torch.no_grad():
                    y = call(self.f, self.x)
                if not self.reverse.descend(f"failed ({first_line(e.__cause__ or e)})"):
                    self._made: dict[type[Route], Route] = {}
                    return y
            else:
                self._made = {route: made}
                return made.y.detach()

    def _graph_held(self) -> Any:
        """Hold still what a graph that is there may feel; small networks feel every context."""
        if not self.stock:  # a backward of the user's own may ask for the mode, or draw
            return self.network.held_still(self.device)
        plain = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        # Lower precisions, autocast among them, leave float64 alone.
        alone = plain and self.dtype == torch.float64
        return nullcontext() if alone else differentiating(self.device)

    def _push(self, s: Products, v: Tensor) -> Tensor:
        """Columns; those of another function than the rows, or rough differences, are refused."""
        columns = s.push(v)
        rough = self.forward.route is CentralDifference
        if (rough or self._check is not _UNCHECKED) and not self.reverse.exhausted and len(v):
            self._witness("row", s.pull, columns[0]).refuse_unlike(columns, v, rough=rough)
        return columns

    def _pull(self, s: Products, u: Tensor) -> Tensor:
        """Rows; the graph of code of the user's own may hold tensors that were written to since."""
        rows = s.pull(u)
        if not self.stock and self._check is not _UNCHECKED and len(u):
            witness = self._witness("column", s.push, rows[0])
            if self.forward.route is not CentralDifference:
                witness.refuse_unlike(rows, u)
        return rows

    def _witness(self, name: str, route: Callable[[Tensor], Tensor], like: Tensor) -> Witness:
        if name not in self._witnesses:
            self._witnesses[name] = Witness(route, like)
        return self._witnesses[name]

    def _by_rows(self, s: Products) -> bool:
        """Rows where there are fewer, or where columns would be differences."""
        if self.reverse.exhausted:
            return False
        return self.shape[0] <= self.shape[1] or not s.pushes_exactly()


class TransposedJacobian:
    """The adjoint of a `Jacobian`, of shape (n, m)."""

    def __init__(self, jacobian: Jacobian) -> None:
        self.T = jacobian
        self.shape = jacobian.shape[::-1]
        self.dtype, self.device = jacobian.dtype, jacobian.device

    def __matmul__(self, u: Tensor) -> Tensor:
        """Return Jᵀ U for U of shape (m,) or (..., m, k)."""
        return self.T.rmatmul(u)

    def dense(self) -> Tensor:
        """Return Jᵀ as an (n, m) tensor."""
        return self.T.dense().T


def _tell(progress: Progress | None, fraction: float) -> None:
    if progress is not None:
        progress(fraction)
