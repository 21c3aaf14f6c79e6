"""Singular values as a measure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isometry import InputError, Spectrum
from isometry.spectrum import pooled


@st.composite
def spectra(draw):
    """Spectra of 1 to 12 distinct values with random masses, some of them dead or unresolved."""
    n = draw(st.integers(1, 12))
    logs = draw(st.lists(st.integers(-40, 40), min_size=n, max_size=n, unique=True))
    masses = np.array(draw(st.lists(st.integers(1, 50), min_size=n + 2, max_size=n + 2)), float)
    masses[:2] *= draw(st.booleans())
    masses /= masses.sum()
    return Spectrum.of(
        np.exp(np.array(logs) / 4), masses[2:], floor=1e-6, dead=masses[0], unresolved=masses[1]
    )


# ------------------------------------------------------------------ identities


@given(spectra())
def test_the_three_masses_add_up_to_one(s):
    assert s.resolved + s.dead + s.unresolved == pytest.approx(1, abs=1e-12)


@given(spectra())
def test_the_quantile_inverts_the_cdf_at_every_value(s):
    assert np.array_equal(s.quantile(s.cdf(s.log_sigma)), s.log_sigma)


@given(spectra(), st.floats(0, 1))
def test_the_quantile_is_the_smallest_value_whose_cdf_reaches_p(s, p):
    q = float(s.quantile(p))
    assert s.cdf(q) >= p - 1e-9
    if q > -np.inf:
        assert s.cdf(np.nextafter(q, -np.inf)) <= p


@given(spectra())
def test_the_cdf_rises_from_the_zeros_to_one(s):
    x = np.concatenate([[-np.inf], s.log_sigma[::-1], [1e9]])
    steps = s.cdf(x)
    assert np.all(np.diff(steps) >= 0)
    assert steps[0] == pytest.approx(s.dead + s.unresolved)
    assert steps[-1] == pytest.approx(1)
    assert s.cdf(-1e9) == steps[0]


@given(spectra(), st.integers(1, 5))
def test_pooling_copies_changes_no_moment(s, k):
    p = pooled([s] * k)
    for name in ("dead", "unresolved", "resolved", "mean_log", "root_mean_square", "floor"):
        assert getattr(p, name) == pytest.approx(getattr(s, name), rel=1e-12, abs=1e-12)
    assert p.std_log == pytest.approx(s.std_log, abs=1e-7)  # the root of a rounded zero
    assert np.allclose(p.cdf(s.log_sigma), s.cdf(s.log_sigma))


@given(st.lists(spectra(), min_size=1, max_size=4))
def test_pooled_moments_are_means_of_the_parts(parts):
    p = pooled(parts)
    assert p.root_mean_square**2 == pytest.approx(np.mean([s.root_mean_square**2 for s in parts]))
    assert p.dead == pytest.approx(np.mean([s.dead for s in parts]))
    assert p.unresolved == pytest.approx(np.mean([s.unresolved for s in parts]))
    assert p.cdf(0.0) == pytest.approx(np.mean([s.cdf(0.0) for s in parts]))
    assert p.floor == max(s.floor for s in parts)


# ------------------------------------------------------------------ closed forms


def test_moments_of_three_values():
    e = np.e
    s = Spectrum.of([1 / e, e, 1.0], [0.25, 0.25, 0.25], dead=0.25)
    assert np.array_equal(s.log_sigma, [1, 0, -1])
    assert s.singular_values == pytest.approx([e, 1, 1 / e], rel=1e-15)
    assert s.mean_log == pytest.approx(0)
    assert s.std_log == pytest.approx((2 / 3) ** 0.5)
    assert s.root_mean_square == pytest.approx(((e**2 + 1 + e**-2) / 4) ** 0.5)
    assert s.condition == np.inf
    assert s.quantile([0, 0.25, 0.26, 0.5, 0.75, 1]).tolist() == [-np.inf, -np.inf, -1, -1, 0, 1]
    assert s.cdf([-np.inf, -1.1, -1, 0, 1.1]) == pytest.approx([0.25, 0.25, 0.5, 0.75, 1])


def test_weights_are_sorted_with_their_values():
    s = Spectrum.of([1.0, 3.0, 2.0], [0.2, 0.5, 0.3])
    assert s.log_sigma.tolist() == np.log([3, 2, 1]).tolist()
    assert s.weights.tolist() == [0.5, 0.3, 0.2]
    assert s.condition == pytest.approx(3, rel=1e-15)


def test_moments_neither_overflow_nor_underflow():
    big, small = Spectrum.of([2e300, 1e300], [0.5, 0.5]), Spectrum.of([2e-300, 1e-300], [0.5, 0.5])
    assert big.root_mean_square == pytest.approx(2.5**0.5 * 1e300)
    assert small.root_mean_square == pytest.approx(2.5**0.5 * 1e-300)
    assert [big.condition, small.condition] == pytest.approx([2, 2], rel=1e-13)
    wide = Spectrum.of([1e300, 1e-300], [0.5, 0.5])
    assert wide.condition == np.inf
    assert wide.log_condition == pytest.approx(600 * np.log(10), rel=1e-15)


@pytest.mark.parametrize("log_sigma", [-3466.0, 5000.0])
def test_moments_beyond_the_range_of_float64_are_had_as_logarithms(log_sigma):
    s = Spectrum(np.array([log_sigma, log_sigma + 1]), np.array([0.5, 0.25]), dead=0.25)
    assert s.singular_values.tolist() == [0 if log_sigma < 0 else np.inf] * 2
    assert s.root_mean_square == (0 if log_sigma < 0 else np.inf)
    expected = log_sigma + 0.5 * np.log(0.5 + 0.25 * np.e**2)
    assert s.log_root_mean_square == pytest.approx(expected, rel=1e-15)
    assert s.mean_log == pytest.approx(log_sigma + 1 / 3, rel=1e-15)
    assert s.std_log == pytest.approx(2**0.5 / 3)
    assert s.quantile([0.2, 0.7, 0.9]).tolist() == [-np.inf, log_sigma, log_sigma + 1]
    assert s.cdf([log_sigma - 1, log_sigma, log_sigma + 1]).tolist() == [0.25, 0.75, 1]
    assert pooled([s, s]).log_root_mean_square == pytest.approx(expected, rel=1e-15)


def test_a_value_without_weight_does_not_hide_the_others():
    s = Spectrum(np.array([0.0, -3000.0]), np.array([0.0, 1.0]))
    assert s.log_root_mean_square == -3000


def test_a_pooled_spectrum_names_every_method():
    a, b = Spectrum([0.0], [1.0]), Spectrum([1.0], [1.0], method="graded product")
    assert pooled([a, a]).method == "exact"
    assert pooled([a, b, a]).method == "exact and graded product"


def test_without_a_resolved_direction_there_are_no_log_moments():
    s = Spectrum.of([], [], floor=1e-3, unresolved=0.4, dead=0.6)
    assert np.isnan(s.mean_log)
    assert np.isnan(s.std_log)
    assert s.root_mean_square == 0
    assert s.condition == np.inf
    assert s.log_root_mean_square == s.quantile(0.9) == -np.inf
    assert s.resolved == 0


def test_equality_looks_at_every_field():
    def make(**changes):
        fields = {"floor": 0.1, "unresolved": 0.25, "dead": 0.25, "method": "exact"} | changes
        return Spectrum.of(fields.pop("values", [1.0, 2.0]), [0.25, 0.25], **fields)

    assert make() == make()
    assert make() != make(values=[1.0, 2.5])
    assert make() != make(floor=0.2)
    assert make() != make(method="other")
    assert make() != make(unresolved=0.2, dead=0.3)
    assert make() != "a spectrum"


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("values", "weights", "options", "words"),
    [
        ([1.0, 2.0], [1.0], {}, "as many weights as singular values"),
        ([[1.0]], [[1.0]], {}, "as many weights as singular values"),
        ([0.0], [1.0], {}, "must be positive and finite"),
        ([-1.0], [1.0], {}, "must be positive and finite"),
        ([np.inf], [1.0], {}, "must be positive and finite"),
        ([np.nan], [1.0], {}, "must be positive and finite"),
        ([1.0, 1.0], [1.5, -0.5], {}, "weights not negative"),
        ([1.0], [np.nan], {}, "weights not negative"),
        ([1.0], [0.5], {}, "must add up to 1, got 0.5"),
        ([1.0], [0.5], {"dead": np.nan}, "must add up to 1"),
        ([1.0], [1.0], {"dead": -0.5, "unresolved": 0.5}, "must not be negative"),
        ([1.0], [0.5], {"unresolved": 0.5, "floor": np.nan}, "the floor must be finite"),
        ([1.0], [0.5], {"unresolved": 0.5, "floor": -1.0}, "floor"),
        ([1.0], [0.5], {"unresolved": 0.5, "floor": np.inf}, "floor"),
    ],
)
def test_what_is_no_measure_is_refused(values, weights, options, words):
    with pytest.raises(InputError, match=words):
        Spectrum.of(values, weights, **options)


def test_pooling_nothing_is_refused():
    with pytest.raises(InputError, match="cannot pool no spectra"):
        pooled([])
