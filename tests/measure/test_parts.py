"""The parts of a network, each measured alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry.errors import MeasurementError
from isometry.jacobian import Jacobian
from isometry.measure.parts import parts


def cut(net, x):
    return parts(Jacobian(net, x, self_check=False))


def dense(function, x):
    n = x.numel()
    return torch.autograd.functional.jacobian(function, x).reshape(-1, n).double().numpy()


def assert_spectrum(part, jacobian):
    """The singular values of a part are those of the dense Jacobian, zeros included."""
    sigma = np.linalg.svd(jacobian, compute_uv=False)
    kept = part.spectrum.weights * len(sigma)
    measured = np.repeat(np.exp(part.spectrum.log_sigma), np.round(kept).astype(int))
    measured = np.concatenate([measured, np.zeros(len(sigma) - len(measured))])
    assert np.sort(measured) == pytest.approx(np.sort(sigma), abs=1e-6 * sigma.max())


CASES = {
    "dense": (nn.Linear(5, 7), (1, 5)),
    "dense at three positions": (nn.Linear(5, 5), (1, 3, 5)),
    "tanh": (nn.Tanh(), (1, 6)),
    "relu": (nn.ReLU(), (1, 6)),
    "flatten": (nn.Sequential(nn.Flatten(), nn.Tanh()), (1, 2, 3)),
    "maximum": (nn.MaxPool2d(2), (1, 2, 4, 4)),
    "average": (nn.AvgPool2d(2), (1, 2, 4, 4)),
    "zero padding": (nn.Conv2d(2, 3, 3, padding=1), (1, 2, 4, 4)),
    "circular padding": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (1, 2, 4, 4)),
    "strided": (nn.Conv2d(2, 3, 3, stride=2), (1, 2, 5, 5)),
    "patches": (nn.Conv2d(2, 5, 2, stride=2), (1, 2, 4, 6)),
    "patches with a rest": (nn.Conv2d(2, 5, 2, stride=2), (1, 2, 5, 5)),
    "grouped": (nn.Conv2d(4, 4, 3, padding=1, groups=2), (1, 4, 4, 4)),
    "depthwise": (nn.Conv1d(4, 4, 3, padding=1, groups=4), (1, 4, 5)),
    "transposed": (nn.ConvTranspose2d(2, 2, 2, stride=2), (1, 2, 3, 3)),
    "layer norm": (nn.LayerNorm(6), (1, 6)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_single_part_has_the_singular_values_of_its_jacobian(case):
    net, shape = CASES[case]
    net, x = net.double(), torch.randn(shape, dtype=torch.float64)
    (part,) = cut(net, x)
    assert_spectrum(part, dense(net, x))


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_a_delta_kernel_has_those_of_its_matrix_whatever_the_padding(padding):
    conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode=padding).double()
    nn.init.zeros_(conv.weight)
    nn.init.orthogonal_(conv.weight.data[:, :, 1, 1], 1.5)
    (part,) = cut(conv, torch.randn(1, 4, 5, 5, dtype=torch.float64))
    assert np.exp(part.spectrum.log_sigma) == pytest.approx(1.5)
    assert (part.matrix.offsets, part.positions) == (1, 25)


def test_the_branch_of_a_skip_is_measured_without_it():
    net = nn.Linear(4, 4).double()
    x = torch.randn(1, 4, dtype=torch.float64)
    (part,) = cut(lambda x: x + net(x), x)
    weight = net.weight.detach().numpy()
    sigma = np.linalg.svd(weight, compute_uv=False)
    assert np.sort(np.exp(part.branch.log_sigma)) == pytest.approx(np.sort(sigma))
    assert_spectrum(part, np.eye(4) + weight)


def test_the_branch_of_a_scaled_skip_is_measured_without_it():
    net, x = nn.Linear(4, 4).double(), torch.randn(1, 4, dtype=torch.float64)
    (part,) = cut(lambda x: 0.7 * x + net(x), x)
    sigma = np.linalg.svd(net.weight.detach().numpy(), compute_uv=False)
    assert np.sort(np.exp(part.branch.log_sigma)) == pytest.approx(np.sort(sigma))
    assert part.slopes == pytest.approx(np.full(4, 0.7))
    assert_spectrum(part, 0.7 * np.eye(4) + net.weight.detach().numpy())


def test_a_branch_that_is_nothing_yet_is_dead():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.init.zeros_(net[1].weight)
    (part,) = cut(lambda x: x + net(x), torch.randn(1, 4))
    assert part.branch.dead == 1
    assert np.exp(part.spectrum.log_sigma) == pytest.approx(1)


def test_mean_squares_are_those_of_the_signal():
    net, x = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), torch.randn(1, 8)
    weight, activation = cut(net, x)
    h = net[0](x).detach()
    assert weight.before == pytest.approx(float(x.square().mean()))
    assert weight.after == activation.before == pytest.approx(float(h.square().mean()))


def test_rows_of_zeros_are_counted():
    net = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20))
    net[0].weight.data[:7] = 0
    net[2].weight.data[3] = 0
    first, _, last = cut(net, torch.randn(1, 20))
    assert (first.matrix.empty, first.matrix.off) == (7, 7)
    assert (last.matrix.empty, last.matrix.off) == (1, 1)


@pytest.mark.parametrize(
    ("activation", "bias", "off"),
    [
        (nn.ReLU, -10.0, 6),
        (nn.ReLU, 10.0, 0),  # always on
        (nn.GELU, -10.0, 6),
        (nn.Tanh, -10.0, 6),
        (nn.Tanh, 10.0, 6),
        (nn.Hardtanh, 10.0, 6),
        (nn.LeakyReLU, -10.0, 0),
        (nn.Identity, -10.0, 0),
        (nn.ReLU, -2.0, 0),  # off here, not everywhere
    ],
)
def test_units_are_off_where_their_bias_keeps_the_activation_flat(activation, bias, off):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(30, 30), activation(), nn.Linear(30, 30))
    nn.init.normal_(net[0].weight, std=30**-0.5)
    net[0].bias.data[:6] = bias
    assert cut(net, torch.randn(1, 30))[0].matrix.off == off


def test_channels_of_a_convolution_are_off_too():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)).eval()
    net[0].bias.data[:2] = -20
    net[1].bias.data[2] = -20
    assert cut(net, torch.randn(1, 3, 8, 8))[0].matrix.off == 3


def test_a_channel_that_shifts_with_the_size_of_the_input_is_off_only_for_small_ones():
    net = nn.Sequential(nn.Linear(30, 30), nn.ReLU())
    nn.init.normal_(net[0].weight, std=30**-0.5)
    net[0].bias.data[:6] = -10.0
    x = torch.randn(1, 30)
    assert cut(net, x)[0].matrix.off == 6
    assert cut(net, 10 * x)[0].matrix.off == 0


def test_the_network_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True)).train()
    state = {name: t.clone() for name, t in net.state_dict().items()}
    x = torch.randn(1, 1, 6, 6)
    kept, random = x.clone(), torch.get_rng_state()
    cut(net, x)
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert all(torch.equal(t, state[name]) for name, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("conv", "alike"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), True),
        (nn.Conv2d(4, 4, 3, padding=1), False),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", stride=2), False),
        (nn.Conv2d(4, 4, 2, stride=2), True),
        (nn.Conv2d(4, 4, 2, stride=2, padding=1), False),
        (nn.Conv2d(4, 4, 2, stride=2, dilation=2), False),
        (nn.Conv2d(4, 4, 1), True),
        (nn.Linear(6, 4), True),
    ],
)
def test_a_weight_is_alike_where_it_is_one_matrix_per_position_or_frequency(conv, alike):
    (part,) = cut(conv, torch.randn(1, 4, 6, 6))
    assert part.matrix.alike is alike


@pytest.mark.parametrize(
    ("net", "shape", "positions", "groups"),
    [
        (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 5, 5), 9, 2),
        (nn.Conv1d(4, 4, 3, padding=1, groups=4), (1, 4, 5), 5, 4),
        (nn.ConvTranspose2d(4, 8, 2, stride=2, groups=2), (1, 4, 3, 3), 36, 2),
        (nn.Linear(4, 8), (1, 3, 4), 3, 1),
    ],
)
def test_positions_and_groups_are_counted(net, shape, positions, groups):
    (part,) = cut(net, torch.randn(shape))
    assert (part.positions, part.groups) == (positions, groups)


class Old(torch.autograd.Function):
    """As written before torch.func."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, u):
        return 2 * u


def test_a_function_of_the_old_kind_is_in_a_block_of_its_own():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return Old.apply(self.layer(x))

    net = nn.Sequential(nn.Linear(8, 8), Doubled())
    found = cut(net, torch.randn(1, 8))
    assert [p.name for p in found] == ["0", "1"]
    assert_spectrum(found[1], 2 * net[1].layer.weight.detach().double().numpy())


def test_what_the_users_code_raises_in_pieces_is_one_error(monkeypatch):
    def broken(_):
        raise RuntimeError("mat1 and mat2\nmust have the same dtype")

    monkeypatch.setattr("isometry.measure.parts.blocks", broken)
    with pytest.raises(MeasurementError) as caught:
        cut(nn.Linear(3, 3), torch.ones(1, 3))
    assert str(caught.value) == ("the network does not run in pieces: RuntimeError: mat1 and mat2")
    notes = isometry.analyze(nn.Linear(3, 3), torch.ones(1, 3)).notes
    assert f"no theory: {caught.value}" in notes


def test_parts_keep_to_their_budget():
    net = nn.Sequential(*(nn.Linear(40, 40) for _ in range(3)))
    with pytest.raises(MeasurementError, match="more than the budget of 1e-06 s"):
        parts(Jacobian(net, torch.ones(1, 40), self_check=False), 1e-6)
