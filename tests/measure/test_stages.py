"""Chains of modules: finding their stages, and every singular value however deep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isometry import InputError, Jacobian, MeasurementError, MemoryBudgetError
from isometry.measure import exact
from isometry.measure.chain import chain as measure
from isometry.measure.stages import stages

X = torch.linspace(-1, 1, 64).reshape(1, 64)


def ends(model, x):
    return [(s.start, s.stop) for s in stages(model, x)]


class Looped(nn.Module):
    """Calls its children one by one, held in a list, and itself holds a chain."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.rest = nn.ModuleList(nn.Sequential(nn.Tanh(), nn.Linear(6, 6)) for _ in range(3))

    def forward(self, x):
        x = self.first(x)
        for part in self.rest:
            x = part(x)
        return x


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        return x + self.inner(x)


class Functional(Looped):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class Within(Looped):
    def forward(self, x):
        return self.rest[0](torch.relu(self.first(x)))


class WrittenTo(Looped):
    def forward(self, x):
        y = self.first(x)
        y += 1
        return self.rest[0](y)


class Skipping(Looped):
    def forward(self, x):
        y = self.first(x)
        self.rest[0](y)
        return self.rest[1](y)


class TwoInputs(Looped):
    def forward(self, x, scale):
        return super().forward(x)


def plain_cnn():
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Conv2d(4, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(12, 5))


# ------------------------------------------------------------------ stages


def test_layers_without_weights_go_with_the_one_before_them():
    net = plain_cnn()
    assert ends(net, torch.randn(1, 2, 8, 8)) == [("0", "3"), ("4", "6"), ("7", "7")]


def test_layers_before_the_first_weights_go_with_it():
    net = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(64, 3), nn.Tanh(), nn.Linear(3, 3))
    assert ends(net, X) == [("0", "3"), ("4", "4")]


def test_chains_within_chains_are_unfolded_and_blocks_kept_whole():
    assert ends(Looped(), torch.ones(1, 6)) == [
        ("first", "rest.0.0"),
        ("rest.0.1", "rest.1.0"),
        ("rest.1.1", "rest.2.0"),
        ("rest.2.1", "rest.2.1"),
    ]
    net = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), Block(), Functional(), nn.Tanh())
    assert ends(net, torch.ones(1, 6)) == [("0.0", "0.1"), ("1", "1"), ("2", "3")]


def test_a_layer_that_runs_twice_is_two_stages():
    layer = nn.Linear(6, 6)
    net = nn.Sequential(layer, nn.Tanh(), layer)
    assert ends(net, torch.ones(1, 6)) == [("0", "1"), ("0", "0")]
    found = measure(net, torch.ones(1, 6)).log_sigma
    expected = exact(Jacobian(net, torch.ones(1, 6))).spectrum.log_sigma
    assert found == pytest.approx(expected, abs=1e-11)


def test_stages_know_the_shapes_of_their_jacobians():
    net = plain_cnn()
    assert [s.shape for s in stages(net, torch.randn(1, 2, 8, 8))] == [(64, 128), (12, 64), (5, 12)]
    shared = nn.Tanh()  # one module, two sizes
    net = nn.Sequential(nn.Linear(6, 4), shared, nn.Sequential(nn.Linear(4, 2), shared))
    assert [s.shape for s in stages(net, torch.ones(1, 6))] == [(4, 6), (2, 4)]


def test_a_single_layer_is_a_chain_of_one():
    assert ends(nn.Linear(6, 2), torch.ones(1, 6)) == [("", "")]


@pytest.mark.parametrize("kind", [Functional, Within, WrittenTo, Skipping, Block])
def test_a_forward_that_does_more_than_call_its_children_is_no_chain(kind):
    message = f"{kind.__name__} is no chain of modules: forward of .* more than call its children"
    with pytest.raises(InputError, match=message):
        stages(kind(), torch.ones(1, 6))


def test_what_is_not_one_module_of_one_tensor_is_no_chain():
    with pytest.raises(InputError, match="function is no chain of modules: give a network"):
        measure(lambda x: x, torch.ones(3))
    with pytest.raises(InputError, match="not its only input"):
        measure(TwoInputs(), (torch.ones(1, 6), torch.ones(1)))
    embedding = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3))
    with pytest.raises(InputError, match="not its only input"):
        measure(embedding, torch.tensor([[1, 2]]))


def test_hooks_that_change_what_a_container_hands_on_keep_it_whole():
    net = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)), nn.Linear(6, 6))
    net[0].register_forward_hook(lambda module, args, out: 2 * out)
    assert ends(net, torch.ones(1, 6)) == [("0", "0"), ("1", "1")]
    net.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    with pytest.raises(InputError, match="not its only input"):
        stages(net, torch.ones(1, 6))


# ------------------------------------------------------------------ spectra


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_agrees_with_the_exact_spectrum_where_that_resolves_all(chain, activation):
    net = chain(activation, 5, 64, weights="orthogonal", gain=1.2, bias=True)
    found, spectrum = measure(net, X), exact(Jacobian(net, X)).spectrum
    assert found.log_sigma == pytest.approx(spectrum.log_sigma, abs=1e-10)
    assert (found.dead, found.unresolved, found.rank) == (spectrum.dead, 0, 64)
    assert len(found.log_sigma) == round(64 * (1 - found.dead))


def test_a_cnn_with_pooling_and_batch_norm():
    net, x = plain_cnn(), torch.randn(1, 2, 8, 8)
    found, spectrum = measure(net, x), exact(Jacobian(net, x)).spectrum
    assert found.rank == 5
    assert found.log_sigma == pytest.approx(spectrum.log_sigma, abs=1e-11)


def test_zeros_of_a_softmax_are_unresolved():
    net = nn.Sequential(nn.Linear(6, 4), nn.Softmax(-1))
    found = measure(net, torch.ones(1, 6))
    assert (len(found.log_sigma), found.unresolved, found.dead) == (3, 0.25, 0)


def test_values_below_the_floor_of_the_dense_jacobian_are_resolved(chain):
    net = chain(nn.Tanh, 60, 16, gain=1.5)
    x = X[:, :16]
    spectrum = exact(Jacobian(net, x)).spectrum
    found = measure(net, x)
    k = len(spectrum.singular_values)
    assert k < 12
    assert found.unresolved == 0
    assert len(found.log_sigma) == 16
    # A dense SVD knows σ to some eps·σ_max.
    error = np.abs(np.exp(found.log_sigma[:k]) - spectrum.singular_values)
    assert error.max() < 1e-13 * spectrum.singular_values[0]


@pytest.mark.parametrize("gain", [0.02, 40.0])
def test_a_chain_beyond_the_range_of_float64_is_measured_and_said_not_to_be_compared(gain, chain):
    net, x = chain(nn.Tanh, 250, 4, weights="orthogonal", gain=gain), torch.zeros(1, 4)
    found = measure(net, x)
    assert found.log_sigma == pytest.approx(np.full(4, 250 * np.log(gain)), rel=1e-13)
    assert any("not compared with the whole network" in note for note in found.notes)
    assert measure(net[:200], x).notes == ()


def test_the_network_is_left_as_it_was(traces, chain):
    net = chain(nn.Tanh, 4, 8, bias=True).float().train()
    before = traces(net)
    measure(net, X[:, :8])
    stages(net, X[:, :8])
    assert traces(net) == before


def test_progress_is_told_stage_by_stage(chain):
    told = []
    measure(chain(nn.Tanh, 4, 8), X[:, :8], progress=told.append)
    assert told == [0.25, 0.5, 0.75, 1]


# ------------------------------------------------------------------ checks


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class WrongBackward(nn.Module):
    def forward(self, x):
        return Doubled.apply(x)


def test_a_wrong_derivative_of_a_stage_is_refused():
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), WrongBackward())
    with pytest.raises(MeasurementError):
        measure(net, torch.ones(1, 6))
    assert len(measure(net, torch.ones(1, 6), self_check=False).log_sigma) == 6


class Detaching(nn.Module):
    def __init__(self, detach):
        super().__init__()
        self.layer, self.detach = nn.Linear(6, 6), detach

    def forward(self, x):
        return self.layer(x) + (x.detach() if self.detach else x)


@pytest.mark.parametrize("place", range(3))
def test_every_stage_of_the_users_own_code_is_tested(place):
    net = nn.Sequential(*[Detaching(i == place) for i in range(3)])
    with pytest.raises(MeasurementError, match=f"from '{place}' to '{place}': the self-check"):
        measure(net, torch.ones(1, 6))


def test_layers_of_pytorch_alone_are_tested_once_a_kind(monkeypatch):
    tested = []
    verify = Jacobian.verify
    monkeypatch.setattr(Jacobian, "verify", lambda J, **o: tested.append(J) or verify(J, **o))
    net = nn.Sequential(*[nn.Linear(6, 6) for _ in range(5)], Detaching(False), Detaching(False))
    measure(net, torch.ones(1, 6))
    assert len(tested) == 3


class Moody(nn.Module):
    """Another function when it runs on its own: its answer depends on what ran before."""

    def __init__(self, other):
        super().__init__()
        self.others = [other]
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return self.layer(x) * self.others[0].ran


class Remembering(nn.Module):
    ran = 1.0

    def forward(self, x):
        self.ran = 3.0
        return x


def test_stages_that_do_not_multiply_to_the_network_are_refused():
    first = Remembering()
    net = nn.Sequential(first, nn.Linear(6, 6), Moody(first))
    with pytest.raises(MeasurementError, match="do not multiply to the Jacobian of the network"):
        measure(net, torch.ones(1, 6))
    assert len(measure(net, torch.ones(1, 6), self_check=False).log_sigma) == 6


def test_the_self_check_holds_the_largest_errors_of_all_stages(chain):
    check = measure(chain(nn.Tanh, 3, 8), X[:, :8]).self_check
    assert check.passed
    assert check.dense_error < 1e-12
    assert 0 <= check.adjoint_error < 1e-12
    assert not check.kink
    assert measure(chain(nn.Tanh, 3, 8), X[:, :8], self_check=False).self_check is None
    kinked = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU())
    nn.init.zeros_(kinked[2].bias)
    nn.init.eye_(kinked[2].weight)
    nn.init.zeros_(kinked[0].bias)
    assert measure(kinked, torch.zeros(1, 6)).self_check.kink


def test_a_stage_that_does_not_fit_is_named(chain):
    with pytest.raises(MemoryBudgetError, match="from '0' to '1': the dense Jacobian is 64 x 64"):
        measure(chain(nn.Tanh, 3, 64), X, memory=1000, self_check=False)


def test_a_stage_that_is_not_finite_is_named():
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6, bias=False), Root())
    net[1].weight.data[2] = 0
    with pytest.raises(MeasurementError, match=r"from '1' to '2': the Jacobian is not finite"):
        measure(net, torch.ones(1, 6), self_check=False)


class Root(nn.Module):
    def forward(self, x):
        return x.abs().sqrt()
