"""Weights and buffers that stand in for a network's own while it runs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.parameter import is_lazy

from isometry.errors import InputError
from isometry.jacobian.alias import Alias, overlapping
from isometry.jacobian.containers import Slot, contents, refill, replaced, tensors_in
from isometry.jacobian.modules import all_stock
from isometry.jacobian.reach import reach_of
from isometry.jacobian.shards import gathered, loaded
from isometry.jacobian.undo import Undo

# Layers that use their vectors in sums and products alone; those derived from them may not.
_WITH_VECTORS = {
    *(nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear, nn.LayerNorm, nn.GroupNorm),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
}

_with_gradients: ContextVar[bool] = ContextVar("with_gradients", default=False)
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_sharing: ContextVar[bool] = ContextVar("sharing", default=False)


@contextmanager
def with_gradients() -> Iterator[None]:
    """Lend weights that require gradients: some code asks for them in its own backward."""
    with Undo() as undo, undo:
        undo.later(_with_gradients.set, _with_gradients.get())
        _with_gradients.set(True)
        yield


@contextmanager
def sharing() -> Iterator[None]:
    """Lend the weights of PyTorch's own layers themselves, which no such layer writes to.

    For networks that nobody else can change meanwhile: those measured within one call.
    """
    with Undo() as undo, undo:
        undo.later(_sharing.set, _sharing.get())
        _sharing.set(True)
        yield


class LentWeights:
    """While entered, the model's slots hold fixed weights and fresh copies of its buffers.

    The same exchange as `torch.func.functional_call`, with the slots looked up once: for a
    deep network of small layers the look-up costs as much as the forward pass. Tensors that
    are plain attributes, or in containers, closures, classes and objects of the user's own,
    count as buffers; so does a weight from the pass on that writes to it. Tensors among these
    that view one memory go on doing so. Functions that remember their results begin anew, and
    keep to themselves what they made of lent weights.

    In forward mode the vectors of stock layers (biases, scales of norms) get a tangent of
    zeros. A missing one costs more: PyTorch asks its Python reference for the shape of every
    sum with it, up to half of the time of small layers.
    """

    def __init__(
        self, modules: Sequence[nn.Module], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._dtype, self._device = dtype, device
        self._entered: list[tuple[list[Slot], list[tuple[Any, Any]]]] = []
        self._loaded = loaded(modules)
        stock = all_stock(modules)
        # Code of the user's own may take the root of a bias, where a zero times infinity is NaN.
        layers = modules if stock else ()
        self._with_vectors = {id(m._parameters) for m in layers if type(m) in _WITH_VECTORS}
        gone = gathered(modules)
        weights = [w for w in _filled(m._parameters for m in modules) if id(w[2]) not in gone]
        self._slots = [*weights, *_filled(m._buffers for m in modules)]
        self._tuples: list[Slot] = []
        self._holders: list[Any] = []
        self._caches: list[Slot] = []
        if stock:
            tables = list(map(vars, modules))
            self._slots += [
                (t, n, v) for t in tables for n, v in t.items() if isinstance(v, Tensor)
            ]
        else:
            reach = reach_of(modules)
            self._slots += reach.slots
            self._tuples, self._holders = reach.tuples, reach.holders
            fresh = {id(f): _forgetful(f) for _, _, f in reach.caches}
            self._caches = [(slots, name, fresh[id(f)]) for slots, name, f in reach.caches]
        self._owns: dict[int, tuple[str, Tensor]]
        self._owns = {id(own): (str(name), own) for _, name, own in self._slots}
        for _, name, own in self._tuples:
            self._owns |= {id(t): (str(name), t) for t in tensors_in(own)}
        of_weights = {id(own) for _, _, own in weights}
        self._watched = set() if stock and not any(map(_rescales, modules)) else of_weights
        self._shared = of_weights - self._watched if _sharing.get() else set()
        self._copy(of_weights)

    def _copy(self, weights: set[int]) -> None:
        """Copy what the network owns, each memory once."""
        self._fixed = {i: self._copied(i) for i in self._owns}
        unchanging = weights - self._watched
        together = overlapping(t for i, (_, t) in self._owns.items() if i not in unchanging)
        self._aliases = [
            Alias([self._owns[id(t)] for t in several], self._dtype, self._device)
            for several in together
        ]
        for alias in self._aliases:
            for t in alias.tensors:
                del self._fixed[id(t)]
        self._cloned = [i for i in self._fixed if i not in weights]
        self._versions = {i: self._fixed[i]._version for i in self._watched & self._fixed.keys()}
        self._sums = {i: _sums(own) for i, (_, own) in self._owns.items() if self._is_kept(own)}

    def _is_kept(self, own: Tensor) -> bool:
        return bool(self._watched) and _is_dense(own) and not own.is_meta

    def _copied(self, i: int) -> Tensor:
        name, own = self._owns[i]
        if is_lazy(own):
            raise InputError(f"{name!r} has no shape yet (lazy layer): call the model once first")
        if own.is_meta and i not in self._loaded:
            raise InputError(
                f"{name!r} has no values (meta device): load the model's weights first"
            )
        dtype = self._dtype
        if own.is_complex():
            dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        elif not own.is_floating_point():
            dtype = own.dtype
        if own.is_meta:  # what is loaded for it takes its precision
            return nn.Parameter(own.detach().to(dtype), requires_grad=False)
        try:
            copy = i not in self._shared
            return self._as(i, own.detach().to(device=self._device, dtype=dtype, copy=copy))
        except NotImplementedError as e:
            raise InputError(
                f"{name!r} is held in a layout ({own.layout}) that cannot be copied in "
                f"{dtype}: keep it as a dense tensor"
            ) from e

    def _as(self, i: int, t: Tensor) -> Tensor:
        watched = i in self._watched and type(t) is Tensor and _is_dense(t)
        return t.as_subclass(_Lent) if watched else t

    def __enter__(self) -> None:
        # All that can fail comes before the first slot is touched.
        lent = self._copies()
        given = [(slots, name, lent[id(own)]) for slots, name, own in self._slots]
        given += [(slots, name, replaced(own, lent)) for slots, name, own in self._tuples]
        given += [*self._caches, *self._duals(lent)]
        before = [(slots, name, slots[name]) for slots, name, _ in given]
        self._entered.append((before, [(holder, contents(holder)) for holder in self._holders]))
        try:
            for slots, name, tensor in given:
                slots[name] = tensor
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        before, holders = self._entered[-1]
        for holder, kept in holders:
            refill(holder, kept)
        for slots, name, tensor in before:
            slots[name] = tensor
        self._entered.pop()
        self._notice_writes()

    def put_back(self) -> None:
        """Leave whatever is still entered, as after an interrupt."""
        while self._entered:
            self.__exit__()

    def undo_writes(self) -> str:
        """Name a tensor that forward has written to unseen, and put its values back.

        The network's own, reached by other ways than the attributes of modules, such as a global
        that views it; or its copy, past the version counter, as through NumPy. Empty where there
        is none.
        """
        found = ""
        for i, (name, own) in self._owns.items() if self._watched else ():
            kept = self._fixed.get(i, own)
            if not _is_dense(own) or torch.equal(now := own.detach().to(kept), kept):
                continue
            if bool(((now != kept) & (now == now)).any()):
                found = found or name
                untouched = i in self._sums and torch.equal(_sums(own), self._sums[i])
                target, source = (kept, own) if untouched else (own, kept)
                target.detach().copy_(source.detach())
        return found

    def _copies(self) -> dict[int, Tensor]:
        """Return what stands in for each tensor in one pass."""
        lent = dict(self._fixed)
        for i in self._cloned:
            lent[i] = self._as(i, lent[i].clone())
        for alias in self._aliases:
            views = zip(alias.tensors, alias.views(alias.base.clone()), strict=True)
            lent |= {id(own): self._as(id(own), view) for own, view in views}
        if _with_gradients.get():
            for i in self._watched:
                lent[i].requires_grad_(lent[i].is_floating_point() or lent[i].is_complex())
        return lent

    def _duals(self, lent: dict[int, Tensor]) -> list[Slot]:
        if forward_ad._current_level < 0:
            return []
        make_dual: Any = forward_ad.make_dual
        return [
            (slots, name, make_dual(t, torch.zeros_like(t)))
            for slots, name, own in self._slots
            if id(slots) in self._with_vectors
            and (t := lent[id(own)]).ndim == 1
            and t.is_floating_point()
        ]

    def _notice_writes(self) -> None:
        """Make a weight that was written to anew, and give every pass a clone of it from now on.

        What a pass has kept of the old one for its derivative stays as that pass left it.
        """
        for i in [i for i, v in self._versions.items() if self._fixed[i]._version != v]:
            self._fixed[i] = self._copied(i)
            self._cloned.append(i)
            del self._versions[i]


def _forgetful(cached: Any) -> Any:
    """Return a function as it was before it remembered results, of weights that are not lent."""
    return functools.lru_cache(**cached.cache_parameters())(cached.__wrapped__)


def _sums(t: Tensor) -> Tensor:
    """Sums over the bits of a tensor, by which it is known again without a copy."""
    t = t.detach()
    bits = (torch.view_as_real(t.resolve_conj()) if t.is_complex() else t).contiguous().flatten()
    bits = bits.view(_INTEGERS[bits.element_size()])
    return torch.stack([bits[::step].sum(dtype=torch.int64) for step in (1, 3, 7)])


def _is_dense(t: Tensor) -> bool:
    return t.layout is torch.strided and not t.is_nested and not t.is_meta


def _rescales(m: nn.Module) -> bool:
    """Whether it is the one layer of PyTorch's own that writes to its weight."""
    return isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.max_norm is not None


def _filled(tables: Iterable[Any]) -> Iterator[Slot]:
    for table in tables:
        for name in table.keys():  # noqa: SIM118 - TorchScript's has no iterator
            if (own := table[name]) is not None:
                yield table, name, own


class _Lent(Tensor):
    """A weight for code of the user's own: passes for a parameter, and tells when it is written to.

    Writes to the `data` of any other tensor are not counted, and setting that inside a function
    transform crashes PyTorch.
    """

    __torch_function__: Any = torch._C._disabled_torch_function_impl
    _is_param = True

    @property
    def data(self) -> Tensor:
        """Itself, without a graph."""
        return self.detach()

    @data.setter
    def data(self, values: Tensor) -> None:
        if values.shape != self.shape:
            raise RuntimeError(f"data of shape {tuple(values.shape)} set for {tuple(self.shape)}")
        self.detach().copy_(values.detach())
