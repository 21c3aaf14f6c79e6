"""The exact spectrum: what jacrev and LAPACK say, and the zeros told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev

import isometry
from isometry import Jacobian, MeasurementError, MemoryBudgetError
from isometry.measure import exact

EPS = np.finfo(float).eps


def by_jacrev(model, x):
    model = model.double().eval()
    state = {k: v.detach() for k, v in model.state_dict().items()}
    jac = jacrev(lambda point: functional_call(model, state, (point,)))(x.double())
    return torch.linalg.svdvals(jac.reshape(-1, x.numel())).numpy()


def test_agrees_with_jacrev_and_svdvals_on_every_network_of_the_data(file, data_model, digit):
    measured = exact(Jacobian(data_model(file), digit)).spectrum
    expected = by_jacrev(data_model(file), digit)
    assert len(measured.singular_values) == np.sum(expected > measured.floor)
    expected = expected[: len(measured.singular_values)]
    error = np.abs(measured.singular_values - expected)
    # A backward stable SVD is exact to some eps·σ_max, whatever the size of a singular value.
    assert np.all(error <= 1e-12 * expected + 10 * EPS * expected[0])
    large = expected > 1e-3 * expected[0]
    assert np.all(error[large] <= 1e-12 * expected[large])


def test_masses_of_every_network_of_the_data_add_up(file, data_model, digit):
    m = exact(Jacobian(data_model(file), digit))
    s, r = m.spectrum, m.bottleneck.width
    assert s.resolved + s.dead + s.unresolved == pytest.approx(1, abs=1e-12)
    assert np.all(s.weights == 1 / r)
    assert np.all(s.singular_values > s.floor)
    assert s.method == "exact"
    assert m.dense.shape == Jacobian(data_model(file), digit).shape


def test_a_diagonal_network_has_its_diagonal():
    d = torch.tensor([3.0, -2.0, 0.5, 1e-10], dtype=torch.float64)
    s = exact(Jacobian(lambda x: d * x, torch.ones(4))).spectrum
    assert s.singular_values == pytest.approx([3, 2, 0.5, 1e-10], rel=1e-14)
    assert s.floor == pytest.approx(2 * EPS * 3)
    assert (s.dead, s.unresolved) == (0, 0)


def test_an_orthogonal_network_has_ones_only(chain):
    s = exact(Jacobian(chain(None, 20, 32, weights="orthogonal"), torch.randn(1, 32))).spectrum
    assert s.singular_values == pytest.approx(np.ones(32), abs=1e-13)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_singular_values_of_a_matrix_are_those_of_numpy(m, n, seed):
    a = np.random.default_rng(seed).standard_normal((m, n))
    s = exact(Jacobian(lambda x: torch.from_numpy(a) @ x, torch.zeros(n))).spectrum
    expected = np.linalg.svd(a, compute_uv=False)
    assert len(s.singular_values) == min(m, n)
    assert np.abs(s.singular_values - expected).max() <= 20 * EPS * expected[0]


@pytest.mark.parametrize("exponent", [-300, -160, 160, 290])
def test_values_at_the_ends_of_floating_point_are_measured(exponent):
    d = torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64) * 10.0**exponent
    s = exact(Jacobian(lambda x: d * x, torch.ones(3))).spectrum
    assert s.singular_values / 10.0**exponent == pytest.approx([3, 2, 0.5], rel=1e-13)


# ------------------------------------------------------------------ zeros


@pytest.mark.parametrize("seed", range(4))
def test_the_dead_fraction_of_a_relu_chain_is_its_rank_deficiency(chain, seed):
    net = chain(nn.ReLU, 4, 32, gain=2**0.5, seed=seed)
    x = torch.randn(1, 32, dtype=torch.float64)
    s = exact(Jacobian(net, x)).spectrum
    rank = np.linalg.matrix_rank(Jacobian(net, x).dense().numpy())
    assert s.dead == 1 - rank / 32
    assert s.unresolved == 0
    assert len(s.singular_values) == rank


def test_zeros_forced_by_a_narrow_layer_are_not_counted():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 64))
    m = exact(Jacobian(net, torch.randn(1, 64)))
    assert m.bottleneck.width == 8
    assert len(m.spectrum.singular_values) == 8
    assert np.all(m.spectrum.weights == 1 / 8)
    report = isometry.analyze(net, torch.randn(1, 64))
    assert report.jacobian.rank == 8
    assert any("the narrowest layer leaves 8 of" in note for note in report.notes)


@pytest.mark.parametrize("shape", [(3, 9), (9, 3)])
def test_zeros_forced_by_a_rectangle_are_not_counted(shape):
    s = exact(Jacobian(nn.Linear(*shape).double(), torch.randn(1, shape[0]))).spectrum
    assert len(s.singular_values) == 3
    assert (s.dead, s.unresolved) == (0, 0)


def test_isometric_embeddings_and_projections_score_one():
    for n_in, n_out in ((4, 12), (12, 4)):
        layer = nn.Linear(n_in, n_out, bias=False)
        nn.init.orthogonal_(layer.weight)
        assert isometry.analyze(layer, torch.randn(1, n_in)).score.value == pytest.approx(1)


def test_zeros_of_a_singular_weight_are_unresolved_not_dead():
    layer = nn.Linear(6, 6, bias=False, dtype=torch.float64)
    layer.weight.data[3:] = layer.weight.data[:3]
    s = exact(Jacobian(layer, torch.randn(1, 6))).spectrum
    assert (s.dead, s.unresolved) == (0, 0.5)
    assert len(s.singular_values) == 3


def test_noise_below_the_floor_is_reported_as_a_mass(chain):
    s = exact(Jacobian(chain(nn.Tanh, 50, gain=2.5), torch.randn(1, 64))).spectrum
    assert s.unresolved > 0.3
    assert s.floor == pytest.approx(8 * EPS * s.singular_values[0])
    assert s.singular_values[-1] > s.floor
    assert len(s.singular_values) == round((1 - s.unresolved) * 64)


def test_float32_has_a_higher_floor(chain):
    net = chain(nn.Tanh, 50, gain=2.5)
    x = torch.randn(1, 64)
    single = exact(Jacobian(net, x, dtype=torch.float32)).spectrum
    double = exact(Jacobian(net, x)).spectrum
    assert single.floor / single.singular_values[0] == pytest.approx(
        2**29 * double.floor / double.singular_values[0]
    )
    assert single.unresolved > double.unresolved
    k = len(single.singular_values)
    # float32 inputs to 50 chaotic layers: only that no noise is passed off as a value.
    assert k < len(double.singular_values)


# ------------------------------------------------------------------ errors


def test_a_jacobian_of_zeros_is_refused():
    with pytest.raises(MeasurementError, match=r"does not depend on the input .* \(J = 0\)"):
        exact(Jacobian(lambda x: x.detach() + 1, torch.ones(1, 3), self_check=False))
    with pytest.raises(MeasurementError, match="dead units"):
        exact(Jacobian(nn.ReLU(), -torch.ones(1, 3)))


def test_an_output_that_ignores_the_input_is_refused():
    with pytest.raises(MeasurementError, match="J = 0"):
        exact(Jacobian(lambda x: torch.ones(2, dtype=x.dtype), torch.ones(1, 3)))


def test_a_jacobian_with_nan_is_refused_with_its_count():
    with pytest.raises(MeasurementError, match=r"not finite at this input \(3 of 9 entries\)"):
        exact(Jacobian(lambda x: x.sqrt(), torch.tensor([0.0, 1.0, 4.0]), self_check=False))
    with pytest.raises(MeasurementError, match="the Jacobian is not finite at this input"):
        Jacobian(lambda x: x.sqrt(), torch.tensor([0.0, 1.0, 4.0])) @ torch.ones(3)


def test_a_jacobian_over_budget_is_refused():
    with pytest.raises(MemoryBudgetError, match="3 x 3"):
        exact(Jacobian(nn.Tanh(), torch.ones(3)), memory=10)


def test_progress_ends_at_one():
    seen: list[float] = []
    exact(Jacobian(nn.Tanh(), torch.ones(3)), progress=seen.append)
    assert seen[-1] == 1
