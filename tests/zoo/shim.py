"""Make torchvision importable beside a CPU build of torch without its compiled operators."""

from __future__ import annotations

import contextlib
import functools

import torch


@functools.cache
def torchvision_without_operators() -> torch.library.Library | None:
    """Declare the two operators that torchvision's import insists on; nothing calls them."""
    with contextlib.suppress(RuntimeError):
        lib = torch.library.Library("torchvision", "DEF")
        lib.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        lib.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return lib
    return None
