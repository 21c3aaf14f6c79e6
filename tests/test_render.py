"""The report as text and as HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import Spectrum, render
from isometry.score import score


@pytest.fixture(scope="module")
def report(chain):
    torch.manual_seed(0)
    return isometry.analyze(chain(nn.ReLU, 6, 64, gain=1.0), samples=3)


def test_the_verdict_comes_first(report):
    first = str(report).splitlines()[0]
    assert first == f"{report.verdict.status}  {report.headline}"


def test_every_number_that_matters_is_in_the_text(report):
    text = render.text(report)
    s = report.score
    for words in (
        f"{s.value:.4g}", f"{s.drift:+.4g}", f"{s.spread:.4g}", f"{s.gain:.4g}", f"{s.dead:.1%}",
        "64 × 64, float64 on cpu", "3 of them", "passed", report.model.name,
    ):  # fmt: skip
        assert words in text, words
    for f in report.findings:
        assert f.code in text
        assert f.message in text
        assert f.fix in text
    for note in report.notes:
        assert f"note: {note}" in text


@pytest.mark.parametrize("rendered", [render.text, lambda r: unmarked(render.html(r))])
def test_a_fix_shared_by_findings_is_written_once(rendered, report):
    first = report.findings[0]
    twice = replace(report, findings=(first, replace(first, code="ISO103", message="other")))
    assert rendered(twice).count(first.fix) == 1
    assert f"as for {first.code}" in rendered(twice)


def test_the_self_check_is_told_in_three_words(report):
    off = replace(report, jacobian=replace(report.jacobian, self_check=None))
    assert "switched off" in render.text(off)
    failed = replace(report.jacobian.self_check, failures=("ISO302",))
    bad = replace(report, jacobian=replace(report.jacobian, self_check=failed))
    assert "FAILED" in render.text(bad)


class Reader(HTMLParser):
    """Checks that tags nest, and collects them."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_escapes_whatever_comes_from_the_model(report):
    evil = "<script>alert('x')</script> & \"quoted\""
    everywhere = replace(
        report,
        model=replace(report.model, name=evil),
        verdict=replace(report.verdict, reason=evil),
        findings=tuple(replace(f, code=evil, message=evil, fix=evil) for f in report.findings),
        notes=(evil,),
    )
    html = everywhere._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert set(reader.seen) <= {"div", "p", "b", "table", "tr", "td", "pre", "ul", "li", "br",
                                "code"}  # fmt: skip
    assert evil in reader.text


def unmarked(html):
    reader = Reader()
    reader.feed(html)
    return reader.text


WHOLE = ["relu", "withheld", "unchecked", "no findings"]


@pytest.fixture(scope="module")
def whole(report, chain):
    torch.manual_seed(0)
    return {
        "relu": isometry.analyze(chain(nn.ReLU, 3, 64, weights="orthogonal", gain=1.4), samples=2),
        "withheld": isometry.analyze(lambda x: x * x.detach(), torch.ones(1, 4)),
        "unchecked": isometry.analyze(nn.Linear(8, 8), check_itself=False),
        "no findings": isometry.analyze(chain(None, 2, 32, weights="orthogonal")),
    }


@pytest.mark.parametrize("kind", WHOLE)
def test_html_says_all_that_the_text_says_in_the_same_order(kind, whole):
    html, text = unmarked(render.html(whole[kind])), render.text(whole[kind])
    at = 0
    for word in text.split():
        found = html.find(word, at)
        assert found >= 0, (word, html[at : at + 80])
        at = found + len(word)


@pytest.mark.parametrize("kind", WHOLE)
def test_html_says_nothing_that_the_text_does_not(kind, whole):
    html, text = unmarked(render.html(whole[kind])), render.text(whole[kind])
    assert sorted("".join(html.split())) == sorted("".join(text.split()))


def test_html_needs_nothing_from_elsewhere(report):
    html = render.html(report)
    assert not re.search(r"src=|href=|url\(|<style|<link|class=", html)
    assert html.startswith("<div>")
    assert html.endswith("</div>")


def test_a_long_row_goes_on_below_its_own_column(whole):
    text = render.text(whole["relu"])
    start = text.index("theory      ")
    first, second = text[start:].split("\n")[:2]
    assert max(len(first), len(second)) <= 96
    assert second.startswith(" " * 12)
    assert second[12] != " "
    name = "x" * 200
    long = replace(whole["relu"], model=replace(whole["relu"].model, name=name))
    assert name in render.text(long)


# ------------------------------------------------------------------ histogram


def rows(spectrum, **options):
    return render.histogram(spectrum, **options).splitlines()


def test_a_histogram_has_a_row_for_every_bin_and_every_mass():
    s = Spectrum.of(
        np.exp(np.linspace(-3, 3, 50)), np.full(50, 0.01), floor=1e-9, unresolved=0.2, dead=0.3
    )
    lines = rows(s)
    assert len(lines) == 1 + 2 + 12
    assert "log σ" in lines[0]
    assert lines[1].split("┤")[0].strip() == "dead"
    assert lines[2].split("┤")[0].strip() == "floor"
    assert lines[1].endswith("30%")
    assert lines[2].endswith("20%")
    assert lines[3].lstrip().startswith("-2.75")
    assert lines[-1].lstrip().startswith("+2.75")


def test_the_bars_are_in_proportion():
    s = Spectrum.of([1.0, np.e], [0.75, 0.25])
    full, quarter = (line for line in rows(s, rows=2)[1:])
    assert full.count("█") == 3 * quarter.count("█") + full.count("█") % 3
    assert full.count("█") == 40
    assert 13 <= quarter.count("█") <= 14


def test_the_smallest_share_is_seen():
    s = Spectrum.of([1.0, 1e6], [0.9999, 0.0001])
    last = rows(s)[-1]
    assert last.split("┤")[1][0] in "▏▎▍▌▋▊▉█"
    assert last.endswith("1%")


def test_the_longest_row_fits_a_terminal(report):
    assert max(map(len, render.histogram(report.spectrum).splitlines())) <= 80


def test_nothing_resolved_is_drawn_too():
    assert rows(Spectrum.of([], [], dead=1.0))[1].endswith("100%")


@pytest.mark.parametrize("n", [7, 9, 24, 49, 64, 1000])
def test_equal_values_are_one_row_of_all_directions(n):
    shown = [
        line for line in rows(Spectrum.of(np.ones(n), np.full(n, 1 / n))) if line.endswith("%")
    ]
    assert len(shown) == 1
    assert shown[0].endswith(" 100%")


def test_an_exact_isometry_has_all_of_its_directions_in_one_row(chain):
    report = isometry.analyze(chain(None, 3, 24, weights="orthogonal"))
    assert " 100%\n" in render.text(report)
    assert ">99%" not in render.text(report)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_unresolved_quantiles_are_not_called_zero(chain, dtype):
    r = isometry.analyze(chain(nn.Tanh, 120, gain=2.5), dtype=dtype, method="exact")
    assert r.spectrum.unresolved > 0.05
    assert f"5%: <{r.spectrum.floor:.2g}" in render.text(r)
    largest = r.spectrum.singular_values[0]
    assert f"condition   > {largest / r.spectrum.floor:.3g}  σ_max" in render.text(r)
    assert '"condition": "inf"' in r.to_json()


@pytest.mark.parametrize(
    ("log_sigma", "gain", "largest"),
    [(-3466.0, "3.844e-1506", "5.44e-1506"), (5000.0, "2.098e+2171", "2.97e+2171")],
)
def test_what_float64_cannot_hold_is_written_in_powers_of_ten(report, log_sigma, gain, largest):
    s = Spectrum([log_sigma - 9000, log_sigma], [0.5, 0.5])
    shown = render.text(replace(report, spectrum=s, score=score(s, [s])))
    assert f"gain        {gain}  root" in shown
    assert "condition   4.47e+3908  σ_max" in shown
    assert f"95%: {largest}" in shown
    bars = [line.index("┤") for line in shown.splitlines() if "┤" in line]
    assert len(set(bars)) == 1


def test_directions_lost_without_a_floor_are_neither_zero_nor_below_one(report):
    s = Spectrum([0.0, 1.0], [0.25, 0.25], unresolved=0.5)
    shown = render.text(replace(report, spectrum=s, score=score(s, [s])))
    assert re.search(r"^ +lost ┤█+ 50%$", shown, re.MULTILINE)
    assert "quantiles   5%: lost  25%: lost  50%: lost  75%: 1  95%: 2.72" in shown
    assert "condition   > 2.72  σ_max" in shown
