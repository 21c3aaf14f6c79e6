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


@pytest.mark.parametrize("gain", [0.7, 1.5])
def test_a_residual_network_without_a_recipe_gets_its_weights_rescaled(gain):
    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(16, 16, bias=False) for _ in range(12))
            for layer in self.layers:
                nn.init.orthogonal_(layer.weight, gain=gain)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    torch.manual_seed(0)
    model = Skipping()
    before = isometry.analyze(model)
    assert before.verdict.status in ("FAIL", "WARN")
    assert "mul_" in before.findings[0].fix
    mend(model, before)
    assert isometry.analyze(model).score.value == pytest.approx(1, abs=1e-3)


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
    two = anatomy.read(nn.Sequential(nn.Linear(3, 3), nn.Conv1d(3, 3, 1), nn.GELU()))
    assert remedy.rescale(two, math.log(16)) == (
        "[m.weight.data.mul_(0.25) for m in model.modules() "
        "if isinstance(m, (torch.nn.Linear, torch.nn.Conv1d,))]  # a first step: measure again"
    )


def test_there_is_no_recipe_where_a_layer_widens():
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))
    assert remedy.reinitialise(anatomy.read(net), 1.0) is None


def test_parametrised_weights_are_not_rescaled():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.GELU())
    assert remedy.rescale(anatomy.read(net), math.log(1e-3)) is None


def test_subclasses_are_named_by_the_class_that_the_snippet_can_find():
    class Mine(nn.Linear):
        pass

    code = remedy.rescale(anatomy.read(nn.Sequential(Mine(4, 4), nn.GELU())), math.log(4))
    assert "torch.nn.Linear" in code
    assert "Mine" not in code


@pytest.mark.parametrize("log_gain", [-745.0, 709.0, -3466.0, 5000.0])
def test_no_sane_factor_mends_an_absurd_gain(log_gain):
    net = nn.Sequential(nn.Linear(4, 4), nn.GELU())
    assert remedy.rescale(anatomy.read(net), log_gain) is None


def test_the_last_layer_of_a_relu_chain_has_nothing_to_make_up_for():
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    code = remedy.reinitialise(anatomy.read(net), 1.0)
    exec(code, {"model": net, "torch": torch})
    assert isometry.analyze(net).score.value > 0.35
