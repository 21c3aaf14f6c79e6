"""`isometry.layers`: the record, the rates, and the block to blame."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import DepthProfile
from isometry.blame import conclusions, rates
from isometry.depth import Layer, Summary
from isometry.meanfield import activation, chi_1
from isometry.measure.parts import parts
from isometry.spectrum import Spectrum
from isometry.theory.depth import by_depth


def default(activation, depth, width):
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers)


def layer(name, log_gain=0.0, *, kind="weight", own=None, mean_log=None, shape=(4, 4)):
    own = own or Summary.of(Spectrum.of([1.0] * 4, [0.25] * 4))
    far = None if mean_log is None else Summary.of(Spectrum(np.full(4, mean_log), np.full(4, 0.25)))
    return Layer(name, kind, shape, own, 1.0, log_gain, 0.0, 0.0, 0.0, far)


# ------------------------------------------------------------------ the whole


def test_a_default_tanh_net_vanishes_at_the_rate_of_mean_field():
    profile = isometry.layers(default(nn.Tanh, 50, 128), torch.randn(1, 128))
    assert profile.theory.startswith("mean field")
    assert [rate.quantity for rate in profile.rates] == ["log gain", "mean log σ"]
    for rate in profile.rates:
        assert rate.measured == pytest.approx(rate.expected, rel=0.02)
        assert 0 < rate.error < 0.02
    said = "\n".join(profile.conclusions)
    assert "signals vanish: they shrink by a factor of" in said
    assert ", 1.7" in said
    assert "every layer is alike: the 50 weights of 128 × 128" in said


def test_the_last_cumulative_spectrum_is_that_of_the_report(chain):
    net, x = chain(nn.ReLU, 4, 32, gain=2**0.5), torch.randn(1, 32, dtype=torch.float64)
    profile, report = isometry.layers(net, x), isometry.analyze(net, x)
    last = profile.layers[-1].cumulative
    assert last.score == pytest.approx(report.score.value, rel=1e-9)
    assert last.drift == pytest.approx(report.score.drift, rel=1e-9)
    assert last.dead == pytest.approx(report.score.dead)
    assert profile.layers[-1].log_gain == pytest.approx(report.score.log_gain)
    assert profile.layers[0].onward == pytest.approx(report.score.log_gain)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_the_record_survives_json(activation, chain):
    profile = isometry.layers(chain(activation, 3, 32))
    text = profile.to_json()
    assert DepthProfile.from_dict(json.loads(text)) == profile
    assert str(profile) == "\n".join(profile.conclusions)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "no record of isometry layers"),
        ({"kind": "theory", "schema_version": 1}, "no record of isometry layers"),
        ({"kind": "layers", "schema_version": 7}, "schema version 7"),
        ({"kind": "layers", "schema_version": 1}, "model is missing"),
    ],
)
def test_other_data_are_refused(data, words):
    with pytest.raises(isometry.LoadError, match=words):
        DepthProfile.from_dict(data)


@pytest.mark.parametrize(
    "option", [{"samples": 2}, {"method": "exact"}, {"probes": 4}, {"tolerance": 0.1}]
)
def test_options_that_it_cannot_serve_are_refused(option):
    with pytest.raises(isometry.InputError, match=f"cannot serve {next(iter(option))}: leave"):
        isometry.layers(nn.Linear(4, 4), **option)


def test_a_section_of_the_network_can_be_asked_for(chain):
    net = chain(None, 5, 16)
    names = [layer.name for layer in isometry.layers(net, start="1", stop="3").layers]
    assert names == ["1", "2", "3"]


def test_the_model_is_left_as_it_was(chain, traces):
    net = chain(nn.ReLU, 3, 8)
    before = traces(net)
    isometry.layers(net)
    assert traces(net) == before


def test_a_network_that_lets_nothing_through_is_followed_to_where_it_dies():
    net = nn.Sequential(nn.Linear(4, 4), nn.Hardtanh(5, 6), nn.Linear(4, 4))
    with pytest.raises(isometry.MeasurementError, match="J = 0"):
        isometry.layers(net, torch.ones(1, 4))
    profile = isometry.layers(net, torch.ones(1, 4), check_itself=False)
    assert [layer.own.dead for layer in profile.layers] == [0, 1, 0]
    assert [math.isinf(layer.log_gain) for layer in profile.layers] == [False, True, True]
    assert profile.layers[2].cumulative.dead == 1
    assert profile.conclusions == ("nothing gets through: J = 0 from the input to behind '1'",)
    assert DepthProfile.from_dict(profile.to_dict()).to_dict() == profile.to_dict()


# ------------------------------------------------------------------ which block


def scaled(weight):
    weight *= 1.3


def spiked(weight):
    u, v = torch.randn(2, len(weight), dtype=weight.dtype)
    weight += 4 * torch.outer(u, v) / (u.norm() * v.norm())


def partly_dead(weight):
    weight[: len(weight) // 5] = 0


@pytest.mark.parametrize(
    ("change", "code"), [(scaled, "ISO402"), (spiked, "ISO403"), (partly_dead, "ISO404")]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_doctored_layer_is_named_in_the_findings(change, code, seed, chain):
    torch.manual_seed(seed)
    net = chain(nn.Tanh, 6, 96, seed=seed)
    with torch.no_grad():
        change(net[4].weight)
    profile = isometry.layers(net, 0.1 * torch.randn(1, 96))
    assert [(f.code, f.where) for f in profile.findings] == [(code, "4")]
    assert not any("every layer is alike" in sentence for sentence in profile.conclusions)


@pytest.mark.parametrize("seed", range(5))
def test_fresh_layers_are_alike(seed, chain):
    net, x = chain(nn.Tanh, 6, 96, seed=seed), 0.1 * torch.randn(1, 96)
    profile = isometry.layers(net, x)
    assert profile.findings == ()
    assert profile.conclusions[-1].startswith(
        "every layer is alike: the 6 weights of 96 × 96 take "
    )


def test_the_block_that_loses_most_is_named_with_its_share():
    poor = Summary.of(Spectrum.of([0.1] * 4, [0.25] * 4))
    fair = Summary.of(Spectrum.of([0.5] * 4, [0.25] * 4))
    said = conclusions([layer("a", own=fair), layer("b", own=poor)], [], "", [])
    assert said[0] == "signals keep their size: the gain from input to output is 1"
    share = math.log(10) / math.log(20)
    assert said[1].startswith(f"'b' contributes most: {share:.0%} of the isometry lost")


def test_loss_is_drift_and_squared_spread_and_dead_share():
    own = Summary.of(Spectrum.of([2.0, 0.5, 2.0], [0.25] * 3, dead=0.25))
    spread = own.spread**2
    assert layer("a", own=own).loss == pytest.approx(0.25 + math.log(2) / 3 + spread)


# ------------------------------------------------------------------ rates


def test_a_rate_is_the_mean_step_with_the_error_of_a_random_walk():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        walk = np.cumsum(0.3 + 0.1 * rng.standard_normal(30))
        (rate,) = rates(
            [layer(str(i), float(y)) for i, y in enumerate(walk)], [None] * 30, [None] * 30
        )
        assert rate.expected is None
        inside += abs(rate.measured - 0.3) < 2 * rate.error
    assert 0.9 * 200 < inside < 0.99 * 200


def test_rates_are_per_layer_and_activations_are_none():
    net = [layer(str(i), -0.5 * (i // 2), kind=("weight", "activation")[i % 2]) for i in range(10)]
    (rate,) = rates(net, [-0.25 * i for i in range(10)], [None] * 10)
    assert (rate.quantity, rate.measured, rate.error) == ("log gain", -0.5, pytest.approx(0))
    assert rate.expected == -0.5


def test_a_narrow_last_layer_does_not_move_the_rate():
    net = [*(layer(str(i), 0.1 * i) for i in range(4)), layer("logits", 9.0, shape=(2, 4))]
    (rate,) = rates(net, [None] * 5, [None] * 5)
    assert rate.measured == pytest.approx(0.1)


def test_two_layers_have_no_rate():
    assert rates([layer("a"), layer("b", 1.0)], [None] * 2, [None] * 2) == ()


# ------------------------------------------------------------------ theory


def cut(net, x):
    return parts(isometry.Jacobian(net, x, self_check=False))


def test_mean_field_grows_by_half_the_logarithm_of_chi_1_at_the_measured_variance():
    torch.manual_seed(0)
    found = cut(default(nn.Tanh, 4, 64).double(), torch.randn(1, 64, dtype=torch.float64))
    expected, notes = by_depth(found, [0, 2, 4, 6])
    assert notes == []
    for i in (2, 4, 6):
        sigma_w = float(np.sqrt(np.sum(found[i].matrix.sigma ** 2) / 64))
        growth = 0.5 * math.log(chi_1(activation("tanh"), found[i - 2].after, sigma_w))
        assert expected.log_gain[i] - expected.log_gain[i - 2] == pytest.approx(growth, rel=1e-9)


def test_the_expected_gain_is_that_of_the_law(chain):
    net = nn.Sequential(nn.Linear(40, 90), nn.ReLU(), nn.Linear(90, 60)).double()
    expected, _ = by_depth(cut(net, torch.randn(1, 40, dtype=torch.float64)), [0, 2])
    for i in (0, 2):
        law_gain = expected.log_gain[i]
        low, high = expected.quantiles[i][0], expected.quantiles[i][-1]
        assert low < law_gain < high
        assert expected.drift[i] < law_gain  # Jensen


def test_blocks_without_a_law_enter_as_they_were_measured():
    net = nn.Sequential(*(nn.Linear(6, 6) for _ in range(3))).double()
    found = cut(net, torch.randn(1, 6, dtype=torch.float64))
    expected, notes = by_depth(found, [0, 1, 2])
    assert expected.name == "free product of the blocks as measured"
    assert expected.drift[2] == pytest.approx(sum(p.spectrum.mean_log for p in found))
    assert len(notes) == 1
    assert "too few to tell" in notes[0]
