"""Networks whose weights are spread over processes, or elsewhere until a layer runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch.distributed
from torch import nn

from isometry.errors import InputError

# Nothing is sharded where these were never loaded.
_FSDP, _TENSORS = "torch.distributed.fsdp", "torch.distributed.tensor"

#: Whether this process measures by itself what others do not measure now.
alone: ContextVar[bool] = ContextVar("alone", default=False)
#: Whether the network in measurement runs on all processes together or not at all.
in_step: ContextVar[bool] = ContextVar("in_step", default=False)


def gathering(modules: Sequence[nn.Module]) -> list[Any]:
    """Return the modules that FSDP2 (`fully_shard`) gathers the weights of while they run."""
    fsdp = sys.modules.get(_FSDP)
    if fsdp is None or not torch.distributed.is_initialized():
        return []
    return [m for m in modules if isinstance(m, fsdp.FSDPModule)]


def gathered(modules: Sequence[nn.Module]) -> set[int]:
    """Return the ids of the weights that FSDP2 exchanges by itself for those it has gathered."""
    return {id(p) for m in gathering(modules) for p in m.parameters() if _is_shard(p)}


def loaded(modules: Sequence[nn.Module]) -> set[int]:
    """Return the ids of the empty tensors that accelerate exchanges for those it has loaded."""
    return {
        id(t)
        for m in modules
        if _loads(vars(m).get("_hf_hook"))
        for t in (*m.parameters(), *m.buffers())
        if t.is_meta
    }


def _loads(hook: Any) -> bool:
    hooks = (hook, *getattr(hook, "hooks", ())) if hook is not None else ()
    return any(getattr(h, "offload", False) for h in hooks)


def reshard(modules: Sequence[nn.Module]) -> None:
    """Give back what the last pass has gathered."""
    for m in gathering(modules):
        m.reshard()


def are_sharded(modules: Sequence[nn.Module]) -> bool:
    """Whether processes hold different parts of the weights: all of them must run each pass."""
    # Asked at every pass, also of small networks.
    if _TENSORS not in sys.modules or not torch.distributed.is_initialized():
        return False
    own = (p for m in modules for p in m._parameters.values())
    return bool(gathering(modules)) or any(map(_is_shard, own))


def _is_shard(p: object) -> bool:
    return isinstance(p, sys.modules[_TENSORS].DTensor)


def refuse_alone(modules: Sequence[nn.Module]) -> None:
    """Refuse a sharded network where each process measures at an input of its own."""
    if alone.get() and are_sharded(modules):
        raise InputError(
            "the network is sharded, and its processes have to run it together: measure at one "
            "input at a time, where this was dealt to several processes"
        )
