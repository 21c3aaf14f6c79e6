"""Numbers of a spectrum beside those of a prediction."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry.report import Prediction
from isometry.spectrum import Spectrum
from isometry.theory.differences import differences

N = 2000
# log σ uniform on [−1, 1] with mass 0.7, atoms at σ = 0 and σ = e of masses 0.1 and 0.2
GRID = np.linspace(-1, 1, 201)
LAW = Prediction(
    name="a law",
    law="uniform",
    score=0.5,
    std_log_sigma=0.7,
    mean_log_sigma=0.2 / 0.9,
    atoms=((0.0, 0.1), (math.e, 0.2)),
    grid=tuple(GRID),
    cdf=tuple(0.1 + 0.35 * (GRID + 1)),
    density=tuple(np.full(201, 0.35)),
    ks=0.0,
)


def drawn(shift=0.0, stretch=1.0, **masses):
    """Exact quantiles of the law, moved."""
    resolved = np.concatenate([np.ones(2 * N), np.linspace(1, -1, 7 * N + 1)[1:] + 1 / (7 * N)])
    return Spectrum(shift + stretch * resolved, np.full(9 * N, 0.9 / (9 * N)), **masses)


def found(spectrum):
    return {d.name: d.value for d in differences(spectrum, LAW, 0.01, limit=False)}


def test_a_spectrum_of_the_law_differs_in_nothing():
    values = found(drawn(dead=0.1))
    assert values["wasserstein"] < 1e-3
    assert abs(values["drift"]) < 1e-6
    assert abs(values["edge"]) < 1e-12


@pytest.mark.parametrize("shift", [0.3, -0.2])
def test_a_shift_is_the_drift_the_edge_and_the_distance(shift):
    values = found(drawn(shift, dead=0.1))
    assert values["wasserstein"] == pytest.approx(0.9 * abs(shift), abs=2e-3)
    assert values["drift"] == pytest.approx(shift, abs=1e-6)
    assert values["edge"] == pytest.approx(shift, abs=1e-12)


def test_a_stretch_is_the_spread():
    usual = found(drawn(dead=0.1))["spread"]
    assert found(drawn(0, 1.5, dead=0.1))["spread"] == pytest.approx(
        usual + 0.5 * drawn(dead=0.1).std_log, abs=1e-9
    )


def test_what_is_dead_is_infinitely_far_and_not_counted():
    resolved = drawn(dead=0.1).log_sigma
    more = Spectrum(resolved, np.full(9 * N, 0.7 / (9 * N)), dead=0.3)
    assert found(more)["wasserstein"] < 1e-3


def test_what_rounding_hides_is_not_compared():
    hidden = Spectrum(np.zeros(9), np.full(9, 0.1), unresolved=0.1, log_floor=-30.0)
    assert set(found(hidden)) == {"edge", "score"}


def test_a_fresh_network_is_within_chance_and_an_aligned_one_is_not():
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(128, 128, bias=False) for _ in range(4)))
    x = torch.randn(1, 128)
    for aligned in (False, True):
        if aligned:
            with torch.no_grad():
                net[1].weight.copy_(net[0].weight.T)
        report = isometry.analyze(net, x)
        free = next(p for p in report.theory if p.name == "free product")
        off = {d.name for d in free.differences if not d.is_chance}
        assert off >= {"wasserstein", "spread"} if aligned else not off
        assert ("off, up to" in str(report)) is aligned
