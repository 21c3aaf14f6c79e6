"""The picture, by the artists' data."""

from __future__ import annotations

import math
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from torch import nn

import isometry
from isometry import figure
from isometry.report import COLOURS


@pytest.fixture(scope="module", autouse=True)
def _no_window():
    matplotlib.use("agg")


@pytest.fixture(scope="module")
def reports(chain):
    torch.manual_seed(0)
    return {
        "linear": isometry.analyze(chain(None, 3, 64)),
        "relu": isometry.analyze(chain(nn.ReLU, 4, 64, gain=2**0.5)),
        "orthogonal relu": isometry.analyze(chain(nn.ReLU, 3, 64, weights="orthogonal", gain=1.4)),
        "isometry": isometry.analyze(chain(None, 3, 16, weights="orthogonal")),
        "chaotic": isometry.analyze(chain(nn.Tanh, 50, 64, gain=2.5), method="exact"),
        "vanishing": isometry.analyze(chain(nn.Tanh, 500, 8, gain=0.02), method="product"),
        "singular": isometry.analyze(
            nn.Sequential(nn.Linear(6, 4), nn.Softmax(-1), nn.Tanh()), method="product"
        ),
    }


def bars(ax):
    return [p for p in ax.patches if type(p).__name__ == "Rectangle" and p.get_gid() != "floor"]


def bar_area(ax):
    """Total area of the bars; the floor's shade is an axvspan of height one in axes units."""
    data = [p for p in bars(ax) if p.get_transform().contains_branch(ax.transData)]
    return sum(p.get_width() * p.get_height() for p in data if p.get_label() == "_nolegend_"
               or not p.get_label().startswith("below"))  # fmt: skip


def labelled(ax, start):
    handles, labels = ax.get_legend_handles_labels()
    return [(h, x) for h, x in zip(handles, labels, strict=True) if x.startswith(start)]


KINDS = ["linear", "relu", "orthogonal relu", "isometry", "chaotic", "vanishing", "singular"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bins", [None, 1, 7])
def test_the_area_of_the_bars_is_the_resolved_mass(kind, bins, reports):
    ax = figure.spectrum(reports[kind], bins=bins)
    assert bar_area(ax) == pytest.approx(reports[kind].spectrum.resolved, rel=1e-9)


@pytest.mark.parametrize("kind", ["linear", "relu", "orthogonal relu"])
def test_the_theory_line_integrates_to_one_minus_its_atoms(kind, reports):
    report = reports[kind]
    ax = figure.spectrum(report)
    ((line, label),) = labelled(ax, "mean field (")
    x, y = line.get_data()
    atoms = sum(mass for _, mass in report.theory[0].atoms)
    assert np.trapezoid(y, x) == pytest.approx(1 - atoms, abs=2e-3)
    assert f"KS {report.theory[0].ks:.3f}" in label


@pytest.mark.parametrize("kind", ["relu", "orthogonal relu", "isometry"])
def test_atoms_are_stems_with_their_mass_in_the_legend(kind, reports):
    report = reports[kind]
    ax = figure.spectrum(report)
    stems = labelled(ax, "mean field: atom")
    assert len(stems) == len(report.theory[0].atoms)
    per_mass = stems[0][0].get_ydata()[1] / report.theory[0].atoms[0][1]
    assert 0.4 < per_mass / ax.get_ylim()[1] < 1
    for (line, label), (sigma, mass) in zip(stems, report.theory[0].atoms, strict=True):
        x, y = line.get_data()
        assert x[0] == x[1]
        assert y[0] == 0
        assert y[1] == pytest.approx(mass * per_mass)
        assert f"σ = {sigma:.3g} (mass {mass:.2g})" in label
        assert ax.get_xlim()[0] < x[0] < ax.get_xlim()[1]
        if sigma > 0:
            assert x[0] == pytest.approx(math.log(sigma))


def test_the_dead_mass_is_a_stem_at_the_left_edge(reports):
    report = reports["relu"]
    ax = figure.spectrum(report)
    ((line, label),) = labelled(ax, "dead")
    x, y = line.get_data()
    left, right = ax.get_xlim()
    assert left < x[0] < left + 0.05 * (right - left)
    assert y[1] > 0
    assert f"mass {report.spectrum.dead:.2g}" in label
    assert labelled(figure.spectrum(reports["linear"]), "dead") == []


def test_the_range_below_the_floor_is_shaded(reports):
    report = reports["chaotic"]
    ax = figure.spectrum(report)
    ((patch, label),) = labelled(ax, "below the floor")
    box = patch.get_extents().transformed(ax.transData.inverted())
    assert box.x0 == pytest.approx(ax.get_xlim()[0])
    assert box.x1 == pytest.approx(math.log(report.spectrum.floor))
    assert f"mass {report.spectrum.unresolved:.2g}" in label
    assert labelled(figure.spectrum(reports["linear"]), "below") == []


def test_mass_without_a_floor_is_a_stem_at_the_left_edge(reports):
    ax = figure.spectrum(reports["singular"])
    ((line, label),) = labelled(ax, "lost to rounding")
    left, right = ax.get_xlim()
    assert left < line.get_xdata()[0] < left + 0.1 * (right - left)
    assert label == "lost to rounding (mass 0.25)"
    assert labelled(ax, "below") == []


def test_equal_values_beyond_float64_are_named(chain):
    net = chain(nn.Tanh, 500, 4, weights="orthogonal", gain=40.0)
    ax = figure.spectrum(isometry.analyze(net, torch.zeros(1, 4)))
    ((line, label),) = labelled(ax, "measured: all at")
    assert label == "measured: all at σ = 1.07e+801 (mass 1)"  # 40^500
    assert line.get_xdata()[0] == pytest.approx(500 * math.log(40))
    ax.figure.draw_without_rendering()


def test_equal_singular_values_are_one_visible_spike(reports):
    ax = figure.spectrum(reports["isometry"])  # warnings are errors
    heights = [p.get_height() for p in bars(ax)]
    assert np.count_nonzero(heights) == 1
    tall = max(bars(ax), key=lambda p: p.get_height())
    left, right = ax.get_xlim()
    assert tall.get_x() <= 0 <= tall.get_x() + tall.get_width()
    assert tall.get_width() > 0.005 * (right - left)  # two pixels of a figure of 600
    assert tall.get_height() > 0.5 * ax.get_ylim()[1]


def test_equal_singular_values_have_a_stem_that_a_law_does_not_cover(reports):
    ax = figure.spectrum(reports["isometry"])
    ((measured, label),) = labelled(ax, "measured: all at")
    assert label == "measured: all at σ = 1 (mass 1)"
    ((law, _),) = labelled(ax, "mean field: atom")
    assert measured.get_linewidth() > 2 * law.get_linewidth()
    assert measured.get_zorder() <= law.get_zorder()
    assert ax.lines.index(measured) < ax.lines.index(law)
    assert labelled(figure.spectrum(reports["linear"]), "measured: all at") == []


def test_the_band_covers_every_twin_and_holds_their_mass(chain):
    report = isometry.analyze(chain(nn.Tanh, 3, 64), band=4)
    ax = figure.spectrum(report)
    ((band, _),) = labelled(ax, "4 twins")
    values, edges, low = band.get_data()
    assert np.all(low <= values)
    for twin in report.band.spectra:
        assert edges[0] <= twin.log_sigma.min() <= twin.log_sigma.max() <= edges[-1]
        per_bin = np.histogram(twin.log_sigma, edges, weights=twin.weights)[0] / np.diff(edges)
        assert np.all((per_bin <= values + 1e-12) & (per_bin >= low - 1e-12))
    assert ax.get_xlim()[0] < edges[0] < edges[-1] < ax.get_xlim()[1]
    assert labelled(figure.spectrum(isometry.analyze(chain(nn.Tanh, 3, 64))), "4 twins") == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_handle_of_the_legend_is_higher_than_its_text(kind, reports):
    ax = figure.spectrum(reports[kind])
    legend = ax.get_legend()
    lines = [h for h in legend.legend_handles if hasattr(h, "get_markersize")]
    assert lines
    smallest = min(text.get_fontsize() for text in legend.get_texts())
    assert all(h.get_markersize() < smallest for h in lines)
    assert all(h.get_linewidth() < smallest / 2 for h in lines)
    assert any(h.get_markersize() > 4 for h in lines)


def test_singular_values_are_counted_in_grammar(reports):
    assert labelled(figure.spectrum(reports["linear"]), "measured (64 singular values)")
    one = isometry.analyze(nn.Linear(5, 1))
    assert labelled(figure.spectrum(one), "measured (1 singular value)")


def test_a_verdict_has_one_colour_everywhere(reports):
    report = reports["linear"]
    for status, colour in COLOURS.items():
        shown = replace(report, verdict=replace(report.verdict, status=status))
        ax = figure.spectrum(shown)
        assert ax._right_title.get_color() == colour
        assert f"<b style='color:{colour}'>{status}</b>" in shown._repr_html_()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [True, False])
def test_the_legend_covers_neither_bars_nor_stems(kind, own, reports):
    ax = figure.spectrum(reports[kind], None if own else Figure((5, 4)).subplots())
    ax.figure.canvas.draw()
    lowest = ax.transData.inverted().transform(ax.get_legend().get_window_extent())[0, 1]
    assert all(p.get_height() <= lowest for p in bars(ax) if not p.get_label().startswith("below"))
    # A density may diverge; stems have an end.
    stems = [line for line in ax.lines if line.get_marker() == "o"]
    assert all(np.max(line.get_ydata()) <= lowest for line in stems)


@pytest.mark.parametrize("kind", KINDS)
def test_sigma_of_one_is_marked_and_inside(kind, reports):
    ax = figure.spectrum(reports[kind])
    ((line, _),) = labelled(ax, "σ = 1")
    assert list(line.get_xdata()) == [0, 0]
    assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]
    assert ax.get_ylim()[0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_title_says_score_dead_fraction_and_verdict(kind, reports):
    report = reports[kind]
    ax = figure.spectrum(report)
    assert f"score {report.score.value:.3g}" in ax.get_title(loc="left")
    assert f"{report.score.dead:.0%} dead" in ax.get_title(loc="left")
    assert ax.get_title(loc="right") == report.verdict.status
    assert ax.get_xlabel() == "log σ  (natural)"
    assert ax.get_ylabel() == "mass per unit log σ"


def test_the_axes_given_are_drawn_on_and_returned(reports):
    ax = Figure().subplots()
    assert figure.spectrum(reports["linear"], ax) is ax
    assert ax.patches


def test_no_figure_of_pyplot_is_left_open(reports):
    before = pyplot.get_fignums()
    for report in reports.values():
        figure.spectrum(report)
    assert pyplot.get_fignums() == before


def test_drawing_changes_neither_the_report_nor_the_style(reports):
    style, text = dict(matplotlib.rcParams), reports["relu"].to_json()
    figure.spectrum(reports["relu"])
    assert dict(matplotlib.rcParams) == style
    assert reports["relu"].to_json() == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_picture_can_be_saved(kind, ending, reports, tmp_path):
    ax = figure.spectrum(reports[kind])
    ax.figure.savefig(tmp_path / f"picture.{ending}")
    assert (tmp_path / f"picture.{ending}").stat().st_size > 3000


def test_a_name_with_dollars_is_no_formula(reports):
    report = reports["linear"]
    odd = replace(report, model=replace(report.model, name="$\\frac{$.pt"))
    ax = figure.spectrum(odd)
    ax.figure.draw_without_rendering()
    assert "frac" in ax.get_title(loc="left")


@pytest.mark.parametrize("name", ["model.pt", "a" * 60 + ".pt", "W" * 300 + ".pt"])
@pytest.mark.parametrize("status", ["PASS", "WITHHELD"])
def test_no_name_runs_into_the_verdict(name, status, reports):
    report = reports["linear"]
    model, verdict = replace(report.model, name=name), replace(report.verdict, status=status)
    ax = figure.spectrum(replace(report, model=model, verdict=verdict))
    ax.figure.draw_without_rendering()
    assert ax.title.get_window_extent().width == 0  # the one in the middle
    assert ax._left_title.get_window_extent().x1 < ax._right_title.get_window_extent().x0
    shown = ax.get_title(loc="left").partition(":")[0]
    assert shown.endswith(".pt")
    assert shown == name or ("…" in shown and shown[0] == name[0])
    assert (shown == name) == (name == "model.pt")
