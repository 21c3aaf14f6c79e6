"""The Jacobian of a network as a linear operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isometry.errors import InputError, MeasurementError, MemoryBudgetError
from isometry.jacobian.arguments import all_finite
from isometry.jacobian.attention import AttentionTables
from isometry.jacobian.context import differentiating
from isometry.jacobian.culprit import where_not_finite
from isometry.jacobian.function import (
    Network,
    call,
    count_bad,
    weights_not_finite,
)
from isometry.jacobian.placement import (
    chosen_device,
    chosen_dtype,
    dtype_name,
    own_device,
    own_dtype,
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
from isometry.jacobian.routes.double_pullback import any_cotangent
from isometry.jacobian.selection import Selection
from isometry.jacobian.selfcheck import self_check
from isometry.memory import default_budget, format_size, parse_size, way_out
from isometry.trust import SelfCheck

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Progress = Callable[[float], None]

# One vector of a block holds a few intermediate tensors of the network at a time.
_TENSORS_ALIVE = 4
_WIDEST_BLOCK = 1024
# Intermediate tensors do not exceed input and output by more: where this much would not fit,
# they are measured.
_USUAL_GROWTH = 4096
_ADJOINT = 1e-4  # how far differences may be off before they are refused
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
        memory = parse_size(memory) if isinstance(memory, str) else memory
        self.network = Network(model, x, selection, memory)
        chosen = self.network.arguments.chosen
        place = chosen_device(device)[0]
        dtype = chosen_dtype(dtype) if isinstance(dtype, str) else dtype
        self.device = place if place is not None else own_device(self.network.model, chosen)
        self.reverse = Ladder(REVERSE, "Jᵀu")
        self.forward = Ladder(FORWARD, "J v")
        self._notes: list[str] = []
        self._memory = memory
        self._largest: int | None = None
        self._check = None if self_check else _UNCHECKED
        y = self._prepare(dtype)
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
        self._notes.append(text)

    def __matmul__(self, v: Tensor) -> Tensor:
        """Return J V for V of shape (n,) or (..., n, k)."""
        m, n = self.shape
        block = self._block(v, n, "J @ V")
        self._ensure_verified()
        with self.session() as s:
            columns = self._chunked(s, s.push, block.reshape(-1, *self.x.shape))
            if self.forward.route is CentralDifference and not self.reverse.exhausted:
                self._refuse_differences(s, block.reshape(-1, n), columns)
            return _unblocked(columns, m, v)

    def rmatmul(self, u: Tensor) -> Tensor:
        """Return Jᵀ U for U of shape (m,) or (..., m, k); the same as ``J.T @ U``."""
        m, n = self.shape
        block = self._block(u, m, "J.T @ U")
        self._ensure_verified()
        # The graph is there; but a backward of the user's own may ask for the mode, or draw.
        with differentiating(self.device) if self.stock else self.network.held_still(self.device):
            s = Products(self, self.x, self._made)
            return _unblocked(self._chunked(s, s.pull, block.reshape(-1, *self.output_shape)), n, u)

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
        budget = self._budget() if memory is None else memory
        m, n = self.shape
        # J itself and the copy that the singular value routine overwrites.
        needed = 2 * m * n * self.x.element_size()
        if needed > budget:
            raise MemoryBudgetError(
                f"the dense Jacobian is {m} x {n} in {dtype_name(self.dtype)} and needs "
                f"{format_size(needed)}, more than the {format_size(budget)} allowed: give a "
                "smaller input, measure a part of it (--start, --stop, --output, --at), "
                f"{way_out(needed, self.device)}"
            )
        return budget - needed

    def _rows(self, s: Products, budget: int, progress: Progress | None) -> Tensor:
        m, n = self.shape
        jac = torch.empty(m, n, dtype=self.dtype, device=self.device)
        width = self._block_width(s, budget, m)
        for i, rows in _blocks(s.pull, m, self.output_shape, jac, width):
            jac[i : i + len(rows)] = rows.reshape(-1, n)
            _tell(progress, (i + len(rows)) / m)
        return jac

    def _columns(self, s: Products, budget: int, progress: Progress | None) -> Tensor:
        m, n = self.shape
        jac = torch.empty(m, n, dtype=self.dtype, device=self.device)
        width = self._block_width(s, budget, n)
        for i, columns in _blocks(s.push, n, self.x.shape, jac, width):
            jac[:, i : i + len(columns)] = columns.reshape(-1, m).T
            _tell(progress, (i + len(columns)) / n)
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
        from scipy.sparse.linalg import LinearOperator

        def on_arrays(product: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
            def on_array(v: Any) -> Any:
                if np.iscomplexobj(v):
                    return on_array(v.real) + 1j * on_array(v.imag)
                return product(torch.as_tensor(v, device="cpu")).cpu().numpy()

            return on_array

        forward, backward = on_arrays(self.__matmul__), on_arrays(self.rmatmul)
        return LinearOperator(
            self.shape,
            matvec=lambda v: forward(v.reshape(-1)),
            rmatvec=lambda u: backward(u.reshape(-1)),
            matmat=forward,
            rmatmat=backward,
            dtype=torch.empty(0, dtype=self.dtype, device="cpu").numpy().dtype,
        )

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

    def _prepare(self, dtype: torch.dtype | None) -> Tensor:
        wanted = dtype or (torch.float32 if self.device.type == "mps" else torch.float64)
        own = own_dtype(self.network.model, self.network.arguments.chosen)
        self._notes += self.network.changes(self.device)
        self._reserve_attention(own, wanted.itemsize)
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

    def _reserve_attention(self, own: torch.dtype, itemsize: int) -> None:
        """Look before leaping: on the plain kernel attention takes positions² memory a head."""
        self._attention = AttentionTables(self.network, own, self.device)
        if not self._attention.elements:
            return
        needed = self._attention.fixed(itemsize) + self._attention.per_vector(itemsize)
        budget = self._budget()
        if needed > budget:
            raise MemoryBudgetError(
                f"attention needs {format_size(needed)} on the plain kernel, the one that can be "
                f"differentiated, more than the {format_size(budget)} allowed: give a shorter "
                f"sequence, {way_out(needed, self.device)}"
            )
        if needed > budget / 4:
            self._notes.append(f"attention takes {format_size(needed)} on the plain kernel")

    def _budget(self) -> int:
        return default_budget(self.device) if self._memory is None else self._memory

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

    def _chunked(self, s: Products, route: Callable[[Tensor], Tensor], block: Tensor) -> Tensor:
        width = self._block_width(s, self._budget(), len(block))
        if len(block) <= width:
            return route(block)
        return torch.cat([route(block[i : i + width]) for i in range(0, len(block), width)])

    def _refuse_differences(self, s: Products, v: Tensor, columns: Tensor) -> None:
        """Refuse columns by differences that are not adjoint to the rows by reverse mode."""
        u = any_cotangent(columns[0])
        pulled = s.pull(u[None]).flatten()
        gap = columns.flatten(1) @ u.flatten() - v @ pulled
        if not gap.norm() <= _ADJOINT * v.norm() * pulled.norm():
            raise MeasurementError(
                "J @ V can only be had by central differences here, which do not agree with Jᵀ: "
                "use J.T @ U or J.dense()"
            )

    def _by_rows(self, s: Products) -> bool:
        """Rows where there are fewer, or where columns would be differences."""
        if self.reverse.exhausted:
            return False
        return self.shape[0] <= self.shape[1] or not s.pushes_exactly()

    def _block_width(self, s: Products, budget: int, total: int) -> int:
        vectors = min(total, _WIDEST_BLOCK)
        if tables := self._attention.per_vector(self.x.element_size()):
            left = budget - self._attention.fixed(self.x.element_size())
            vectors = max(1, min(vectors, left // tables))
        per_element = _TENSORS_ALIVE * self.x.element_size()
        if vectors * per_element * _USUAL_GROWTH * max(self.shape) <= budget:
            return vectors
        if self._largest is None:
            with self.session():
                self._largest = s.largest_intermediate()
        return min(max(1, int(budget // (per_element * self._largest))), vectors)

    def _block(self, v: Tensor, rows: int, product: str) -> Tensor:
        """Return the vectors as rows: (n,) or (..., n, k) to (..., k, n)."""
        if not isinstance(v, Tensor) or v.ndim < 1 or v.shape[-2 if v.ndim > 1 else 0] != rows:
            came = f"a tensor {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
            raise InputError(
                f"{product} needs a tensor of shape ({rows},) or (..., {rows}, k), got {came}"
            )
        if v.is_complex() or v.layout is not torch.strided or v.is_meta:
            raise InputError(
                f"{product} takes dense real vectors, of a complex one each part in turn"
            )
        v = v.detach().to(self.device, self.dtype)
        return v if v.ndim == 1 else v.transpose(-2, -1)


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


def _blocks(
    route: Callable[[Tensor], Tensor], total: int, shape: torch.Size, like: Tensor, width: int
) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, total, width):
        k = min(width, total - start)
        basis = torch.zeros(k, total, dtype=like.dtype, device=like.device)
        basis.diagonal(start).fill_(1)
        yield start, route(basis.reshape(k, *shape))


def _unblocked(rows: Tensor, size: int, like: Tensor) -> Tensor:
    """Undo `Jacobian._block` for products of length `size`."""
    if like.ndim == 1:
        return rows.reshape(size)
    return rows.reshape(*like.shape[:-2], like.shape[-1], size).transpose(-2, -1)


def _tell(progress: Progress | None, fraction: float) -> None:
    if progress is not None:
        progress(fraction)
