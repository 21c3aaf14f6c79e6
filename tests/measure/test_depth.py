"""Block by block: products before and behind each, against dense ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from isometry.anatomy import Path, blocks
from isometry.errors import MeasurementError
from isometry.jacobian import Jacobian
from isometry.measure import depth as module
from isometry.measure.depth import depth
from isometry.measure.exact import exact


def rectangular():
    layers = [nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 9)]
    return nn.Sequential(*layers).double()


def at(net, width, **options):
    return depth(Jacobian(net, torch.randn(1, width, dtype=torch.float64)), **options)


def log_gain(dense, width):
    return 0.5 * math.log(float(dense.square().sum()) / width)


def test_gains_are_those_of_the_dense_jacobians_before_and_behind_each_block():
    net, x = rectangular(), torch.randn(1, 7, dtype=torch.float64)
    found = depth(Jacobian(net, x))
    widths = [7, 12, 12, 5, 5, 9]
    for i in range(5):
        ahead = Jacobian(net[: i + 1], x).dense()
        behind = Jacobian(net[i:], net[:i](x)).dense()
        assert found.gains[i].log == pytest.approx(log_gain(ahead, min(widths[: i + 2])), rel=1e-12)
        assert found.onward[i].log == pytest.approx(log_gain(behind, min(widths[i:])), rel=1e-12)
    assert {gain.error for gain in (*found.gains, *found.onward)} == {0}


def test_singular_values_are_those_of_the_dense_jacobian_behind_what_mixes_and_at_the_end():
    net, x = nn.Sequential(*rectangular(), nn.Tanh()), torch.randn(1, 7, dtype=torch.float64)
    found = depth(Jacobian(net, x))
    assert sorted(found.spectra) == [0, 2, 4, 5]
    for i, spectrum in found.spectra.items():
        dense = exact(Jacobian(net[: i + 1], x)).spectrum
        assert spectrum.log_sigma == pytest.approx(dense.log_sigma[: 5 if i > 1 else 7], abs=1e-11)
        assert spectrum.unresolved == spectrum.dead == 0


def test_singular_values_far_below_the_floor_multiply_to_the_determinant(chain):
    net = chain(None, 30, 16)
    found = at(net, 16)
    dets = sum(float(torch.linalg.slogdet(layer.weight.detach())[1]) for layer in net)
    last = found.spectra[29]
    assert last.log_sigma[-1] - last.log_sigma[0] < math.log(np.finfo(float).eps)
    assert last.log_sigma.sum() == pytest.approx(dets, rel=1e-10)
    assert any("graded" in note for note in found.notes)


def test_what_is_no_plain_chain_stays_unresolved_below_the_floor():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("a", torch.diag(torch.logspace(0, -9, 6, dtype=torch.float64)))

        def forward(self, x):
            return x @ self.a + 0 * x

    found = at(nn.Sequential(Skip(), Skip(), Skip()), 6)
    assert [part.kind for part in found.parts] == ["sum"] * 3
    assert found.spectra[2].unresolved > 0
    assert found.spectra[2].log_sigma.min() > found.spectra[2].log_floor
    assert any("stay unresolved" in note for note in found.notes)


def test_gains_that_leave_float64_are_logarithms(chain):
    found = at(chain(None, 4, 8, weights="orthogonal", gain=1e-200), 8, budget=60)
    assert [gain.log for gain in found.gains] == pytest.approx(
        [-200 * (i + 1) * math.log(10) for i in range(4)]
    )
    assert found.onward[0].log == pytest.approx(-800 * math.log(10))
    assert any("were not compared" in note for note in found.notes)


def test_units_that_exact_zeros_cut_are_dead_from_there_on(chain):
    net = chain(None, 4, 16)
    with torch.no_grad():
        net[1].weight[:3] = 0
    found = at(net, 16)
    assert [found.spectra[i].dead for i in range(4)] == pytest.approx([0, 3 / 16, 3 / 16, 3 / 16])
    assert found.parts[1].spectrum.dead == pytest.approx(3 / 16)


def test_probes_give_the_gain_with_a_standard_error(monkeypatch, chain):
    net = chain(nn.Tanh, 4, 96)
    x = torch.randn(1, 96, dtype=torch.float64)
    sure = depth(Jacobian(net, x))
    monkeypatch.setattr(module, "_EXACT", 64)
    off = []
    for seed in range(20):
        found = depth(Jacobian(net, x), seed=seed)
        assert found.spectra == {}
        for a, b in zip((*found.gains, *found.onward), (*sure.gains, *sure.onward), strict=True):
            assert 0 < a.error < 0.2
            off.append((a.log - b.log) / a.error)
    assert 0.7 < np.sqrt(np.mean(np.square(off))) < 1.4
    assert sum("random probes" in note for note in found.notes) == 2


def test_a_short_budget_takes_fewer_spectra_and_says_so(chain):
    found = at(chain(None, 12, 8), 8, budget=8 * 1e-9 * 8**3)
    assert sorted(found.spectra) == [1, 3, 5, 7, 9, 11]
    assert any("behind one in 2 layers" in note for note in found.notes)


def test_blocks_that_do_not_multiply_to_the_jacobian_are_refused(monkeypatch, chain):
    def without_the_last(tape):
        path = blocks(tape)
        return Path(path.blocks[:-1], tape)

    monkeypatch.setattr(module, "blocks", without_the_last)
    monkeypatch.setattr(module, "measured", lambda *given: PARTS(*given)[:-1])
    with pytest.raises(MeasurementError, match="do not multiply to the Jacobian"):
        at(chain(None, 3, 8), 8)


PARTS = module.measured


def test_a_network_without_blocks_is_refused():
    with pytest.raises(MeasurementError, match="no block between the input and the output"):
        at(nn.Identity(), 4)


def test_a_network_that_mixes_nothing_has_one_spectrum():
    found = depth(Jacobian(nn.Tanh(), torch.randn(1, 6)))
    assert list(found.spectra) == [0]
    assert [part.kind for part in found.parts] == ["activation"]


def test_what_cannot_be_followed_is_one_clear_error():
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, u):
            return u

    with pytest.raises(MeasurementError, match="could not be followed, call by call") as caught:
        depth(Jacobian(lambda x: Own.apply(x), torch.randn(1, 3), self_check=False))
    assert "\n" not in str(caught.value)
