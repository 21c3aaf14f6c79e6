"""The depth plot, by the artists' data."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import figure

DECADE = math.log(10)


@pytest.fixture(scope="module")
def profile(chain):
    torch.manual_seed(0)
    return isometry.layers(chain(nn.Tanh, 8, 32))


def line(ax, start):
    handles, labels = ax.get_legend_handles_labels()
    (found,) = [h for h, x in zip(handles, labels, strict=True) if x.startswith(start)]
    return found


def test_lines_are_the_medians_and_the_gains_of_the_record(profile):
    above, below = figure.depth(profile)
    medians = {
        i: s.log_quantiles[2] for i, a in enumerate(profile.layers, 1) if (s := a.cumulative)
    }
    drawn = line(above, "5–95 %")
    assert list(drawn.get_xdata()) == [0, *medians]
    assert drawn.get_ydata() * DECADE == pytest.approx([0, *medians.values()])
    gains = [0, *(a.log_gain for a in profile.layers)]
    assert line(above, "gain").get_ydata() * DECADE == pytest.approx(gains)
    sizes = [profile.mean_square, *(a.mean_square for a in profile.layers)]
    assert 10 ** below.get_lines()[0].get_ydata() == pytest.approx(sizes)


def test_theory_is_drawn_behind_what_was_measured(profile):
    above, _ = figure.depth(profile)
    expected = {i: a.expected for i, a in enumerate(profile.layers, 1) if a.expected}
    drawn = line(above, f"theory: {profile.theory}")
    assert list(drawn.get_xdata()) == [0, *expected]
    assert drawn.get_ydata()[1:] * DECADE == pytest.approx([q[2] for q in expected.values()])
    orders = [ribbon.get_zorder() for ribbon in above.collections]
    assert orders == [1, 1, 2, 2]


def test_ribbons_lie_between_the_quantiles(profile):
    above, _ = figure.depth(profile)
    wide = above.collections[2].get_paths()[0].vertices
    last = profile.layers[-1].cumulative.log_quantiles
    at_the_end = wide[wide[:, 0] == len(profile.layers), 1] * DECADE
    assert (at_the_end.min(), at_the_end.max()) == pytest.approx((last[0], last[-1]))


def test_without_spectra_and_theory_the_gain_is_still_drawn(profile):
    bare = replace(
        profile,
        theory="",
        layers=tuple(replace(a, cumulative=None, expected=()) for a in profile.layers),
    )
    above, _ = figure.depth(bare)
    assert len(above.collections) == 0
    assert len(line(above, "gain").get_xdata()) == len(profile.layers) + 1


def test_dead_directions_run_off_the_lower_edge_and_the_floor_is_marked(profile):
    last = profile.layers[-1]
    lost = replace(
        last.cumulative,
        unresolved=0.3,
        log_floor=-40.0,
        log_quantiles=(-math.inf, -math.inf, -1.0, 0.0, 1.0),
    )
    above, _ = figure.depth(
        replace(profile, layers=(*profile.layers[:-1], replace(last, cumulative=lost)))
    )
    bottom = above.get_ylim()[0]
    assert bottom * DECADE < -40
    floor = line(above, "floor").get_ydata()
    assert np.nanmin(floor) * DECADE == pytest.approx(-40)
    assert above.collections[2].get_paths()[0].vertices[:, 1].min() == pytest.approx(bottom)


def test_few_blocks_are_named_on_the_axis_and_many_are_counted(profile, chain):
    _, below = figure.depth(isometry.layers(chain(None, 3, 8)))
    assert [t.get_text() for t in below.get_xticklabels()] == ["input", "0", "1", "2"]
    _, below = figure.depth(profile)
    assert below.get_xlabel() == "block"


def test_a_deep_network_leaves_float64_and_is_drawn(chain):
    above, _ = figure.depth(isometry.layers(chain(None, 6, 4, gain=1e-150)))
    assert above.get_ylim()[0] < -800
    above.figure.canvas.draw()
