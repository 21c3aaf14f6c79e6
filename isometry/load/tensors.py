"""Tensors from their descriptions: every size is checked before a byte is allocated."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load.archive import Archive
from isometry.load.inert import Made, Ref, StorageRef, Table
from isometry.load.names import DTYPES
from isometry.load.wording import amount, show

MAX_TENSORS = 200_000
_MAX_DIMS = 64

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}
_PLAIN = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_TYPED = "torch._utils._rebuild_tensor_v3"
_META = "torch._utils._rebuild_meta_tensor_no_storage"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_SUBCLASS = "torch._tensor._rebuild_from_type_v2"
_SUBCLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


def is_tensor(value: object) -> bool:
    """Return whether a description is one of a tensor, of any kind."""
    return (
        isinstance(value, Made)
        and value.called
        and (value.name.startswith("torch._utils._rebuild_") or value.name == _SUBCLASS)
    )


class Tensors:
    """Rebuilds the dense tensors of one archive; shared ones stay shared.

    Parameters
    ----------
    archive : Archive
        The screened archive.
    folder : str
        Its one top folder, with the slash.
    """

    def __init__(self, archive: Archive, folder: str) -> None:
        """Check the byte order; no tensor is read yet."""
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, torch.UntypedStorage] = {}
        # The description is kept beside its tensor, so that its id stays its own.
        self._built: dict[int, tuple[object, torch.Tensor]] = {}
        order = folder + "byteorder"
        if order in archive and archive.size(order) <= 16:
            written = bytes(archive.read(order))
            if written != sys.byteorder.encode():
                raise LoadError(f"the tensors are in {show(written.decode('latin-1'))} byte order")

    def build(self, made: object, where: str) -> torch.Tensor:
        """Return the tensor that `made` describes; `where` names it in messages."""
        known = self._built.get(id(made))
        if known is not None:
            return known[1]
        if not isinstance(made, Made) or not is_tensor(made) or type(made.args) is not tuple:
            raise RefusedError(f"refused: {show(where)} is no plain tensor")
        if len(self._built) >= MAX_TENSORS:
            raise RefusedError(f"refused: more than {MAX_TENSORS} tensors")
        tensor = self._dispatch(made, made.args, where)
        self._built[id(made)] = (made, tensor)
        return tensor

    def _dispatch(self, made: Made, args: tuple[Any, ...], where: str) -> torch.Tensor:
        match made.name, args:
            case name, (StorageRef() as storage, offset, size, stride, *rest) if name in _PLAIN:
                _check_hooks(rest[1] if len(rest) > 1 else None, where)
                tensor = self._view(storage, None, (offset, size, stride), where)
                return _with_grad(tensor, rest[0] if rest else False)
            case name, (
                StorageRef() as storage,
                offset,
                size,
                stride,
                grad,
                hooks,
                Ref() as kind,
                *_,
            ) if name == _TYPED and kind.name in DTYPES:
                _check_hooks(hooks, where)
                tensor = self._view(storage, DTYPES[kind.name], (offset, size, stride), where)
                return _with_grad(tensor, grad)
            case name, (data, grad, hooks, *_) if name in _PARAMETERS and _is_plain(data):
                _check_hooks(hooks, where)
                return _parameter(self.build(data, where), grad, where)
            case name, (Ref() as what, Ref() as kind, tuple() as inner, *_) if (
                name == _SUBCLASS and kind.name in _SUBCLASSES
            ):
                return self._subclass(what, kind, inner, where)
            case name, _ if name == _META:
                raise LoadError(
                    f"{show(where)} has no values (it was saved on the meta device); "
                    "load the weights before saving"
                )
        raise RefusedError(
            f"refused: {show(where)} is no plain dense tensor (it asks for {show(made.name)}); "
            "sparse, quantised, nested and subclassed tensors are not read"
        )

    def _subclass(self, what: Ref, kind: Ref, inner: tuple[Any, ...], where: str) -> torch.Tensor:
        # Written for a tensor that carries Python attributes, which are dropped.
        plain = Made(what, inner, called=True)
        if not _is_plain(plain):
            raise RefusedError(f"refused: {show(where)} asks for {show(what.name)}")
        tensor = self._dispatch(plain, inner, where)
        if kind.name.endswith("Parameter"):
            return _parameter(tensor, tensor.requires_grad, where)
        return tensor

    def _view(
        self,
        storage: StorageRef,
        dtype: torch.dtype | None,
        layout: tuple[Any, Any, Any],
        where: str,
    ) -> torch.Tensor:
        offset, size, stride = layout
        declared = _STORAGES.get(storage.kind.rpartition(".")[2])
        if declared is None:
            raise RefusedError(f"refused: {show(where)} has elements of {show(storage.kind)}")
        held = storage.numel * declared.itemsize
        dtype = dtype or declared
        checked = (offset, _dimensions(size, where), _dimensions(stride, where))
        _check_extent(held, dtype, checked, where)
        self._check_record(storage.record, held, where)
        try:
            return self._strided(storage.record, held, dtype, checked)
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise LoadError(f"{show(where)} cannot be rebuilt: {show(error)}") from error

    def _check_record(self, record: str, held: int, where: str) -> None:
        name = f"{self._folder}data/{record}"
        if name not in self._archive:
            raise LoadError(f"the file is damaged: {show(where)} wants {show(name)}, not there")
        if self._archive.size(name) != held:
            raise LoadError(
                f"the file is damaged: {show(where)} wants {amount(held)} in {show(name)}, "
                f"which has {amount(self._archive.size(name))}"
            )

    def _strided(
        self, record: str, held: int, dtype: torch.dtype, layout: tuple[int, Any, Any]
    ) -> torch.Tensor:
        """Return a tensor on a record whose size was checked; the record is read once."""
        if record not in self._storages:
            bytes_ = torch.empty(held, dtype=torch.uint8)
            self._archive.read_into(f"{self._folder}data/{record}", bytes_.numpy().data)
            self._storages[record] = bytes_.untyped_storage()
        return torch.empty(0, dtype=dtype).set_(self._storages[record], *layout)


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Made)
        and value.called
        and value.name in (*_PLAIN, _TYPED, _SUBCLASS, _META)
    )


def _dimensions(value: object, where: str) -> tuple[int, ...]:
    # torch.Size arrives as a call of that name on one tuple.
    if isinstance(value, Made) and value.name == "torch.Size" and type(value.args) is tuple:
        value = value.args[0] if len(value.args) == 1 else None
    good = (
        type(value) is tuple
        and len(value) <= _MAX_DIMS
        and all(type(part) is int and 0 <= part < 1 << 62 for part in value)
    )
    if not good:
        raise RefusedError(f"refused: {show(where)} has a size or stride that makes no sense")
    return value  # type: ignore[return-value]  # narrowed by `good`


def _check_extent(
    held: int, dtype: torch.dtype, layout: tuple[Any, tuple[int, ...], tuple[int, ...]], where: str
) -> None:
    offset, size, stride = layout
    numel = math.prod(size)
    if type(offset) is not int or offset < 0 or len(size) != len(stride):
        raise RefusedError(f"refused: {show(where)} has a size or stride that makes no sense")
    # More elements than bytes to hold them: stride 0 makes a few bytes look like terabytes.
    if numel * dtype.itemsize > held:
        raise RefusedError(
            f"refused: {show(where)} claims {amount(numel * dtype.itemsize)} on {amount(held)}; "
            "save all of its numbers, as tensor.contiguous() has them"
        )
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if numel and (last + 1) * dtype.itemsize > held:
        raise RefusedError(f"refused: {show(where)} reaches beyond its {amount(held)}")


def _check_hooks(hooks: object, where: str) -> None:
    if hooks is not None and not (type(hooks) is Table and not hooks and hooks.state is None):
        raise RefusedError(f"refused: {show(where)} carries hooks, which are code")


def _with_grad(tensor: torch.Tensor, grad: object) -> torch.Tensor:
    if grad is True and (tensor.is_floating_point() or tensor.is_complex()):
        tensor.requires_grad_()
    return tensor


def _parameter(data: torch.Tensor, grad: object, where: str) -> nn.Parameter:
    real = data.is_floating_point() or data.is_complex()
    if type(grad) is not bool or (grad and not real):
        raise LoadError(f"{show(where)} makes no sense as a parameter")
    return nn.Parameter(data.detach(), requires_grad=grad)
