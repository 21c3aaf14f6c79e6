"""Bins that neither hide a spread nor invent one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry import Spectrum
from isometry.histogram import bin_edges, heights


def uniform(values, dead=0.0):
    n = len(values)
    return Spectrum.of(values, np.full(n, (1 - dead) / n), dead=dead)


logs = st.lists(st.floats(-30, 30), min_size=1, max_size=60)


@given(logs, st.sampled_from([0.0, 0.3]), st.none() | st.integers(1, 80))
def test_the_bars_add_up_to_the_resolved_mass(values, dead, bins):
    s = uniform(np.exp(values), dead)
    edges = bin_edges(s, bins)
    assert np.sum(heights(s, edges) * np.diff(edges)) == pytest.approx(s.resolved)


@given(logs, st.none() | st.integers(1, 80))
def test_the_bins_cover_the_values_and_are_equal(values, bins):
    s = uniform(np.exp(values))
    edges = bin_edges(s, bins)
    assert edges[0] <= s.log_sigma.min() + 1e-12
    assert edges[-1] >= s.log_sigma.max() - 1e-12
    assert np.allclose(np.diff(edges), edges[1] - edges[0])
    assert edges[1] - edges[0] >= 0.01 - 1e-9 or bins is not None
    if bins is None:
        assert 12 <= len(edges) - 1 <= 61
    else:
        assert len(edges) - 1 in (bins, bins + 1)


def test_equal_values_are_one_spike_in_the_middle():
    for wobble in (0.0, 1e-15, 1e-6, 1e-3):
        s = uniform(2 * np.exp(wobble * np.linspace(-1, 1, 50)))
        found = heights(s, bin_edges(s))
        assert np.count_nonzero(found) == 1
        assert found[len(found) // 2] > 0


def test_a_spread_of_a_tenth_is_shown_as_one():
    s = uniform(np.exp(np.linspace(-0.5, 0.5, 200)))
    found = heights(s, bin_edges(s))
    assert np.count_nonzero(found) == len(found)
    assert found == pytest.approx(np.ones(len(found)), abs=0.15)


def test_nothing_resolved_still_has_bins():
    s = Spectrum.of([], [], dead=1.0)
    assert bin_edges(s).tolist() == [-0.5, 0.5]
    assert heights(s, bin_edges(s)).tolist() == [0.0]


def test_weights_count():
    s = Spectrum.of(np.exp([0.0, 1.0]), [0.9, 0.1])
    edges = np.array([-0.5, 0.5, 1.5])
    assert heights(s, edges) == pytest.approx([0.9, 0.1])
