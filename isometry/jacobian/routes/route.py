"""What every way to take products with a Jacobian has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from isometry.jacobian.function import PureFunction


class Route(ABC):
    """Products with the Jacobian of one function at one point.

    Attributes
    ----------
    name : str
        As the report calls it.
    y : Tensor
        f(x), of reverse routes, which compute it anyway.
    """

    name: ClassVar[str]
    y: Tensor

    @abstractmethod
    def __init__(self, f: PureFunction, x: Tensor) -> None:
        """Compute what all products share."""

    @abstractmethod
    def __call__(self, block: Tensor) -> Tensor:
        """Return the products of a block of vectors, stacked along the first dimension."""
