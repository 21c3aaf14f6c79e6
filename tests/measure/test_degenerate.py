"""Jacobians at the edge of what there is to measure: right by every method, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import MeasurementError
from isometry.measure import LambdaOperator, largest, moments, quadrature

METHODS = pytest.mark.parametrize("method", ["auto", "exact", "quadrature", "product"])


def linear(weight) -> nn.Module:
    weight = torch.as_tensor(weight, dtype=torch.float64)
    layer = nn.Linear(*weight.T.shape, dtype=torch.float64)
    layer.weight.data = weight
    return nn.Sequential(layer)


@METHODS
@pytest.mark.parametrize("shape", [(5, 4), (1, 4), (4, 1)])
def test_a_jacobian_of_rank_zero_is_refused(method, shape):
    with pytest.raises(MeasurementError, match="the output does not depend on the input"):
        isometry.spectrum(linear(np.zeros(shape)), method=method)


@METHODS
@pytest.mark.parametrize("c", [1e-150, 1e-3, -2.0, 1e150])
def test_a_multiple_of_the_identity_is_one_atom(method, c):
    found = isometry.spectrum(linear(c * np.eye(24)), method=method)
    assert found.log_sigma == pytest.approx(np.log(abs(c)), abs=1e-12)
    assert found.resolved == pytest.approx(1, abs=1e-12)
    assert found.std_log < 1e-12


@METHODS
@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1)])
def test_a_single_row_or_column_is_its_norm(method, shape):
    weight = np.random.default_rng(0).standard_normal(shape)
    found = isometry.spectrum(linear(weight), method=method)
    assert found.singular_values == pytest.approx([np.linalg.norm(weight)], rel=1e-13)
    assert found.weights == pytest.approx([1.0])


def test_more_steps_and_probes_than_dimensions_are_all_of_them():
    weight = np.random.default_rng(0).standard_normal((9, 6))
    report = isometry.analyze(linear(weight), method="quadrature", probes=10**6, steps=10**6)
    sigma = np.linalg.svd(weight, compute_uv=False)
    assert report.spectrum.singular_values == pytest.approx(sigma, rel=1e-12)
    sure = report.uncertainty
    assert (sure.probes, sure.score.high - sure.score.low) == (6, pytest.approx(0, abs=1e-12))


def test_one_probe_says_how_little_it_knows():
    network = linear(np.random.default_rng(0).standard_normal((300, 300)) / 300**0.5)
    one, many = (
        isometry.analyze(network, method="quadrature", probes=p, seed=1).uncertainty
        for p in (1, 16)
    )
    exact = isometry.analyze(network, method="exact")
    assert one.score.low < exact.score.value < one.score.high
    wider = (one.score.high - one.score.low) / (many.score.high - many.score.low)
    assert wider == pytest.approx((16 * 299 / 284) ** 0.5, rel=0.15)


@pytest.mark.parametrize("estimate", [quadrature, moments, largest])
@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_product_that_stops_being_finite_ends_it(estimate, good):
    calls = []

    def product(v):
        calls.append(1)
        v = v * torch.linspace(1, 2, 90, dtype=v.dtype)[:, None]
        return v if len(calls) <= good else v / 0

    with pytest.raises(MeasurementError, match="a product with the Jacobian is not finite"):
        estimate(LambdaOperator((90, 90), product, product))
