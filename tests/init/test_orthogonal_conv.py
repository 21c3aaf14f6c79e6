"""Orthogonal kernels beyond the delta: exact under circular padding, not under zeros."""

import pytest
import torch

from isometry.init import layout, orthogonal_conv_

SIDES = {1: (7,), 2: (5, 4), 3: (3, 4, 3)}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("channels", [(4, 4), (2, 3)])
def test_all_singular_values_are_the_same(
    dimensions, channels, convolution, dense_values, fourier_values, levels
):
    layer = convolution(dimensions, *channels, 3, padding=1, padding_mode="circular")
    orthogonal_conv_(layer.weight, 1.2, preserve="norm")
    values = dense_values(layer, channels[0], *SIDES[dimensions])
    assert levels(values) == [(1.2, len(values))]
    assert levels(fourier_values(layer.weight, *SIDES[dimensions])) == [(1.2, len(values))]


@pytest.mark.parametrize("kernel", [(3, 1), (2, 4), (5, 3)])
def test_kernels_of_any_size_are_filled(kernel, fourier_values, levels):
    weight = orthogonal_conv_(torch.empty(4, 4, *kernel, dtype=torch.float64))
    assert levels(fourier_values(weight, 6, 6)) == [(1.0, 4 * 36)]
    taps = weight.flatten(2).norm(dim=(0, 1))
    assert (taps > 1e-3).all()


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("channels", [(3, 5), (5, 3)])
def test_with_a_stride_it_is_a_partial_isometry(
    stride, channels, convolution, dense_values, levels
):
    layer = convolution(1, *channels, 3, padding=1, stride=stride, padding_mode="circular")
    orthogonal_conv_(layer.weight, preserve="norm")
    kept = min(channels) * 6 // stride
    values = dense_values(layer, channels[0], 6)
    expected = [(1.0, kept), (0.0, len(values) - kept)]
    assert levels(values) == [pair for pair in expected if pair[1]]


def test_dilation_and_groups_keep_it_exact(convolution, dense_values, levels):
    layer = convolution(1, 6, 6, 3, padding=2, dilation=2, groups=2, padding_mode="circular")
    orthogonal_conv_(layer.weight, groups=2)
    assert levels(dense_values(layer, 6, 7)) == [(1.0, 42)]


def test_the_weight_of_a_transposed_convolution_is_one_too(convolution, fourier_values, levels):
    layer = convolution(1, 6, 8, 3, transposed=True)
    weight = orthogonal_conv_(layer.weight, preserve="norm", **layout(layer))
    assert levels(fourier_values(weight, 5)) == [(1.0, 30)]


def test_zero_padding_breaks_it(convolution, dense_values, levels, seeded):
    layer = convolution(2, 4, 4, 3, padding=1)
    orthogonal_conv_(layer.weight, generator=seeded())
    assert float(dense_values(layer, 4, 5, 5).min()) < 0.5


def test_it_mixes_neighbours_and_differs_from_draw_to_draw(seeded):
    g = seeded()
    one, other = (orthogonal_conv_(torch.empty(6, 6, 3, 3), generator=g) for _ in range(2))
    assert not torch.allclose(one, other, atol=0.1)
    share = one[:, :, 1, 1].norm() ** 2 / one.norm() ** 2
    assert share < 0.6
    torch.testing.assert_close(one.norm() ** 2, torch.tensor(6.0))


def test_a_depthwise_kernel_shifts_each_channel(seeded):
    weight = orthogonal_conv_(torch.empty(50, 1, 3), groups=50, generator=seeded())
    size = weight.flatten(1).abs()
    torch.testing.assert_close(size.sort(dim=1).values, torch.tensor([0.0, 0.0, 1.0]).expand(50, 3))
    assert {0, 1, 2} == set(size.argmax(dim=1).tolist())
