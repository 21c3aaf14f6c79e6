"""The one place where all parts meet."""

from __future__ import annotations

import math
import random
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import InputError, MeasurementError, MemoryBudgetError, NotIsometricError
from isometry.report import ModelInfo


def isometric(n=8):
    layer = nn.Linear(n, n, bias=False)
    nn.init.orthogonal_(layer.weight)
    return layer


def shrinking(n=8):
    net = nn.Sequential(*[isometric(n) for _ in range(5)])
    for layer in net:
        layer.weight.data.mul_(0.2)
    return net


# ------------------------------------------------------------------ the report


def test_the_report_tells_what_was_measured():
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).float()
    x = 2 * torch.ones(1, 6)
    r = isometry.analyze(net, x, seed=11)
    assert r.model.name == "Sequential"
    assert r.model.kind == "module"
    assert r.model.parameters == 6 * 5 + 5 + 5 * 4 + 4
    assert r.model.weight_layers == 2
    assert r.model.activations == ("Tanh",)
    assert r.input.source == "given"
    assert r.input.shape == (1, 6)
    assert r.input.samples == 1
    assert r.input.rms == pytest.approx(2)
    assert r.jacobian.shape == (4, 6)
    assert r.jacobian.rank == 4
    assert (r.jacobian.dtype, r.jacobian.device) == ("float64", "cpu")
    assert r.jacobian.self_check.passed
    assert r.provenance.seed == 11
    assert r.provenance.torch == torch.__version__
    assert r.provenance.version
    assert r.provenance.seconds >= 0
    assert r.trustworthy


def test_the_spectrum_is_that_of_the_jacobian():
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    x = torch.randn(1, 6)
    s = isometry.spectrum(net, x)
    expected = torch.linalg.svdvals(isometry.Jacobian(net, x).dense()).numpy()
    assert np.allclose(s.singular_values, expected, rtol=1e-13)
    assert isometry.analyze(net, x).spectrum == s


def test_several_samples_are_pooled_and_compared():
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    x = 3 * torch.randn(4, 6)
    r = isometry.analyze(net, x, samples=4)
    singles = [isometry.analyze(net, x[i : i + 1]) for i in range(4)]
    assert r.input.samples == 4
    assert r.score.per_input == pytest.approx([s.score.value for s in singles])
    assert r.score.value == pytest.approx(np.mean(r.score.per_input))
    assert len(r.spectrum.singular_values) == 24
    assert r.spectrum.resolved == pytest.approx(1)


def test_the_spectra_of_several_inputs_are_kept_one_by_one():
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    x = 3 * torch.randn(4, 6)
    r = isometry.analyze(net, x, samples=4)
    singles = [isometry.analyze(net, x[i : i + 1]) for i in range(4)]
    assert r.inputs.spectra == tuple(s.spectrum for s in singles)
    assert r.inputs.score.each == r.score.per_input
    assert r.inputs.score.deviation == r.score.spread_between_inputs > 0
    for name in ("drift", "spread"):
        each = [getattr(s.score, name) for s in singles]
        found = getattr(r.inputs, name)
        assert found.each == pytest.approx(each)
        assert found.mean == pytest.approx(np.mean(each))
        assert found.deviation == pytest.approx(np.std(each, ddof=1))
    assert (singles[0].inputs, singles[0].seeds, r.seeds) == (None, None, None)


# ------------------------------------------------------------------ initialisations


def built(width=6):
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))


def of_seed(seed):
    torch.manual_seed(seed)
    return built()


@pytest.mark.parametrize("method", ["exact", "quadrature", "product"])
def test_initialisations_are_measured_at_the_same_inputs_and_pooled(method):
    x = torch.randn(3, 6)
    options = {"samples": 3, "method": method}
    r = isometry.analyze(built, x, seeds=4, seed=5, **options)
    singles = [isometry.analyze(of_seed(5 + i), x, seed=5, **options) for i in range(4)]
    assert r.seeds.score.each == pytest.approx([s.score.value for s in singles])
    assert r.seeds.drift.each == pytest.approx([s.score.drift for s in singles])
    assert r.seeds.spread.each == pytest.approx([s.score.spread for s in singles])
    assert r.seeds.score.deviation == pytest.approx(np.std(r.seeds.score.each, ddof=1))
    assert r.score.value == pytest.approx(r.seeds.score.mean)
    # The other margin: every input, of all networks.
    by_input = np.mean([s.score.per_input for s in singles], axis=0)
    assert r.score.per_input == r.inputs.score.each == pytest.approx(by_input)
    assert (r.input.samples, len(r.seeds.spectra), len(r.inputs.spectra)) == (3, 4, 3)
    assert "4 networks, of seeds 5 to 8, were measured at the same inputs" in " ".join(r.notes)
    text = str(r)
    assert re.search(r"^inputs +scores .*of 3\)$", text, re.M | re.S)
    assert re.search(r"^seeds +scores .*of 4\)$", text, re.M | re.S)
    assert isometry.Report.from_json(r.to_json()) == r


def test_one_seed_is_one_network_and_the_generators_are_left_as_they_were():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    r = isometry.analyze(built, seeds=1, seed=3)
    assert r.spectrum == isometry.spectrum(built, seeds=1, seed=3)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert r.spectrum == isometry.analyze(of_seed(3), seed=3).spectrum
    assert r.seeds is None
    assert isometry.check(built, seeds=2, min_score=0.0).seeds is not None


def test_networks_that_are_all_alike_are_said_to_be():
    r = isometry.analyze(lambda: of_seed(0), seeds=3)
    assert r.seeds.score.deviation == pytest.approx(0, abs=1e-15)
    assert any("all of them are alike: the factory draws nothing" in n for n in r.notes)
    assert not any("alike" in n for n in isometry.analyze(built, seeds=3).notes)


def failing():
    raise ValueError("no such\ndepth")


@pytest.mark.parametrize(
    ("factory", "options", "words"),
    [
        (nn.Linear(3, 3), {}, "cannot with a Linear: give the function that builds it"),
        (3, {}, "cannot with a int: give the function"),
        (lambda: 3, {}, "the factory gave int, expected a torch.nn.Module"),
        (failing, {}, "the factory raised ValueError: no such$"),
        (built, {"seeds": 0}, "seeds must be at least 1, got 0"),
        (built, {"seeds": 1.5}, "seeds must be a whole number, got 1.5"),
        (built, {"checkpoint": object()}, "a checkpoint is of one network: leave it out"),
    ],
)
def test_what_cannot_be_built_anew_is_refused(factory, options, words):
    with pytest.raises(InputError, match=words):
        isometry.analyze(factory, torch.ones(1, 6), **{"seeds": 2, **options})


def test_gaussian_samples_are_fixed_by_the_seed():
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    four = isometry.analyze(net, samples=4, seed=2)
    assert len(set(four.score.per_input)) == 4
    assert isometry.analyze(net, samples=4, seed=2).score == four.score
    assert isometry.analyze(net, samples=4, seed=3).score != four.score
    assert four.input.source == "Gaussian noise"


@pytest.mark.parametrize("scale", [0.1, 5.0])
def test_the_input_scale_scales_gaussian_input(scale):
    net = nn.Linear(400, 3)
    assert isometry.analyze(net, input_scale=scale).input.rms == pytest.approx(scale, rel=0.2)


def test_names_can_be_given():
    info = ModelInfo("my model", "state dict", 3, 1, (), "ab" * 32)
    r = isometry.analyze(isometric(), torch.ones(1, 8), model_info=info, input_source="x.npy")
    assert r.model == info
    assert r.input.source == "x.npy"


def test_a_function_is_named_after_itself():
    def halve(x):
        return x / 2

    r = isometry.analyze(halve, torch.ones(1, 3))
    assert (r.model.name, r.model.kind, r.model.parameters) == ("halve", "function", 0)


def test_progress_rises_to_one_over_all_samples():
    seen: list[float] = []
    isometry.analyze(isometric(), samples=3, progress=seen.append)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1])


# ------------------------------------------------------------------ precision and device


def test_precision_can_be_chosen_by_name():
    for dtype in ("float32", torch.float32):
        r = isometry.analyze(isometric(), dtype=dtype)
        assert r.jacobian.dtype == "float32"
        assert r.score.value == pytest.approx(1, abs=1e-6)
    assert isometry.analyze(isometric(), dtype="auto").jacobian.dtype == "float64"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64", "double-ish", torch.int32])
def test_other_precisions_are_refused(dtype):
    with pytest.raises(InputError, match="choose float64 or float32"):
        isometry.analyze(isometric(), dtype=dtype)


def test_auto_says_which_device_it_took(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "device: cpu (auto)" in isometry.analyze(isometric(), device="auto").notes
    with pytest.raises(InputError, match="CUDA was asked for and there is none here"):
        isometry.analyze(isometric(), device="cuda")


@pytest.mark.parametrize("device", ["gpu", "tpu:0", "", "meta"])
def test_unknown_devices_are_refused(device):
    with pytest.raises(InputError, match="choose auto, cpu, cuda or cuda:N"):
        isometry.analyze(isometric(), device=device)


def test_the_memory_allowed_is_kept():
    with pytest.raises(MemoryBudgetError, match="more than the 100 B allowed"):
        isometry.analyze(isometric(), memory=100)


def test_the_memory_allowed_may_be_written_as_a_size():
    with pytest.raises(MemoryBudgetError, match="more than the 100 B allowed") as e:
        isometry.spectrum(isometric(), memory="100B")
    (size,) = re.findall(r"allow it with --memory \S+, or memory=(\d+)$", str(e.value))
    assert isometry.analyze(isometric(), memory=int(size)).trustworthy
    assert isometry.analyze(isometric(), memory="4GB").trustworthy


def test_findings_about_a_part_name_its_layers():
    net = nn.Sequential(*[nn.Linear(8, 8) for _ in range(6)])
    found = isometry.analyze(net, start="1", stop="4").findings
    assert found
    assert {f.where for f in found} == {"1 → 4"}


# ------------------------------------------------------------------ the gate


def test_a_network_that_passes_gives_its_report():
    assert isometry.check(isometric()).verdict.status == "PASS"
    assert isometry.check(isometric(), min_score=0.99).score.value > 0.99


def test_a_network_that_fails_raises_verdict_and_fix_with_the_report():
    with pytest.raises(
        NotIsometricError, match=r"^FAIL: not isometric: signals vanish.*; fix: "
    ) as e:
        isometry.check(shrinking())
    assert e.value.report.verdict.status == "FAIL"
    assert "orthogonal_" in str(e.value)


def test_a_score_asked_for_is_the_only_gate():
    with pytest.raises(NotIsometricError, match=r"^FAIL: score .*below the 0.999 asked for"):
        isometry.check(nn.Linear(8, 8), min_score=0.999)
    score = isometry.analyze(shrinking()).score.value
    assert isometry.check(shrinking(), min_score=score / 2).verdict.status == "FAIL"


def test_check_attaches_the_report_of_a_measurement_that_cannot_be_trusted():
    def hides(x):
        return x * x.detach()

    for measure in (isometry.check, isometry.spectrum):
        with pytest.raises(MeasurementError, match="disagree") as e:
            measure(hides, torch.ones(1, 4))
        assert e.value.report.verdict.status == "WITHHELD"
    with pytest.raises(MeasurementError, match="not finite") as e:
        isometry.check(lambda x: x / 0, torch.ones(1, 4))
    assert e.value.report is None


@pytest.mark.parametrize("min_score", [-0.1, 1.1, math.nan, math.inf, "a", "0.5", [0.5], 0.5j])
def test_an_impossible_gate_is_refused(min_score):
    with pytest.raises(InputError, match=r"must lie in \[0, 1\], got .*: give a number") as e:
        isometry.check(isometric(), min_score=min_score)
    assert repr(min_score) in str(e.value)


@pytest.mark.parametrize("min_score", [0, 1e-3, np.float32(0.5), np.float64(0.5)])
def test_a_gate_may_be_any_real_number(min_score):
    assert isometry.check(isometric(), min_score=min_score).verdict.status == "PASS"


def test_the_gate_is_checked_before_anything_is_measured():
    def never(x):
        raise AssertionError("called")

    with pytest.raises(InputError, match="lowest passing score"):
        isometry.check(never, torch.ones(1, 3), min_score=2)


# ------------------------------------------------------------------ the ends of floating point


@pytest.mark.parametrize("gain", [1e-4, 1e4])
def test_gains_of_160_decades_have_a_verdict(chain, gain):
    r = isometry.analyze(chain(None, 40, 16, weights="orthogonal", gain=gain))
    assert r.verdict.status == "FAIL"
    assert r.trustworthy
    assert math.log10(r.score.gain) == pytest.approx(40 * math.log10(gain), abs=1e-6)
    assert r.findings[0].code == ("ISO101" if gain < 1 else "ISO102")
    assert str(r)
    assert isometry.Report.from_json(r.to_json()) == r


def test_overflow_on_the_way_is_an_error_with_words(chain):
    with pytest.raises(MeasurementError, match="not finite"):
        isometry.analyze(chain(None, 40, 16, weights="orthogonal", gain=1e9))


def test_bad_weights_are_named_before_bad_outputs():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[0].bias.data[1] = math.inf
    with pytest.raises(MeasurementError, match=r"'0.bias' has 1 NaN or infinite values of 3"):
        isometry.analyze(net)


@pytest.mark.parametrize("kind", ["bias", "running variance"])
def test_an_infinite_weight_is_named_where_it_only_saturates(kind):
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh()).eval()
    if kind == "bias":
        net[0].bias.data[1] = math.inf
        net[1] = nn.Identity()
    else:
        net[1].running_var[0] = math.inf
    with pytest.raises(MeasurementError, match="has 1 NaN or infinite values of 4"):
        isometry.analyze(net, torch.ones(1, 4))


def test_a_mask_may_be_infinite():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))

        def forward(self, x):
            return (x.mT @ x + self.mask).softmax(-1) @ x.mT

    assert isometry.analyze(Masked(), torch.randn(1, 3, 4)).trustworthy


def test_the_spectrum_alone_asks_for_no_theory(monkeypatch):
    def dear(*_, **__):
        raise AssertionError("parts were measured")

    monkeypatch.setattr(sys.modules["isometry.measure.sample"], "parts", dear)
    net = nn.Linear(4, 4)
    assert len(isometry.spectrum(net, torch.ones(1, 4)).singular_values) == 4
    with pytest.raises(AssertionError, match="parts were measured"):
        isometry.analyze(net, torch.ones(1, 4))


class Halves(nn.Module):
    """Runs in half precision only, and hides most of its derivative."""

    def __init__(self, dtype):
        super().__init__()
        self.seen, self.hidden = (nn.Linear(8, 8).to(dtype) for _ in range(2))
        self.half = dtype

    def forward(self, x):
        x = x.to(self.half)
        return self.seen(x) + 5 * self.hidden(x).detach()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_that_hides_a_wrong_derivative_gets_no_verdict(dtype):
    torch.manual_seed(0)
    report = isometry.analyze(Halves(dtype), torch.randn(1, 8))
    assert report.verdict.status == "WITHHELD"
    assert set(report.jacobian.self_check.failures) & {"ISO303", "ISO304"}


class OldStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def test_an_old_style_function_is_measured_by_plain_autograd():
    report = isometry.analyze(OldStyle.apply, torch.randn(1, 4))
    assert report.trustworthy
    assert any("by batched autograd.grad: vmap(vjp) failed" in note for note in report.notes)


def test_a_row_of_numbers_is_one_input():
    assert isometry.analyze(nn.Tanh(), torch.randn(64)).jacobian.shape == (64, 64)


def test_a_shape_may_be_a_number_and_must_be_whole():
    assert isometry.analyze(nn.Linear(8, 8), shape=8).input.shape == (1, 8)
    with pytest.raises(InputError, match="whole numbers"):
        isometry.analyze(nn.Linear(8, 8), shape=(8.0,))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (3, "expected a module or a function, got int"),
        (nn.Linear, "got the class Linear: call it first"),
        (nn.LazyLinear(8), "lazy"),
    ],
)
def test_what_is_no_network_is_named(model, words):
    with pytest.raises(InputError, match=words):
        isometry.analyze(model)


def test_token_ids_are_differentiated_at_the_embedding():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 6))
    report = isometry.analyze(net, torch.tensor([[1, 2, 3]]))
    assert report.jacobian.shape == (18, 24)
    assert any("differentiated by the output of '0'" in note for note in report.notes)
    assert isometry.analyze(net, shape=3).jacobian.shape == (18, 24)
    with pytest.raises(InputError, match="the input is int64, expected floating point"):
        isometry.analyze(nn.Linear(3, 8), torch.tensor([[1, 2, 3]]))


def test_a_function_over_a_network_leaves_it_alone_and_runs_in_float64():
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    report = isometry.analyze(lambda x: net(x), torch.randn(3, 8))
    assert report.jacobian.dtype == "float64"
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
