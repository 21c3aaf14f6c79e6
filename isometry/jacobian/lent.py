"""Weights and buffers that stand in for a network's own while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.parameter import is_lazy

from isometry.errors import InputError
from isometry.jacobian.modules import all_stock, own_attributes

_Slots = dict[str, Any]  # of tensors or None
_Geometry = tuple[torch.Size, tuple[int, ...], int | torch.SymInt]

# Layers that use their vectors in sums and products alone; those derived from them may not.
_WITH_VECTORS = {
    *(nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear, nn.LayerNorm, nn.GroupNorm),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
}


class LentWeights:
    """While entered, the model's slots hold fixed weights and fresh copies of its buffers.

    The same exchange as `torch.func.functional_call`, with the slots looked up once: for a
    deep network of small layers the look-up costs as much as the forward pass. Tensors that
    are plain attributes count as buffers; buffers that view one memory go on doing so.

    In forward mode the vectors of stock layers (biases, scales of norms) get a tangent of
    zeros. A missing one costs more: PyTorch asks its Python reference for the shape of every
    sum with it, up to half of the time of small layers.
    """

    def __init__(
        self, modules: Sequence[nn.Module], dtype: torch.dtype, device: torch.device
    ) -> None:
        fixed: dict[int, Tensor] = {}
        self._weights = [
            (table, name, _once(fixed, name, own, dtype, device))
            for table, name, own in _filled(m._parameters for m in modules)
        ]
        # Code of the user's own may take the root of a bias, where a zero times infinity is NaN.
        layers = modules if all_stock(modules) else ()
        self._with_vectors = {id(m._parameters) for m in layers if type(m) in _WITH_VECTORS}
        kept = list(_filled(m._buffers for m in modules))
        for m in modules:
            table = vars(m)
            kept += [(table, k, v) for k, v in own_attributes(m).items() if isinstance(v, Tensor)]
        shared = _sharing([own for _, _, own in kept]) if len(kept) > 1 else {}
        self._buffers = [(t, n, *shared.get(id(own), (own, None))) for t, n, own in kept]
        for _, name, base, _ in self._buffers:
            _once(fixed, name, base, dtype, device)
        self._fixed = fixed
        self._own: list[list[tuple[_Slots, str, Tensor | None]]] = []

    def __enter__(self) -> None:
        # All that can fail comes before the first slot is touched.
        lent = [*self._weights, *self._duals(), *self._copies()]
        self._own.append([(slots, name, slots[name]) for slots, name, _ in lent])
        try:
            for slots, name, tensor in lent:
                slots[name] = tensor
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        for slots, name, tensor in self._own[-1]:
            slots[name] = tensor
        self._own.pop()

    def put_back(self) -> None:
        """Leave whatever is still entered, as after an interrupt."""
        while self._own:
            self.__exit__()

    def _duals(self) -> list[tuple[_Slots, str, Tensor]]:
        if forward_ad._current_level < 0:
            return []
        make_dual: Any = forward_ad.make_dual
        return [
            (slots, name, make_dual(t, torch.zeros_like(t)))
            for slots, name, t in self._weights
            if id(slots) in self._with_vectors and t.ndim == 1 and t.is_floating_point()
        ]

    def _copies(self) -> list[tuple[_Slots, str, Tensor]]:
        copies: dict[int, Tensor] = {}
        found = []
        for slots, name, base, geometry in self._buffers:
            if id(base) not in copies:
                copies[id(base)] = self._fixed[id(base)].clone()
            copy = copies[id(base)]
            found.append((slots, name, copy if geometry is None else copy.as_strided(*geometry)))
        return found


def _filled(tables: Iterable[Any]) -> Iterator[tuple[_Slots, str, Tensor]]:
    for table in tables:
        for name in table.keys():  # noqa: SIM118 - TorchScript's has no iterator
            if (own := table[name]) is not None:
                yield table, name, own


def _once(
    fixed: dict[int, Tensor], name: str, own: Tensor, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the replacement of a tensor; those that are shared stay shared."""
    if id(own) not in fixed:
        fixed[id(own)] = _fixed(name, own, dtype, device)
    return fixed[id(own)]


def _sharing(tensors: Sequence[Tensor]) -> dict[int, tuple[Tensor, _Geometry]]:
    """For tensors that view one memory: all of it, and which part of it each is."""
    owners: dict[tuple[int, torch.dtype], dict[int, Tensor]] = {}
    for t in tensors:
        plain = t.layout is torch.strided and not (t.is_conj() or t.is_neg())
        if plain and not (t.is_meta or is_lazy(t)) and t.numel():
            place = t.untyped_storage().data_ptr(), t.dtype
            owners.setdefault(place, {})[id(t)] = t
    found: dict[int, tuple[Tensor, _Geometry]] = {}
    for together in owners.values():
        if len(together) > 1:
            one = next(iter(together.values())).detach()
            whole = one.new_empty(0).set_(one.untyped_storage())
            for i, t in together.items():
                found[i] = whole, (t.shape, t.stride(), t.storage_offset())
    return found


def _fixed(name: str, t: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if is_lazy(t):
        raise InputError(f"{name!r} has no shape yet (lazy layer): call the model once first")
    if t.is_meta:
        raise InputError(f"{name!r} has no values (meta device): load the model's weights first")
    if t.is_complex():
        dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    elif not t.is_floating_point():
        dtype = t.dtype
    return t.detach().to(device=device, dtype=dtype, copy=True)
