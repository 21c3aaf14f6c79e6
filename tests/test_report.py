"""The record of an analysis: its keys, its JSON, its damage."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import FrozenInstanceError, replace
from decimal import Decimal

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import LoadError, Report, Spectrum, figure, render
from isometry.report import Verdict, percent, power


@pytest.fixture(scope="module")
def reports(chain):
    """One of each kind: with theory and atoms, with dead mass, with a floor, with many inputs."""
    torch.manual_seed(0)
    return {
        "relu": isometry.analyze(chain(nn.ReLU, 3, 32, weights="orthogonal", gain=2**0.5)),
        "linear": isometry.analyze(chain(None, 2, 32)),
        "chaotic": isometry.analyze(chain(nn.Tanh, 40, 32, gain=2.5), samples=3, method="exact"),
        "vanishing": isometry.analyze(chain(nn.Tanh, 500, 8, gain=0.02), method="product"),
        "function": isometry.analyze(lambda x: x.sin(), torch.randn(1, 5)),
        "unchecked": isometry.analyze(nn.Linear(4, 4), check_itself=False),
        "estimated": isometry.analyze(chain(nn.Tanh, 3, 64), method="quadrature"),
    }


KINDS = ["relu", "linear", "chaotic", "function", "unchecked", "estimated", "vanishing"]

# The keys that the documentation promises, and that scripts rely on.
KEYS = {
    "": "schema_version model input jacobian spectrum score theory verdict findings notes "
    "provenance uncertainty inputs seeds band",
    "model": "name kind parameters weight_layers activations sha256",
    "input": "source shape samples rms",
    "jacobian": "shape rank dtype device self_check",
    "spectrum": "method log_sigma weights log_floor unresolved dead singular_values floor",
    "score": "value dead drift spread gain condition quantiles per_input log_gain log_condition "
    "log_quantiles",
    "verdict": "status reason",
    "provenance": "version torch seed seconds",
    "theory": "name law score std_log_sigma mean_log_sigma atoms grid cdf density ks judgement "
    "differences",
    "findings": "code severity message where fix",
    "uncertainty": "confidence probes steps products score drift spread gain largest resolution "
    "grid cdf_low cdf_high complete",
    "inputs": "score drift spread spectra",
    "self_check": "repeatable adjoint_error dense_error difference_error kink failures loop_error",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_survives_json_unchanged(kind, reports):
    report = reports[kind]
    assert Report.from_dict(report.to_dict()) == report
    again = Report.from_json(report.to_json())
    assert again == report
    assert again.to_json() == report.to_json()
    assert str(again) == str(report)
    assert again._repr_html_() == report._repr_html_()


@pytest.mark.parametrize("kind", KINDS)
def test_the_keys_are_the_promised_ones(kind, reports):
    data = reports[kind].to_dict()
    assert set(data) == set(KEYS[""].split())
    for part, value in data.items():
        if part in ("theory", "findings"):
            assert all(set(entry) == set(KEYS[part].split()) for entry in value)
        elif isinstance(value, dict):
            assert set(value) == set(KEYS[part].split()), part
    check = data["jacobian"]["self_check"]
    assert (check is None) == (kind == "unchecked")
    assert check is None or set(check) == set(KEYS["self_check"].split())
    assert data["schema_version"] == 2
    assert next(iter(data)) == "schema_version"


@pytest.mark.parametrize("kind", KINDS)
def test_singular_values_stand_beside_their_logarithms_and_are_not_read(kind, reports):
    report = reports[kind]
    data = report.to_dict()
    found = data["spectrum"]
    values = [math.exp(v) for v in found["log_sigma"]]
    assert found["singular_values"] == pytest.approx(values, rel=1e-12, abs=0)
    assert found["floor"] == pytest.approx(math.exp(float(found["log_floor"])), rel=1e-12, abs=0)
    assert (found["floor"] == 0) == (found["log_floor"] == "-inf")
    if kind == "vanishing":
        assert 0 in found["singular_values"]  # where float64 does not hold it
    for name in ("singular_values", "floor"):
        found[name] = "of no account"
    assert Report.from_dict(data) == report
    exploding = replace(report, spectrum=Spectrum(np.array([2000.0]), np.array([1.0])))
    assert json.loads(exploding.to_json())["spectrum"]["singular_values"] == ["inf"]


def test_every_promised_key_is_documented(root):
    text = (root / "docs" / "report.md").read_text(encoding="utf-8")
    for keys in KEYS.values():
        for key in keys.split():
            assert f"`{key}`" in text or f".{key}`" in text, key


def test_the_json_is_strict_text_that_ends_in_a_newline(reports):
    def refuse(word):
        raise AssertionError(word)

    for report in reports.values():
        text = report.to_json()
        json.loads(text, parse_constant=refuse)
        assert text.endswith("}\n")


def test_letters_beyond_ascii_stay_readable(reports):
    r = replace(reports["function"], notes=("σ = 1 ≈ 한글",))
    assert "σ = 1 ≈ 한글" in r.to_json()
    assert Report.from_json(r.to_json()) == r


def test_a_report_is_frozen(reports):
    with pytest.raises(FrozenInstanceError):
        reports["relu"].notes = ()
    for name in ("log_sigma", "weights"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(reports["relu"].spectrum, name)[:] = 0


@pytest.mark.parametrize("kind", KINDS)
def test_equal_reports_have_equal_hashes(kind, reports):
    again = Report.from_json(reports[kind].to_json())
    assert hash(again) == hash(reports[kind])
    assert hash(replace(again, notes=("another",))) != hash(again)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_same_seed_gives_the_same_report_but_for_the_time(chain, samples):
    def once(seed):
        r = isometry.analyze(chain(nn.ReLU, 4, 24), seed=seed, samples=samples)
        return replace(r, provenance=replace(r.provenance, seconds=0.0)).to_json()

    assert once(3) == once(3)
    assert once(3) != once(4)


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an isometry report: it is not JSON"),
        ("{", "not an isometry report: it is not JSON"),
        ("[" * 100_000, "not an isometry report: it is not JSON"),
        ("[]", "it has no schema_version"),
        ("3", "it has no schema_version"),
        ("{}", "it has no schema_version"),
        ('{"schema_version": null}', "it has no schema_version"),
        ('{"schema_version": 1}', "has schema version 1, this release reads 2: analyse"),
        ('{"schema_version": "2"}', "has schema version '2', this release reads 2"),
        ('{"schema_version": 2}', "the report is damaged: report.model is missing"),
    ],
)
def test_what_is_no_report_is_refused_with_words(text, words):
    with pytest.raises(LoadError, match=words):
        Report.from_json(text)


def test_a_newer_schema_version_is_refused_even_if_it_looks_the_same(reports):
    data = reports["relu"].to_dict() | {"schema_version": 99}
    with pytest.raises(LoadError, match="schema version 99"):
        Report.from_dict(data)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("score", "value"), "high", "report.score.value should be float, got 'high'"),
        (("score", "quantiles"), [[0.5]], r"report.score.quantiles\[0\] should have 2 entries"),
        (("model", "name"), None, "report.model.name should be str, got None"),
        (("jacobian", "shape"), [3], "report.jacobian.shape should have 2 entries"),
        (("spectrum", "weights"), [], "report.spectrum: a spectrum needs as many weights"),
        (("spectrum", "dead"), 5.0, "report.spectrum: the masses of a spectrum must add up to 1"),
        (("findings",), {}, "report.findings should be a list"),
        (("verdict", "status"), "GOOD", "report.verdict: a verdict is one of PASS, WARN, FAIL"),
        (("provenance", "seed"), 1.5, "report.provenance.seed should be int, got 1.5"),
    ],
)
def test_a_damaged_report_names_the_place(path, value, words, reports):
    data = copy.deepcopy(reports["relu"].to_dict())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(LoadError, match=words):
        Report.from_dict(data)


@pytest.mark.parametrize("path", [("score", "value"), ("model", "name"), ("provenance",)])
def test_a_missing_part_is_named(path, reports):
    data = copy.deepcopy(reports["relu"].to_dict())
    place = data
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    with pytest.raises(LoadError, match=f"report.{'.'.join(path)} is missing"):
        Report.from_dict(data)


def leaves(data, path=()):
    """Every place of nested dictionaries and lists; of long lists the first two entries."""
    items = data.items() if isinstance(data, dict) else enumerate(data[:2])
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from leaves(value, (*path, key))


@pytest.mark.parametrize(
    "value", ["nan", "inf", -1.0, -1, 0.0, 0, None, True, "x", [], {}, 10**400]
)
@pytest.mark.parametrize("kind", ["relu", "chaotic", "vanishing"])
def test_a_report_with_junk_in_any_place_is_refused_or_can_be_shown(kind, value, reports):
    whole = reports[kind].to_dict()
    for path in leaves(whole):
        if path[:2] == ("score", "per_input"):
            continue  # an infinite score is shown, with a warning by NumPy
        data = copy.deepcopy(whole)
        place = data
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        try:
            report = Report.from_dict(data)
        except LoadError:
            continue
        assert render.text(report)
        assert render.html(report)
        assert report.to_json()
        if path[0] in ("spectrum", "theory"):
            figure.spectrum(report)


def test_a_prediction_without_a_density_at_every_point_is_refused(reports):
    data = copy.deepcopy(reports["linear"].to_dict())
    data["theory"][0]["density"].pop()
    with pytest.raises(LoadError, match=r"report.theory\[0\]: a prediction needs a CDF and a dens"):
        Report.from_dict(data)


# ------------------------------------------------------------------ words for shares


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0%"),
        (1e-6, "<1%"),
        (0.0049, "<1%"),
        (0.006, "1%"),
        (0.5, "50%"),
        (0.994, "99%"),
        (0.996, ">99%"),
        (1 - 1e-6, ">99%"),  # one direction of a million
        (1 - 2**-52, "100%"),  # all of them, as their weights add up
        (1.0, "100%"),
        (1 + 2**-52, "100%"),
    ],
)
def test_neither_a_few_nor_all_but_a_few_are_rounded_away(share, words):
    assert percent(share) == words


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        ("1", 3, "1"),
        ("0.0312501", 3, "0.0313"),
        ("1.25e-300", 3, "1.25e-300"),
        ("2.56e-1506", 2, "2.6e-1506"),
        ("9.9996e-1506", 4, "1.000e-1505"),
        ("9.9994e+2171", 4, "9.999e+2171"),
        ("1e-320", 3, "1.00e-320"),
    ],
)
def test_a_power_of_e_is_written_whatever_its_size(value, digits, words):
    exponent = float(Decimal(value).ln())
    assert power(exponent, digits) == words


def test_powers_of_e_that_are_no_numbers_are_written_too():
    assert [power(p) for p in (-math.inf, math.inf, math.nan)] == ["0", "inf", "nan"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_headline_says_the_score_once_unless_it_is_withheld(kind, reports):
    report = reports[kind]
    assert report.headline == f"{report.verdict.reason} (score {report.score.value:.3g})"
    assert "score" not in report.verdict.reason
    withheld = replace(report, verdict=Verdict("WITHHELD", "the self-check failed"))
    assert withheld.headline == "the self-check failed"
