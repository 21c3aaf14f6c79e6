"""Linear maps that are known by their products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from isometry.errors import InputError, MeasurementError

Product = Callable[[Tensor], Tensor]


class LinearMap(Protocol):
    """A of shape (m, n): what an estimator needs to know. `Jacobian` is one."""

    @property
    def T(self) -> LinearMap:
        """The adjoint."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the products."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        ...

    def __matmul__(self, v: Tensor, /) -> Tensor:
        """Return A V for V of shape (n, k)."""
        ...


class LambdaOperator:
    """A linear map from two functions: V ↦ A V and U ↦ Aᵀ U.

    Parameters
    ----------
    shape : tuple of int
        (m, n) of A.
    forward, adjoint : callable
        From a block of shape (n, k) to one of (m, k), and back. Adjoint to each other: nothing
        here can notice if they are not.
    dtype : torch.dtype
        Precision of the blocks that they are given.
    device : torch.device, optional

    Raises
    ------
    InputError
        If the shape is none.
    MeasurementError
        By a product of another shape than it should have.

    Examples
    --------
    >>> import torch
    >>> twice = LambdaOperator((3, 3), lambda v: 2 * v, lambda u: 2 * u)
    >>> (twice @ torch.ones(3, 1, dtype=torch.float64)).flatten()
    tensor([2., 2., 2.], dtype=torch.float64)
    """

    def __init__(
        self,
        shape: tuple[int, int],
        forward: Product,
        adjoint: Product,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        m, n = (int(size) for size in shape)
        if m < 1 or n < 1:
            raise InputError(f"the shape of a linear map is {shape}; expected two sizes >= 1")
        self.shape, self.dtype, self.device = (m, n), dtype, torch.device(device)
        self._forward, self._adjoint = forward, adjoint

    @property
    def T(self) -> LambdaOperator:
        """The adjoint map."""
        return LambdaOperator(
            self.shape[::-1], self._adjoint, self._forward, dtype=self.dtype, device=self.device
        )

    def __matmul__(self, v: Tensor) -> Tensor:
        """Return A V for V of shape (n, k)."""
        product = self._forward(v)
        expected = (self.shape[0], v.shape[1])
        if tuple(product.shape) != expected:
            raise MeasurementError(
                f"a product with a block {tuple(v.shape)} has the shape {tuple(product.shape)}; "
                f"expected {expected}"
            )
        return product
