"""The network as a pure function of its input, its weights held fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from isometry.errors import InputError, MeasurementError

PureFunction = Callable[[Tensor], Tensor]


def pure_function(
    model: Callable[..., object],
    modules: Sequence[nn.Module],
    dtype: torch.dtype,
    device: torch.device,
) -> PureFunction:
    """Return ``x ↦ model(x)`` with detached weights in the given dtype, on the given device.

    `modules` are those of `model` (`context.modules_of`). Their tensors are never written to:
    weights are copies, since a forward may clamp its own; buffers are cloned at every call so
    that a forward which updates them updates a copy, and the input is cloned so that an
    in-place operation on it cannot reach the caller's.
    """
    lent = _LentWeights(modules, dtype, device)

    def f(x: Tensor) -> Tensor:
        with lent:
            return _tensor(model(x.clone()))

    return f


class _LentWeights:
    """While entered, the model's slots hold fixed weights and fresh copies of its buffers.

    The same exchange as `torch.func.functional_call`, with the slots looked up once: for a
    deep network of small layers the look-up costs as much as the forward pass.
    """

    def __init__(
        self, modules: Sequence[nn.Module], dtype: torch.dtype, device: torch.device
    ) -> None:
        fixed: dict[int, Tensor] = {}
        self._weights = _slots([m._parameters for m in modules], fixed, dtype, device)
        self._buffers = _slots([m._buffers for m in modules], fixed, dtype, device)

    def __enter__(self) -> None:
        # All that can fail comes before the first slot is touched.
        clones = {id(tensor): tensor.clone() for _, _, tensor in self._buffers}
        self._own = [(slots, name, slots[name]) for slots, name, _ in self._weights]
        self._own += [(slots, name, slots[name]) for slots, name, _ in self._buffers]
        for slots, name, tensor in self._weights:
            slots[name] = tensor
        for slots, name, tensor in self._buffers:
            slots[name] = clones[id(tensor)]

    def __exit__(self, *_: object) -> None:
        for slots, name, tensor in self._own:
            slots[name] = tensor


_Slots = dict[str, Tensor | None]


def _slots(
    tables: Sequence[Any], fixed: dict[int, Tensor], dtype: torch.dtype, device: torch.device
) -> list[tuple[_Slots, str, Tensor]]:
    """List the filled slots with their replacements; tensors that are shared stay shared."""
    found = []
    for table in tables:
        for name, own in table.items():
            if own is not None:
                if id(own) not in fixed:
                    fixed[id(own)] = _fixed(name, own, dtype, device)
                found.append((table, name, fixed[id(own)]))
    return found


def call(f: PureFunction, x: Tensor) -> Tensor:
    """Evaluate the network once, turning whatever its code raises into an `InputError`."""
    try:
        return f(x)
    except (InputError, MeasurementError):
        raise
    except RecursionError as e:
        raise InputError("the network's forward recurses without end") from e
    except (Exception, SystemExit) as e:  # the user's own code may raise anything
        text = (str(e).strip().splitlines() or ["no message"])[0]
        raise InputError(
            f"the network raised {type(e).__name__} on an input of shape {tuple(x.shape)}: {text}"
        ) from e


def count_bad(t: Tensor) -> int:
    """Count the NaN and infinite values of a tensor."""
    return int(t.numel() - torch.isfinite(t.detach()).sum())


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


def weights_not_finite(model: Callable[..., object]) -> str:
    """Name the first weight or buffer that holds NaN or infinite values; empty if none does."""
    if not isinstance(model, nn.Module):
        return ""
    for name, t in (*model.named_parameters(), *model.named_buffers()):
        if t.is_floating_point() and (bad := count_bad(t)):
            return (
                f"{name!r} has {bad} NaN or infinite values of {t.numel()}: "
                "the file is damaged or training has diverged"
            )
    return ""


def _tensor(y: object) -> Tensor:
    if not isinstance(y, Tensor):
        raise InputError(
            f"the network returned {_describe(y)}, expected one tensor: "
            "wrap it so that forward returns the tensor to be measured"
        )
    if y.is_complex():
        raise MeasurementError("the output is complex: only real outputs can be measured")
    if not y.is_floating_point():
        raise MeasurementError(
            f"the output is {str(y.dtype).removeprefix('torch.')}, which has no derivative: "
            "return the logits instead of their argmax"
        )
    return y


def _describe(y: object) -> str:
    kind = type(y).__name__
    if isinstance(y, Mapping):
        items = [f"{k}: {_shape(v)}" for k, v in y.items()]
    elif isinstance(y, (tuple, list)):
        items = [_shape(v) for v in y]
    else:
        return "None" if y is None else f"a value of type {kind}"
    return f"a {kind} holding " + (", ".join(items[:6]) or "nothing")


def _shape(v: object) -> str:
    return f"a tensor {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
