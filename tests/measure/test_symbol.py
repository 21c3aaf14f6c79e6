"""A circular convolution's singular values against its dense matrix."""

import pytest
import torch
from torch import nn

from isometry.anatomy import blocks, record
from isometry.jacobian import Jacobian
from isometry.measure.symbol import symbol


def only_block(net, x):
    jacobian = Jacobian(net, x, self_check=False)
    with jacobian.session():
        (block,) = blocks(record(jacobian)).blocks
        return block, symbol(block), torch.linalg.svdvals(jacobian.dense())


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (1, 3, 5, 6)),
        (
            nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2, padding_mode="circular"),
            (1, 4, 5, 7),
        ),
        (nn.Conv1d(3, 3, 5, padding=2, padding_mode="circular"), (2, 3, 4)),
        (nn.Conv3d(2, 2, 3, padding="same", padding_mode="circular"), (1, 2, 3, 4, 3)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 4, 5)),
    ],
)
def test_equals_the_dense_matrix(net, shape):
    torch.manual_seed(0)
    _, values, dense = only_block(net, torch.randn(shape))
    assert values is not None
    torch.testing.assert_close(
        values.sort(descending=True).values, dense, rtol=1e-10, atol=1e-10 * float(dense[0])
    )


class Cylinder(nn.Conv2d):
    """Around in one direction only."""

    def forward(self, x):
        return super().forward(nn.functional.pad(x, (1, 1, 0, 0), mode="circular"))


@pytest.mark.parametrize(
    "net",
    [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(3, 4, 3, padding=1, stride=2, padding_mode="circular"),
        nn.Conv2d(3, 4, 3, padding=0),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, 3, padding=2, padding_mode="circular"),
        Cylinder(3, 4, 3, padding=(1, 0)),
    ],
)
def test_others_have_none(net):
    _, values, _ = only_block(net, torch.randn(1, 3, 6, 6))
    assert values is None
