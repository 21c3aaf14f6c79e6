"""What the measurement context changes, in words for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from isometry.jacobian.context import EXPERTS, config_of, lowered_by
from isometry.jacobian.randomness import MASK_SEED

_FUSED = "scaled_dot_product_attention"


def changes_for(
    modules: Sequence[nn.Module], device: torch.device, *, train_mode: bool = False
) -> list[str]:
    """List what the context would change now that can change numbers, in words for the report."""
    found = [*_of_mode(modules, train_mode), *_of_kernels(modules, device)]
    if any(map(_is_compiled, modules)):
        found.append("compilation is bypassed: the network runs as written")
    if torch.is_autocast_enabled(device.type):
        found.append("autocast is switched off")
    if lowered_by(device):
        found.append("matrix products are not rounded to TF32 or bfloat16, as PyTorch is set to")
    if not getattr(modules, "complete", True):
        found.append(
            "the network's containers hold more than 100,000 items: what is in the largest is not "
            "put back, and modules in them stay in the mode they are in"
        )
    return found


def left_wrapper(model: Callable[..., object], inside: Callable[..., object]) -> list[str]:
    """Say which wrapper was left; nothing where there was none."""
    if inside is model:
        return []
    return [f"measured inside {type(model).__name__}: the network runs as written, in one place"]


def _of_mode(modules: Sequence[nn.Module], train_mode: bool) -> list[str]:
    if train_mode:
        return [
            "measured in training mode: normalisation by this batch's own statistics, buffers held "
            f"fixed, dropout frozen to one mask (seed {MASK_SEED})"
        ]
    if modal := sorted({type(m).__name__ for m in modules if m.training and _depends_on_mode(m)}):
        return [f"{', '.join(modal)} measured in evaluation mode, not in training mode as given"]
    return []


def _of_kernels(modules: Sequence[nn.Module], device: torch.device) -> list[str]:
    found = []
    kinds = set(map(type, modules))
    if any("ttention" in kind.__name__ or _names(kind, _FUSED) for kind in kinds):
        found.append("attention runs on the plain kernel: fused ones have no second derivative")
    if device.type == "cpu" and any(issubclass(kind, nn.LSTM) for kind in kinds):
        found.append("the LSTM runs without oneDNN, whose kernel has no forward-mode derivative")
    if device.type == "cuda" and any(issubclass(kind, nn.RNNBase) for kind in kinds):
        found.append("recurrent layers run without cuDNN, which has no forward-mode derivative")
    if any(config_of(m).get(EXPERTS) == "grouped_mm" for m in modules):
        found.append(
            "experts run on batched products: grouped ones have no forward-mode derivative"
        )
    return found


def _depends_on_mode(m: nn.Module) -> bool:
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RReLU)
    return isinstance(m, kinds) or _names(type(m), "training")


def _names(kind: type[nn.Module], name: str) -> bool:
    """Whether the forward of a class uses a function or an attribute of that name."""
    code = getattr(getattr(kind, "forward", None), "__code__", None)
    return name in getattr(code, "co_names", ())


def _is_compiled(m: nn.Module) -> bool:
    whole = type(m).__module__.startswith("torch._dynamo")
    return whole or getattr(m, "_compiled_call_impl", None) is not None
