"""How much memory attention takes on the plain kernel, before any of it is taken.

Fused kernels never form the (positions × positions) table of scores; the plain one, which alone
can be differentiated in every way, does, for every head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from isometry.jacobian.function import Network
from isometry.jacobian.undo import Undo

_SHORT = 512  # inputs of fewer elements have no table worth counting
_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_TABLES = 2  # scores, and their softmax


class AttentionTables:
    """Elements of the tables of scores that one forward pass forms, layer by layer.

    Found by running the network once in its own precision, with the fused kernels.
    """

    def __init__(self, network: Network, dtype: torch.dtype, device: torch.device) -> None:
        self.elements: list[int] = []
        if network.arguments.chosen.numel() < _SHORT or network.is_plain():
            return
        with (
            network.held_still(device),
            torch.no_grad(),
            fused_kernels(),
            _recorded(self.elements),
            suppress(Exception),  # what is wrong is said when the network is measured
        ):
            f, x = network.function(dtype, device)
            f(x)

    def fixed(self, itemsize: int) -> int:
        """Bytes that one forward pass keeps for the backward pass."""
        return _TABLES * itemsize * sum(self.elements)

    def per_vector(self, itemsize: int) -> int:
        """Bytes that each vector of a block takes on its way through the widest layer."""
        return _TABLES * itemsize * max(self.elements, default=0)


def fused_kernels() -> AbstractContextManager[None]:
    """Let attention use its fused kernels again, for passes that are not differentiated."""
    return sdpa_kernel(_FUSED)


@contextmanager
def _recorded(elements: list[int]) -> Iterator[None]:
    original = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        elements.append(query[..., 0].numel() * key.shape[-2])
        return original(query, key, *args, **kwargs)

    with Undo() as undo, undo:
        undo.set(F, "scaled_dot_product_attention", attention)
        yield
