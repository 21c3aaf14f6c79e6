"""From numbers to a verdict: it agrees with whether networks train."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import InputError, Spectrum, anatomy, rules
from isometry.diagnosis import FAIL_BELOW, PASS_FROM, SHALLOW, Evidence, diagnose
from isometry.report import InputInfo, JacobianInfo
from isometry.score import score
from isometry.trust import SelfCheck

FAILURES = [r.code for r in rules.all_rules() if r.evidence]
HEALTHY = SelfCheck(True, 0.0, 0.0, 0.0, False, ())


def evidence(
    values, dead=0.0, unresolved=0.0, rank=None, check=HEALTHY, per_input=None, floor=1e-9
):
    n = len(values)
    mass = 1 - dead - unresolved
    s = Spectrum.of(
        values, np.full(n, mass / max(n, 1)), floor=floor, unresolved=unresolved, dead=dead
    )
    made = score(s, [s])
    if per_input:
        made = replace(made, per_input=tuple(per_input))
    jacobian = JacobianInfo((n + 4, n + 4), rank or n + 4, "float64", "cpu", check)
    given = InputInfo("given", (1, n + 4), 1, 1.0)
    return Evidence(s, made, jacobian, given, anatomy.read(torch.sin))


def layered(e, layers):
    """The same evidence about a network of so many weight layers."""
    return replace(e, anatomy=replace(e.anatomy, kinds=("Linear",) * layers))


def codes(e):
    return [f.code for f in diagnose(e)[1]]


# ------------------------------------------------------------------ real networks


def test_the_verdict_agrees_with_whether_the_network_trains(file, data_model, digit, root):
    outcome = json.loads((root / "examples" / "results" / "train_digits.json").read_text())
    (trained,) = [n for n in outcome["networks"] if n["model"] == file]
    report = isometry.analyze(data_model(file), digit)
    assert (report.verdict.status != "FAIL") == trained["trains"]
    assert report.trustworthy
    # The example measures by code of its own.
    assert report.score.value == pytest.approx(trained["first_digit"]["score"], rel=1e-6)


def test_a_vanishing_network_is_told_so(data_model, digit):
    report = isometry.analyze(data_model("tanh_default"), digit)
    assert report.verdict.status == "FAIL"
    assert report.verdict.reason == (
        "not isometric: signals vanish and singular values are spread out"
    )
    first = report.findings[0]
    assert (first.code, first.severity) == ("ISO101", "error")
    assert "shrink by a factor of" in first.message


def test_an_exploding_network_is_told_so():
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(10)])
    for layer in net:
        nn.init.orthogonal_(layer.weight, gain=2)
    report = isometry.analyze(net)
    assert report.verdict.status == "FAIL"
    assert report.verdict.reason.startswith("not isometric: signals explode")
    assert report.findings[0].code == "ISO102"
    grows = "grow by a factor of 1.02e+03 from input to output, 2 per weight layer"
    assert grows in report.findings[0].message


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gain", [2.0, 2.25, 2.5])
def test_a_chaotic_network_that_a_forward_check_passes_fails(chain, gain, seed):
    # A forward-only check let one with mean σ² of 4.9e5 pass: its signals keep their size.
    net = chain(nn.Tanh, 50, 128, gain=gain, seed=seed)
    torch.manual_seed(seed)
    x = torch.randn(1, 128, dtype=torch.float64)
    report = isometry.analyze(net, x)
    assert 0.4 < float(net[:-1](x).detach().square().mean()) < 1.0
    assert report.verdict.status == "FAIL"
    with pytest.raises(isometry.NotIsometricError, match=r"^FAIL: "):
        isometry.check(net, x)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_networks_of_a_mean_square_of_half_a_million_fail(chain, weights):
    # Their spectra cover so many decades that some σ are near one, and the score above 0.02.
    failed = []
    for seed in range(8):
        report = isometry.analyze(chain(nn.Tanh, 50, gain=1.85, weights=weights, seed=seed))
        if 1e5 < report.score.gain**2 < 1e7:
            failed.append(report.score.value)
            assert report.verdict.status == "FAIL", report.score
            assert report.verdict.reason.startswith("not isometric: signals explode")
            assert report.findings[0].severity == "error"
    assert len(failed) >= 4
    assert max(failed) > FAIL_BELOW


def test_a_gain_of_a_hundred_fails_whatever_the_score():
    half = [1.0] * 8 + [140.0] * 8
    assert diagnose(evidence(half))[0].status == "PASS"
    assert diagnose(evidence([1.0] * 8 + [142.0] * 8))[0].status == "FAIL"


def test_an_isometry_passes_without_findings(chain):
    report = isometry.analyze(chain(None, 5, 16, weights="orthogonal"))
    assert report.verdict.status == "PASS"
    assert report.findings == ()
    spread = "gain 1, singular values spread by a factor of 1 at one standard deviation"
    assert report.verdict.reason == spread


def test_the_headline_says_what_part_its_spread_is_not_about():
    reason = diagnose(evidence([1.0], dead=0.5))[0].reason
    assert reason.endswith("at one standard deviation, 50% of the directions dead")
    reason = diagnose(evidence([1.0], dead=0.5, unresolved=0.001))[0].reason
    assert reason.endswith(", 50% of the directions dead, <1% of the directions unresolved")


def test_a_part_of_a_network_is_called_by_its_layers():
    first = diagnose(replace(evidence([0.01]), ends=("input", "3")))[1][0]
    assert first.where == "input → 3"
    assert "from input to 3" in first.message


# ------------------------------------------------------------------ thresholds


@pytest.mark.parametrize(
    ("value", "status"),
    [(1.0, "PASS"), (PASS_FROM, "PASS"), (0.049, "WARN"), (FAIL_BELOW, "WARN"), (0.019, "FAIL")],
)
def test_the_score_decides_the_status(value, status):
    # A projection onto a fraction p scores p; its gain is √p.
    verdict, _ = diagnose(evidence([1.0], dead=1 - value))
    assert verdict.status == status
    assert verdict.reason.startswith("not isometric: ") == (status == "FAIL")


@pytest.mark.parametrize(
    ("layers", "said"), [(0, False), (1, True), (SHALLOW, True), (SHALLOW + 1, False)]
)
def test_only_the_failure_of_a_shallow_network_says_that_it_may_train_anyway(layers, said):
    words = "; so shallow a network may train anyway, with a tuned learning rate"
    failed, warned, passed = [0.01], [0.13], [1.0]
    for values, status in ((failed, "FAIL"), (warned, "WARN"), (passed, "PASS")):
        verdict, _ = diagnose(layered(evidence(values), layers))
        assert verdict.status == status
        assert verdict.reason.endswith(words) == (said and status == "FAIL")
        assert ("train" in verdict.reason) == (said and status == "FAIL")


def test_a_network_without_a_cause_is_told_what_it_lacks():
    # One direction in a hundred grows by ten: the gain is one, and so is the spread.
    for unresolved, status in ((0.99, "FAIL"), (0.97, "WARN")):
        e = evidence([(1 - unresolved) ** -0.5], unresolved=unresolved)
        e = replace(e, score=replace(e.score, value=0.01 if status == "FAIL" else 0.03))
        verdict, findings = diagnose(e)
        assert {f.severity for f in findings} == {"note"}
        assert verdict.status == status
        assert verdict.reason.endswith("few singular values are near one")


# ------------------------------------------------------------------ what the cuts rest on


def pilot(root):
    text = (root / "examples" / "results" / "pilot_thresholds.json").read_text()
    return json.loads(text)


def status_of(network):
    if network["score"] >= PASS_FROM:
        return "PASS"
    return "WARN" if network["score"] >= FAIL_BELOW else "FAIL"


def test_the_readme_says_how_many_networks_of_the_pilot_trained(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    study = pilot(root)
    for name, shallow in ((f"3 to {SHALLOW}", True), (f"{SHALLOW + 1} to 60", False)):
        cells = [name]
        for status in ("PASS", "WARN", "FAIL"):
            group = [
                n["trains"]
                for n in study["battery"]
                if status_of(n) == status and (n["depth"] <= SHALLOW) == shallow
            ]
            cells.append(f"{sum(group)} of {len(group)}")
        assert f"| {' | '.join(cells)} |" in readme
    trained = [n for n in study["battery"] if n["trains"] and status_of(n) == "FAIL"]
    assert any(
        (n["depth"], n["activation"], f"{n['score']:.4f}", f"{n['accuracy']:.0%}")
        == (5, "tanh", "0.0018", "92%")
        for n in trained
    )


def test_the_readme_quotes_all_three_areas_under_the_curve(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    study = pilot(root)
    rows = {
        "even": "the 120 that the cuts were chosen on",
        "odd, held out": "the 120 held out",
        "all": "all 240",
    }
    for part, name in rows.items():
        area = study[part]["roc_auc"]
        assert f"| {name} | {area['score']:.2f} | {area['minus_depth']:.2f} |" in readme


def test_both_pages_say_what_training_means_in_both_studies(root):
    study = pilot(root)
    assert (study["trains_from_accuracy"], study["epochs"]) == (0.7, 3)
    assert (min(study["rates"]), max(study["rates"])) == (1e-6, 1)
    outcome = json.loads((root / "examples" / "results" / "train_digits.json").read_text())
    assert (outcome["trains_from_accuracy"], outcome["epochs"]) == (0.9, 10)
    for page in ("README.md", "data/README.md"):
        text = " ".join((root / page).read_text(encoding="utf-8").split())
        for words in ("70 %", "three epochs", "90 %", "thirteen", "examples/pilot_thresholds.py"):
            assert words in text, (page, words)
        assert "after ten" in text


def test_a_failed_self_check_withholds_whatever_the_score():
    bad = SelfCheck(True, 1.0, 1.3, 0.0, False, ("ISO302", "ISO303"))
    verdict, findings = diagnose(evidence([1.0], check=bad))
    assert verdict.status == "WITHHELD"
    assert verdict.reason == f"the self-check failed: {rules.rule('ISO302').title}"
    assert [f.code for f in findings[:2]] == ["ISO302", "ISO303"]
    assert findings[0].message.endswith(": relative error 1.3 between the two modes")


@pytest.mark.parametrize("code", FAILURES)
def test_a_failed_test_of_the_self_check_is_a_finding_with_what_it_found(code):
    check = SelfCheck(False, 0.11, None, 0.22, False, (code,), 0.33)
    first = diagnose(evidence([1.0], check=check))[1][0]
    rule = rules.rule(code)
    assert (first.code, first.severity, first.fix) == (code, "error", rule.remedy)
    shown = {"ISO302": "error 0.11 ", "ISO303": "error 0.22", "ISO306": "error 0.33"}
    assert first.message.startswith(f"{rule.title}: ")
    assert shown.get(code, rule.evidence) in first.message
    assert rule.evidence


def test_errors_that_could_not_be_taken_are_written_too():
    for code in FAILURES:
        check = SelfCheck(False, None, None, None, False, (code,))
        assert "{" not in diagnose(evidence([1.0], check=check))[1][0].message


def test_the_status_is_settled_once(monkeypatch):
    asked = []
    original = Evidence.status.func
    counting = cached_property(lambda e: asked.append(1) or original(e))
    counting.__set_name__(Evidence, "status")
    monkeypatch.setattr(Evidence, "status", counting)
    _, findings = diagnose(evidence([2.0, 0.01, 1e-4], dead=0.8))
    assert len(findings) >= 3
    assert len(asked) == 1


def test_without_a_self_check_there_is_a_verdict():
    assert diagnose(evidence([1.0], check=None))[0].status == "PASS"


# ------------------------------------------------------------------ findings


def test_the_gain_is_judged_where_half_the_score_is_lost():
    edge = math.exp(0.5 * math.acosh(2))
    assert codes(evidence([edge * 0.999] * 3)) == []
    assert codes(evidence([edge * 1.001] * 3)) == ["ISO102"]
    assert codes(evidence([1.001 / edge] * 3)) == []
    assert codes(evidence([0.999 / edge] * 3)) == ["ISO101"]


def test_a_spread_is_found_beside_a_gain_of_one():
    assert codes(evidence([1.4, 0.01, 0.2])) == ["ISO103"]


def test_dead_directions_are_a_note_up_to_three_quarters():
    _, (finding,) = diagnose(evidence([1.4], dead=0.5))
    assert (finding.code, finding.severity) == ("ISO104", "note")
    assert "50% of the" in finding.message
    _, findings = diagnose(evidence([1.0], dead=0.97))
    assert "ISO104" in [f.code for f in findings if f.severity == "warning"]


def test_unresolved_directions_are_a_note_and_a_high_floor_is_admitted():
    _, findings = diagnose(evidence([1.4], unresolved=0.5))
    assert [f.code for f in findings] == ["ISO105"]
    assert "lower bound" not in findings[0].message
    _, findings = diagnose(evidence([1.4], unresolved=0.5, floor=0.1))
    assert "the score is a lower bound" in findings[0].message


def test_inputs_that_disagree_are_reported():
    assert "ISO106" in codes(evidence([1.0], rank=5, per_input=[0.9, 0.5]))
    assert "ISO106" not in codes(evidence([1.0], rank=5, per_input=[0.9, 0.8]))


def test_one_output_is_reported():
    assert "ISO107" in codes(evidence([1.0], rank=1))
    assert "ISO107" in [f.code for f in isometry.analyze(nn.Linear(5, 1)).findings]


@pytest.mark.parametrize(
    ("widths", "words"),
    [((5, 1), "one output"), ((1, 5), "one input"), ((5, 1, 5), "one unit in a layer")],
)
def test_what_leaves_one_direction_is_named(widths, words):
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    (found,) = (f for f in isometry.analyze(nn.Sequential(*layers)).findings if f.code == "ISO107")
    assert f"{words} (r = 1)" in found.message
    assert "--start, --stop" in found.fix


def fresh(depth=12):
    torch.manual_seed(0)
    blocks = [(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()) for _ in range(depth)]
    return nn.Sequential(*[layer for block in blocks for layer in block])


def test_untouched_running_statistics_are_said_and_not_blamed_on_the_network():
    net, batch = fresh(), torch.randn(32, 16)
    report = isometry.analyze(net, batch)
    assert report.verdict.status == "FAIL"
    assert " in evaluation mode, where running statistics are untouched" in report.verdict.reason
    (found,) = (f for f in report.findings if f.code == "ISO108")
    assert found.severity == "warning"
    assert report.findings[0].fix == found.fix == rules.rule("ISO108").remedy
    assert "--train-mode" in found.fix

    in_training = isometry.analyze(net, batch, train_mode=True)
    net.train()(batch)
    touched = isometry.analyze(net, batch)
    for other in (in_training, touched):
        assert "ISO108" not in [f.code for f in other.findings]
        assert "untouched" not in other.verdict.reason


def test_normalisation_without_running_statistics_is_never_untouched():
    for layer in (nn.BatchNorm1d(4, track_running_stats=False), nn.InstanceNorm1d(4)):
        assert not anatomy.read(nn.Sequential(layer)).untouched
    assert anatomy.read(nn.Sequential(nn.InstanceNorm1d(4, track_running_stats=True))).untouched


def test_a_kink_is_a_note():
    kink = SelfCheck(True, 0.0, 0.0, 0.5, True, ())
    assert codes(evidence([1.0], rank=3, check=kink)) == ["ISO201"]


def test_without_a_resolved_direction_there_is_still_a_verdict():
    e = evidence([], dead=0.5, unresolved=0.5, rank=4)
    verdict, findings = diagnose(e)
    assert verdict.status == "FAIL"
    assert {"ISO104", "ISO105"} <= {f.code for f in findings}


def test_the_gravest_finding_comes_first(file, data_model, digit):
    order = {"error": 0, "warning": 1, "note": 2}
    report = isometry.analyze(data_model(file), digit)
    ranks = [order[f.severity] for f in report.findings]
    assert ranks == sorted(ranks)
    for f in report.findings:
        assert f.message
        assert f.fix
        assert rules.rule(f.code).code == f.code


# ------------------------------------------------------------------ rules


def test_every_rule_is_complete_and_found_by_its_code():
    known = rules.all_rules()
    assert [r.code for r in known] == sorted({r.code for r in known})
    for r in known:
        assert rules.rule(r.code.lower()) is r
        assert all((r.title, r.explanation, r.remedy))


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean ISO10"):
        rules.rule("ISO109")
    with pytest.raises(InputError, match="known codes: ISO101"):
        rules.rule("what")
