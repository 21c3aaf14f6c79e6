"""Neighbouring weights, and whether their singular vectors line up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isometry.jacobian import Jacobian
from isometry.measure.interfaces import _peak, _z
from isometry.measure.parts import parts


def interfaces(net, x):
    found = parts(Jacobian(net, x, self_check=False))
    return [p.matrix.interface for p in found if p.matrix and p.matrix.interface]


def haar(m, rng):
    q, r = np.linalg.qr(rng.standard_normal((m, m)))
    return q * np.sign(np.diag(r))


def centred(eigenvalues):
    return torch.diag(torch.as_tensor(eigenvalues - np.mean(eigenvalues)))


@pytest.mark.parametrize("spectra", ["uniform", "spikes", "projections"])
@pytest.mark.parametrize("m", [3, 12])
def test_z_has_mean_0_and_deviation_1_under_a_random_rotation_whatever_the_spectra(m, spectra):
    rng = np.random.default_rng(m)
    values = {
        "uniform": np.linspace(0, 1, m),
        "spikes": np.eye(m)[0],
        "projections": np.repeat([0.0, 1.0], [m // 2, m - m // 2]),
    }[spectra]
    a, turned = centred(values), [torch.as_tensor(haar(m, rng)) for _ in range(4000)]
    z = np.array([_z(a, q @ a @ q.T) for q in turned])
    # Fourth moments up to 15 for spikes: the standard error of the variance is √(14 / 4000).
    assert abs(z.mean()) < 4 / len(z) ** 0.5
    assert abs(z.var() - 1) < 4 * (14 / len(z)) ** 0.5


def test_the_peak_is_1_for_two_spikes_and_small_for_broad_spectra():
    spike, broad = centred(np.eye(400)[0]), centred(np.linspace(0, 1, 400))
    assert _peak(spike, spike) == pytest.approx(1, abs=0.01)
    # 64 steps of power iteration, for two eigenvalues of one modulus.
    assert _peak(broad, broad) == pytest.approx(3 / 400, rel=0.03)


def test_every_pair_of_neighbours_has_an_interface(chain):
    x = torch.randn(1, 32, dtype=torch.float64)
    found = interfaces(chain(nn.Tanh, 4, 32), x)
    assert [(i.before, i.after) for i in found] == [("0", "2"), ("2", "4"), ("4", "6")]


def aligned(first, second):
    """Turn the leading right singular vector of one onto the leading left one of the other."""
    u, v = torch.linalg.svd(first)[0][:, 0], torch.linalg.svd(second)[2][0]
    mirror = (u - v) / (u - v).norm()
    return second - 2 * torch.outer(second @ mirror, mirror)


@pytest.mark.parametrize("n", [64, 400])
def test_a_leading_pair_that_lines_up_is_six_deviations_at_any_width(chain, n):
    net = chain(None, 3, n)
    before = interfaces(net, torch.randn(1, n, dtype=torch.float64))
    net[1].weight.data = aligned(net[0].weight.data, net[1].weight.data)
    after = interfaces(net, torch.randn(1, n, dtype=torch.float64))
    assert max(abs(i.z) for i in before) < 3
    # (4 − 1)² / √2 for Marchenko–Pastur spectra, and what was there before.
    assert after[0].z - before[0].z == pytest.approx(9 / 2**0.5, abs=1.5)


def test_alignment_behind_the_slopes_counts_too(chain):
    net = chain(nn.ReLU, 2, 200, gain=2**0.5)
    x = torch.randn(1, 200, dtype=torch.float64)
    slopes = (net[0](x) > 0).double().T
    net[2].weight.data = aligned(slopes * net[0].weight.data, net[2].weight.data)
    assert interfaces(net, x)[0].z > 5


def test_what_cancels_has_a_negative_z(chain):
    net = chain(None, 2, 100)
    u, s, _ = torch.linalg.svd(net[0].weight.data)
    net[1].weight.data = torch.diag(s.flip(0)) @ u.T
    assert interfaces(net, torch.randn(1, 100, dtype=torch.float64))[0].z < -20


def test_rotations_have_nothing_to_line_up(chain):
    net = chain(nn.Tanh, 3, 32, weights="orthogonal")
    assert interfaces(net, torch.randn(1, 32, dtype=torch.float64)) == []


def test_channels_of_convolutions_line_up():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3))
    x = torch.randn(1, 16, 6, 6)
    fresh = interfaces(net, x)[0]
    u = torch.linalg.svd(net[0].weight.data.flatten(1))[0]
    net[2].weight.data[:, :, 1, 1] += 3 * torch.outer(u[:, 0], u[:, 0])
    net[0].weight.data += 3 * u[:, 0].reshape(-1, 1, 1, 1)
    assert abs(fresh.z) < 4
    assert interfaces(net, x)[0].z > 6


@pytest.mark.parametrize(
    "between",
    [nn.LayerNorm(16), nn.Sequential(nn.Unflatten(1, (2, 8)), nn.Softmax(1), nn.Flatten())],
)
def test_what_mixes_entries_between_two_weights_leaves_no_interface(between):
    net = nn.Sequential(nn.Linear(16, 16), between, nn.Linear(16, 16))
    assert interfaces(net, torch.randn(1, 16)) == []


def test_grouped_convolutions_have_no_interface():
    net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 8, 1))
    assert interfaces(net, torch.randn(1, 8, 5, 5)) == []


def test_weights_inside_of_sums_have_interfaces():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, x):
            return x + self.b(torch.relu(self.a(x)))

    (part,) = parts(Jacobian(nn.Sequential(Block()), torch.randn(1, 32), self_check=False))
    first, second = part.inside
    assert (first.name, first.shape, first.interface) == ("0.a", (64, 32), None)
    assert (second.interface.before, second.interface.after) == ("0.a", "0.b")
