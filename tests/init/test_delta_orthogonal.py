"""Delta-orthogonal kernels as operators: exact where that is possible, and elsewhere in part."""

import pytest
import torch
from torch import nn

from isometry.init import delta_orthogonal_, layout

SIDES = {1: (6,), 2: (5, 4), 3: (3, 2, 4)}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize("channels", [(3, 3), (2, 4)])
def test_an_odd_kernel_is_an_isometry_for_either_padding(
    dimensions, padding_mode, channels, convolution, dense_values, levels
):
    layer = convolution(dimensions, *channels, 3, padding=1, padding_mode=padding_mode)
    delta_orthogonal_(layer.weight, 1.5, preserve="norm")
    values = dense_values(layer, channels[0], *SIDES[dimensions])
    assert levels(values) == [(1.5, len(values))]


@pytest.mark.parametrize("kernel", [2, 4])
@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_so_is_an_even_one_that_keeps_the_size(
    kernel, padding_mode, convolution, dense_values, levels
):
    layer = convolution(2, 3, 3, kernel, padding="same", padding_mode=padding_mode)
    delta_orthogonal_(layer.weight)
    assert levels(dense_values(layer, 3, 5, 5)) == [(1.0, 75)]


def test_an_even_kernel_beside_the_pixel_loses_a_border_to_zero_padding_only(
    convolution, dense_values, levels
):
    for mode, expected in (("zeros", [(1.0, 10), (0.0, 2)]), ("circular", [(1.0, 12)])):
        layer = convolution(1, 2, 2, 4, padding="same", dilation=2, padding_mode=mode)
        delta_orthogonal_(layer.weight)
        assert levels(dense_values(layer, 2, 6)) == expected


def test_dilation_does_not_matter(convolution, dense_values, levels):
    layer = convolution(2, 2, 2, 3, padding=2, dilation=2)
    delta_orthogonal_(layer.weight)
    assert levels(dense_values(layer, 2, 5, 5)) == [(1.0, 50)]


@pytest.mark.parametrize("groups", [2, 6])
def test_groups_are_isometries_of_their_own(groups, convolution, dense_values, levels):
    layer = convolution(1, 6, 12, 3, padding=1, groups=groups)
    delta_orthogonal_(layer.weight, groups=groups, preserve="norm")
    assert levels(dense_values(layer, 6, 5)) == [(1.0, 30)]
    matrices = layer.weight.detach()[..., 1].split(12 // groups)
    for m in matrices:
        torch.testing.assert_close(m.T @ m, torch.eye(6 // groups, dtype=torch.float64))


def test_the_kernel_is_zero_but_for_its_centre():
    weight = delta_orthogonal_(torch.ones(4, 4, 3, 5, 4))
    centre = weight[:, :, 1, 2, 1].clone()
    weight[:, :, 1, 2, 1] = 0.0
    assert not weight.any()
    torch.testing.assert_close(centre @ centre.T, torch.eye(4))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_narrowing_layer_is_a_partial_isometry(groups, convolution, dense_values, levels):
    layer = convolution(2, 6, 4, 3, padding=1, groups=groups)
    delta_orthogonal_(layer.weight, 0.7, groups=groups)
    x = torch.zeros(1, 6, 3, 3, dtype=torch.float64)
    assert levels(dense_values(layer, 6, 3, 3)) == [(0.7, 4 * x[0, 0].numel())]  # of 6 * 9 inputs


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize(("stride", "kept"), [(2, 9), (3, 4)])
def test_a_stride_keeps_the_pixels_that_it_meets(
    stride, kept, padding_mode, convolution, dense_values, levels
):
    layer = convolution(2, 2, 4, 3, padding=1, stride=stride, padding_mode=padding_mode)
    delta_orthogonal_(layer.weight, preserve="norm")
    values = dense_values(layer, 2, 6, 6)
    assert levels(values) == [(1.0, 2 * kept), (0.0, len(values) - 2 * kept)]


def test_without_padding_the_border_is_lost(convolution, dense_values, levels):
    layer = convolution(1, 2, 4, 3)
    delta_orthogonal_(layer.weight, preserve="norm")
    assert levels(dense_values(layer, 2, 6)) == [(1.0, 2 * 4), (0.0, 2 * 2)]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 2, "stride": 2},
    ],
)
@pytest.mark.parametrize(("sizes", "groups"), [((2, 4), 1), ((4, 4), 2)])
def test_a_transposed_convolution_loses_nothing(
    options, sizes, groups, convolution, dense_values, levels
):
    layer = convolution(2, *sizes, transposed=True, groups=groups, **options)
    delta_orthogonal_(layer.weight, preserve="norm", **layout(layer))
    values = dense_values(layer, sizes[0], 3, 3)
    assert levels(values) == [(1.0, sizes[0] * 9)]


def test_a_transposed_convolution_that_narrows_is_a_partial_isometry(
    convolution, dense_values, levels
):
    layer = convolution(1, 5, 2, 3, padding=1, transposed=True)
    delta_orthogonal_(layer.weight, **layout(layer))
    assert levels(dense_values(layer, 5, 4)) == [(1.0, 2 * 4)]  # of 5 * 4 inputs


def test_the_two_ways_to_find_singular_values_agree(convolution, dense_values, fourier_values):
    layer = convolution(2, 3, 5, 3, padding=1, padding_mode="circular")
    delta_orthogonal_(layer.weight, 1.1)
    torch.testing.assert_close(dense_values(layer, 3, 5, 4), fourier_values(layer.weight, 5, 4))
    nn.init.normal_(layer.weight)  # on which they could disagree
    torch.testing.assert_close(dense_values(layer, 3, 5, 4), fourier_values(layer.weight, 5, 4))


def test_a_hundred_layers_are_an_isometry_to_rounding():
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    x = torch.randn(4, 8, 6, 6)
    y = x
    for _ in range(100):
        delta_orthogonal_(conv.weight)
        y = conv(y).detach()
    torch.testing.assert_close(y.norm(), x.norm(), rtol=1e-5, atol=0)
