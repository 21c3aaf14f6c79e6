"""What products are held against after the self-check: one vector, multiplied the other way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from isometry.errors import MeasurementError
from isometry.jacobian.routes.double_pullback import any_cotangent

_UNLIKE = 1e-4  # how far rows and columns may differ, relative to their typical size
_CHANGED = (
    "the network has changed since its Jacobian was made (a hook, a layer, or a value that forward "
    "reads): make the Jacobian anew"
)
_ROUGH = (
    "J @ V can only be had by central differences here, which do not agree with Jᵀ: use J.T @ U or "
    "J.dense()"
)


class Witness:
    """A random vector a and its product by the other mode of differentiation, taken once.

    Every block of products J V is held against it: ⟨a, J v⟩ = ⟨Jᵀa, v⟩; and so is JᵀU.

    Parameters
    ----------
    route : callable
        From a block of one vector to its product.
    like : Tensor
        Whose shape and precision the vector has.
    """

    def __init__(self, route: Callable[[Tensor], Tensor], like: Tensor) -> None:
        vector = any_cotangent(like)
        self._pair = vector.flatten(), route(vector[None]).flatten()

    def refuse_unlike(self, products: Tensor, block: Tensor, *, rough: bool = False) -> None:
        """Refuse products of a block that are not adjoint to it.

        Parameters
        ----------
        products, block : Tensor
            (k, *shape) each.
        rough : bool
            They come from differences, which have no rounding to allow for.

        Raises
        ------
        MeasurementError
            If the network has changed since, or differences are too rough.
        """
        sides = list(zip(self._pair, (_flat(products), _flat(block)), strict=True))
        sizes = (a.abs().max() * b.abs().max() * len(a) ** 0.5 for a, b in sides)
        one, other = (b @ a for a, b in sides)
        kind = torch.finfo(products.dtype)
        tolerance = max(_UNLIKE, 0.0 if rough else 100 * kind.eps**0.5)
        # Numbers next to the smallest have lost their digits.
        allowed = tolerance * torch.maximum(*sizes) + kind.tiny / kind.eps
        if (one - other).abs().max() > allowed:
            raise MeasurementError(_ROUGH if rough else _CHANGED)


def _flat(block: Tensor) -> Tensor:
    return block.reshape(len(block), -1)
