"""The fixes are code: pasted, they mend the network."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import isometry
from isometry import anatomy, remedy


def mend(model, report):
    """Run the first fix of a report as a user would, who has imported torch."""
    exec(report.findings[0].fix, {"torch": torch, "model": model})


def default_relu(chain):
    torch.manual_seed(0)
    layers = [m for _ in range(30) for m in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


# fmt: off
FAILING = {
    "tanh, default": lambda chain, data_model: data_model("tanh_default"),
    "tanh, chaotic": lambda chain, data_model: data_model("tanh_chaotic"),
    "linear, weights × 1.5": lambda chain, data_model: chain(None, 30, gain=1.5),
    "linear, weights × 0.5": lambda chain, data_model: chain(None, 30, gain=0.5),
    "ReLU, default": lambda chain, data_model: default_relu(chain),
}
# fmt: on


@pytest.mark.parametrize("name", FAILING)
def test_the_first_fix_of_a_failing_network_mends_it(name, chain, data_model, digit):
    model = FAILING[name](chain, data_model)
    before = isometry.analyze(model, digit)
    assert before.verdict.status == "FAIL"
    mend(model, before)
    after = isometry.analyze(model, digit)
    assert after.score.value > 0.05
    assert after.verdict.status == "PASS"
    assert after.score.value > 10 * before.score.value


@pytest.mark.parametrize("name", ["tanh, default", "tanh, chaotic", "linear, weights × 1.5"])
def test_smooth_networks_are_mended_to_near_isometry(name, chain, data_model, digit):
    model = FAILING[name](chain, data_model)
    mend(model, isometry.analyze(model, digit))
    assert isometry.analyze(model, digit).score.value > 0.85


@pytest.mark.parametrize("gain", [0.7, 2.5])
def test_a_chain_without_a_recipe_gets_its_weights_rescaled_to_a_gain_of_one(gain):
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(12)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=gain / 6)
    model = nn.Sequential(*[m for layer in layers for m in (layer, nn.LeakyReLU(0.1))])
    x = torch.randn(1, 4, 5, 5)
    before = isometry.analyze(model, x)
    assert before.verdict.status in ("FAIL", "WARN")
    mend(model, before)
    assert isometry.analyze(model, x).score.gain == pytest.approx(1, rel=1e-4)


class Shared(nn.Module):
    """One layer, twenty times: its gain is not that of one weight layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 16)
        nn.init.orthogonal_(self.layer.weight, gain=0.5)

    def forward(self, x):
        for _ in range(20):
            x = torch.tanh(self.layer(x))
        return x


SILU = nn.Sequential(*[m for _ in range(30) for m in (nn.Linear(16, 16), nn.SiLU())])
# Fresh batch normalisation is linear in evaluation mode and forgets the scale in training.
NORMALISED = nn.Sequential(*[m for _ in range(9) for m in (nn.Linear(16, 16), nn.BatchNorm1d(16))])


@pytest.mark.parametrize("model", [Shared(), SILU, NORMALISED], ids=["shared", "SiLU", "norm"])
def test_no_scale_is_given_where_the_gain_does_not_follow_it(model):
    report = isometry.analyze(model, torch.ones(1, 16))
    assert report.verdict.status == "FAIL"
    assert not any("model" in f.fix and "mul_" in f.fix for f in report.findings)


def test_a_weight_that_acts_twice_is_not_rescaled():
    layer = nn.Linear(4, 4)
    assert anatomy.read(nn.Sequential(layer, nn.ReLU())).rescalable
    assert not anatomy.read(nn.Sequential(layer, nn.ReLU(), layer)).rescalable


@pytest.mark.parametrize(
    "selection",
    [{"start": "10", "stop": "14"}, {"at": ":,:8"}, {"wrt": "input"}, {"train_mode": True}],
    ids=["between layers", "at positions", "by an argument", "in training"],
)
def test_a_part_of_a_network_gets_no_code_for_all_of_it(selection):
    layers = [nn.Linear(16, 16, bias=False) for _ in range(24)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=0.5)
    model = nn.Sequential(*layers)
    x = torch.ones(1, 16)
    whole = isometry.analyze(model, x)
    assert "2 per weight layer" in whole.findings[0].message
    assert "torch.nn.init" in whole.findings[0].fix
    part = isometry.analyze(model, x, **selection)
    first = part.findings[0]
    assert (part.verdict.status, first.code) == ("FAIL", "ISO101")
    assert "per weight layer" not in first.message
    assert "torch" not in first.fix
    assert "shallow" not in part.verdict.reason


def test_a_softmax_is_not_told_to_raise_its_weights():
    report = isometry.analyze(nn.Sequential(nn.Linear(16, 8), nn.Softmax(-1)), torch.ones(1, 16))
    assert report.findings[0].code == "ISO101"
    assert report.findings[0].fix.startswith("a softmax shrinks signals whatever the weights")


@pytest.mark.parametrize("q", [0.001, 0.02, 0.5])
def test_the_critical_line_holds_its_fixed_point(q):
    sw2, sb2 = remedy.critical_tanh(q)
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weight = torch.exp(-z * z / 2)
    weight /= weight.sum()
    phi = torch.tanh(math.sqrt(q) * z)
    assert float(sw2 * (weight @ (1 - phi**2) ** 2)) == pytest.approx(1, abs=1e-8)
    assert float(sw2 * (weight @ phi**2)) + sb2 == pytest.approx(q, rel=1e-8)
    assert sb2 > 0


def test_the_critical_line_starts_at_one():
    sw2, sb2 = remedy.critical_tanh(1e-4)
    assert sw2 == pytest.approx(1 + 2e-4, rel=1e-6)
    assert sb2 == pytest.approx(0, abs=1e-9)


def read(activation, depth=3):
    layers = [m for _ in range(depth) for m in (nn.Linear(4, 4), activation())]
    return anatomy.read(nn.Sequential(*layers[:-1]))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Identity])
def test_a_recipe_is_code_that_runs_on_networks_with_and_without_bias(activation):
    recipe = remedy.reinitialise(read(activation), 1.0)
    for bias in (True, False):
        layers = [m for _ in range(3) for m in (nn.Linear(4, 4, bias=bias), activation())]
        before = layers[0].weight.detach().clone()
        exec(recipe, {"torch": torch, "model": nn.Sequential(*layers)})
        assert not torch.equal(layers[0].weight, before)


def test_without_a_recipe_there_is_none():
    assert remedy.reinitialise(anatomy.read(torch.sin), 1.0) is None
    assert remedy.reinitialise(read(nn.GELU), 1.0) is None
    assert remedy.reinitialise(read(nn.Tanh), 0.0) is None
    assert remedy.reinitialise(read(nn.Tanh, depth=1), 1.0) is not None  # it is linear


def best(depth, activation, n=64):
    torch.manual_seed(0)
    layers = [m for _ in range(depth) for m in (nn.Linear(n, n), activation())]
    model = nn.Sequential(*layers)
    recipe = remedy.reinitialise(anatomy.read(model), 1.0)
    exec(recipe, {"torch": torch, "model": model})
    return model


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Identity])
def test_a_network_made_by_the_recipe_is_known_to_be(activation):
    model = best(6, activation)
    assert remedy.is_at_its_best(anatomy.read(model), 1.0)
    model[4].weight.data *= 1.1
    assert not remedy.is_at_its_best(anatomy.read(model), 1.0)
    random = nn.Sequential(nn.Linear(512, 512), nn.ReLU())
    nn.init.normal_(random[0].weight, std=(2 / 512) ** 0.5)
    nn.init.zeros_(random[0].bias)
    assert not remedy.is_at_its_best(anatomy.read(random), 1.0)
    assert not remedy.is_at_its_best(anatomy.read(torch.sin), 1.0)


def test_the_recipe_is_not_prescribed_to_a_network_that_has_it():
    model = best(120, nn.ReLU)
    report = isometry.analyze(model)
    assert report.verdict.status != "PASS"
    fixes = [f.fix for f in report.findings if f.code in ("ISO101", "ISO102", "ISO103")]
    assert fixes
    assert all(f.startswith("the weights already have the best initialisation") for f in fixes)


def test_rescaling_shares_the_gain_between_the_layers():
    two = anatomy.read(nn.Sequential(nn.Linear(3, 3), nn.Conv1d(3, 3, 1), nn.ReLU()))
    assert remedy.rescale(two, math.log(16)) == (
        "[m.weight.data.mul_(0.25) for m in model.modules() "
        "if isinstance(m, (torch.nn.Linear, torch.nn.Conv1d,))]  # a first step: measure again"
    )


def test_there_is_no_recipe_where_a_layer_widens():
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))
    assert remedy.reinitialise(anatomy.read(net), 1.0) is None


def test_parametrised_weights_are_not_rescaled():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU())
    assert remedy.rescale(anatomy.read(net), math.log(1e-3)) is None


def test_subclasses_are_named_by_the_class_that_the_snippet_can_find():
    class Mine(nn.Linear):
        pass

    code = remedy.rescale(anatomy.read(nn.Sequential(Mine(4, 4), nn.ReLU())), math.log(4))
    assert "torch.nn.Linear" in code
    assert "Mine" not in code


@pytest.mark.parametrize("log_gain", [-745.0, 709.0, -3466.0, 5000.0])
def test_no_sane_factor_mends_an_absurd_gain(log_gain):
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert remedy.rescale(anatomy.read(net), log_gain) is None


def test_the_last_layer_of_a_relu_chain_has_nothing_to_make_up_for():
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    code = remedy.reinitialise(anatomy.read(net), 1.0)
    exec(code, {"model": net, "torch": torch})
    assert isometry.analyze(net).score.value > 0.35
