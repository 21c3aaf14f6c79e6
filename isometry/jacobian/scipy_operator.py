"""A Jacobian as SciPy takes linear operators: on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from isometry.jacobian.operator import Jacobian


def as_scipy(jacobian: Jacobian) -> LinearOperator:
    """Return J as a `scipy.sparse.linalg.LinearOperator`, of complex vectors part by part."""
    from scipy.sparse.linalg import LinearOperator

    forward, backward = _on_arrays(jacobian.__matmul__), _on_arrays(jacobian.rmatmul)
    return LinearOperator(
        jacobian.shape,
        matvec=lambda v: forward(v.reshape(-1)),
        rmatvec=lambda u: backward(u.reshape(-1)),
        matmat=forward,
        rmatmat=backward,
        dtype=torch.empty(0, dtype=jacobian.dtype, device="cpu").numpy().dtype,
    )


def _on_arrays(product: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    def on_array(v: Any) -> Any:
        if np.iscomplexobj(v):
            return on_array(v.real) + 1j * on_array(v.imag)
        return product(torch.as_tensor(v, device="cpu")).cpu().numpy()

    return on_array
