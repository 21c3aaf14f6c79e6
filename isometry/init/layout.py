"""How the weight of a linear layer or a convolution is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor, nn

from isometry.errors import InputError
from isometry.init import options

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
#: those whose weight has a layout
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


@dataclass(frozen=True)
class Layout:
    """A weight as matrices, one for each group and offset of the kernel.

    Attributes
    ----------
    groups : int
    rows, columns : int
        Of a matrix as it is stored: (n_out, n_in) of one group, (n_in, n_out) of a transposed
        convolution.
    offsets : tuple of int
        The kernel's size along each axis; () of a linear layer.
    transposed : bool
    """

    groups: int
    rows: int
    columns: int
    offsets: tuple[int, ...]
    transposed: bool

    @property
    def fan_in(self) -> int:
        """Channels of one group that come in."""
        return self.rows if self.transposed else self.columns

    @property
    def fan_out(self) -> int:
        """Channels of one group that go out."""
        return self.columns if self.transposed else self.rows


class LayoutOptions(TypedDict):
    """The keywords of an initialiser that follow from the layer."""

    groups: int
    transposed: bool


def layout(layer: nn.Module) -> LayoutOptions:
    """Return the keywords that tell an initialiser how a layer stores its weight.

    Raises
    ------
    InputError
        If it is not one of PyTorch's linear layers and convolutions.

    Examples
    --------
    >>> layout(nn.ConvTranspose1d(4, 8, 3, groups=2))
    {'groups': 2, 'transposed': True}
    """
    if not isinstance(layer, LAYERS):
        raise InputError(
            f"the layer is a {type(layer).__name__}; expected a Linear, a Conv or a ConvTranspose"
        )
    return {"groups": getattr(layer, "groups", 1), "transposed": isinstance(layer, _TRANSPOSED)}


def cut(weight: Tensor, groups: int, transposed: bool) -> Layout:
    """Return the layout of a weight (out, in / groups, *kernel), or (in, out / groups, *kernel).

    Raises
    ------
    InputError
        If the groups do not divide its first dimension.
    """
    first, columns, *offsets = weight.shape
    groups = options.whole("groups", groups)
    if first % groups:
        raise InputError(
            f"groups is {groups}, and the weight has shape {tuple(weight.shape)}; expected a "
            f"divisor of {first}"
        )
    return Layout(groups, first // groups, columns, tuple(offsets), bool(transposed))
