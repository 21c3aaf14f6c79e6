"""Products of many matrices, against exact integer arithmetic and mpmath."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import log, matrix, svd_r, workdps
from scipy.linalg import block_diag, hadamard

from isometry import InputError
from isometry.measure import graded
from isometry.measure.graded import GradedProduct

SEEDS = st.integers(0, 2**31)


def measured(stages):
    product = GradedProduct()
    for a in stages:
        product.push(a)
    return product


def plainly(stages):
    return reduce(lambda product, a: a @ product, stages)


def log_sigma(stages):
    return measured(stages).log_singular_values()


def reference(stages, decades):
    """log σ of a product down to so many decades below the largest: integers, then mpmath."""
    digits = int(1.2 * decades) + 40
    product, exponent = None, 0
    for a in stages:
        mantissa, own = np.frexp(a)
        lowest = int(own[a != 0].min()) - 53
        shifts = np.where(a == 0, 0, own - 53 - lowest).astype(object)
        whole = (mantissa * 2**53).astype(np.int64).astype(object) << shifts
        product = whole if product is None else whole.dot(product)
        exponent += lowest
        excess = max(abs(x) for x in product.flat).bit_length() - int(digits / 0.30103)
        if excess > 0:
            product, exponent = product >> excess, exponent + excess
    with workdps(digits + int(decades)):
        m = matrix((product if len(product) >= len(product.T) else product.T).tolist())
        sigma = [s for s in svd_r(m, compute_uv=False) if s > m[0, 0] * 0]
        logs = [log(s) + exponent * log(2) for s in sigma]
        return np.array([float(x) for x in logs if x > logs[0] - decades * log(10)])


def network(widths, gain, activation="tanh", seed=0):
    """Stage Jacobians φ'(h) W of a Gaussian network at a Gaussian input."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(widths[0])
    for n, m in pairwise(widths):
        w = gain / n**0.5 * rng.standard_normal((m, n))
        h = w @ x
        x = np.tanh(h) if activation == "tanh" else np.maximum(h, 0)
        slope = 1 - x**2 if activation == "tanh" else h > 0
        yield slope[:, None] * w


@pytest.fixture(scope="module")
def deep():
    """200 Gaussian tanh layers of width 32, over 208 decades."""
    stages = list(network([32] * 201, 1.0))
    return stages, reference(stages, 215)


def test_every_singular_value_of_200_gaussian_tanh_layers_is_known_to_1e_10(deep):
    stages, expected = deep
    product = measured(stages)
    found = product.log_singular_values()
    assert len(found) == len(expected) == 32
    assert np.abs(found - expected).max() < 1e-10
    assert found[0] - found[-1] > 200 * np.log(10)
    assert (product.width, product.dead, product.unresolved) == (32, 0, 0)


def test_the_plain_product_is_wrong_below_sixteen_decades(deep):
    stages, expected = deep
    plain = np.log(np.linalg.svd(plainly(stages), compute_uv=False))
    below = expected < expected[0] - 20 * np.log(10)
    assert below.sum() > 20
    assert np.abs(plain - expected)[below].min() > 1


def test_windows_and_sorted_columns_give_what_one_window_and_pivots_give(monkeypatch):
    stages = list(network([32] * 61, 1.0))
    expected = log_sigma(stages)
    monkeypatch.setattr(graded, "_RANGE", 190)  # of 220 binary digits
    assert np.abs(log_sigma(stages) - expected).max() < 1e-12
    monkeypatch.setattr(graded, "_MARGIN", 2)  # windows that feel what they cut off
    monkeypatch.setattr(graded, "_RANGE", 12)
    assert np.abs(log_sigma(stages) - expected).max() > 1e-6


@pytest.mark.parametrize(("gain", "depth"), [(0.3, 2000), (4.0, 700)])
def test_a_deep_chain_leaves_float64_at_either_end(gain, depth):
    rng = np.random.default_rng(1)
    stages = [gain / 8**0.5 * rng.standard_normal((8, 8)) for _ in range(depth)]
    found, expected = log_sigma(stages), reference(stages, 0.75 * depth)
    assert len(expected) == 8
    assert np.abs(found - expected).max() < 1e-10
    assert abs(found[0]) > 745 > -np.log(np.finfo(float).smallest_subnormal)


def test_saturated_layers_are_known_as_well_as_their_entries_determine():
    stages = list(network([32] * 31, 3.0))
    assert min(np.abs(a).max(axis=1).min() for a in stages) < 1e-6
    assert np.abs(log_sigma(stages) - reference(stages, 180)).max() < 1e-10


def test_a_relu_chain_loses_exactly_the_rank_of_its_masks():
    stages = list(network([24] * 13, 2**0.5, "relu"))
    product, expected = measured(stages), reference(stages, 25)
    assert product.rank == len(expected) == min(a.any(axis=1).sum() for a in stages)
    assert (product.dead, product.unresolved) == (24 - product.rank, 0)
    assert np.abs(product.log_singular_values() - expected).max() < 1e-10


def test_layers_of_changing_width():
    stages = list(network([20, 32, 16, 24], 1.5))
    product = measured(stages)
    assert (product.width, product.rank, product.dead) == (16, 16, 0)
    assert np.abs(product.log_singular_values() - reference(stages, 14)).max() < 1e-13


def test_ten_thousand_orthogonal_stages_stay_orthogonal():
    rng = np.random.default_rng(0)
    exact = hadamard(4) / 2
    stages = (rng.choice([-1, 1], 4) * exact[rng.permutation(4)] for _ in range(10_000))
    assert np.abs(log_sigma(stages)).max() < 1e-13


def test_the_logarithms_of_singular_values_add_up_to_those_of_determinants():
    rng = np.random.default_rng(3)
    stages = [rng.standard_normal((16, 16)) for _ in range(1000)]
    expected = sum(np.linalg.slogdet(a)[1] for a in stages)
    assert log_sigma(stages).sum() == pytest.approx(expected, abs=1e-9)


# ------------------------------------------------------------------ invariances


def chains(seed, depth=12, width=7):
    return list(network([width] * (depth + 1), 1.3, seed=seed))


@given(SEEDS, st.floats(-280, 280), st.sampled_from([-1, 1]))
def test_a_factor_shifts_every_logarithm(seed, decades, sign):
    stages = chains(seed)
    c = sign * 10.0**decades
    shifted = log_sigma([c * a for a in stages])
    expected = log_sigma(stages) + 12 * np.log(abs(c))
    assert shifted == pytest.approx(expected, abs=1e-10)


@given(SEEDS)
def test_the_transposed_chain_has_the_same_values(seed):
    stages = chains(seed)
    assert log_sigma([a.T for a in stages[::-1]]) == pytest.approx(log_sigma(stages), abs=1e-10)


@given(SEEDS)
def test_a_stage_split_in_two_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    stages = chains(seed)
    b = np.eye(7)[rng.permutation(7)] * 2.0 ** rng.integers(-30, 30, 7)  # its inverse is exact
    split = [*stages[:5], b, stages[5] @ np.linalg.inv(b), *stages[6:]]
    assert log_sigma(split) == pytest.approx(log_sigma(stages), abs=1e-10)


@given(SEEDS, st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_short_chains_of_any_shape_agree_with_numpy(seed, widths):
    rng = np.random.default_rng(seed)
    stages = [rng.standard_normal((m, n)) for n, m in pairwise(widths)]
    expected = np.linalg.svd(plainly(stages), compute_uv=False)[: min(widths)]
    product = measured(stages)
    assert (product.rank, product.width) == (min(widths), min(widths))
    found = np.exp(product.log_singular_values())
    assert np.abs(found - expected).max() <= 1e-13 * np.prod([np.linalg.norm(a) for a in stages])


def test_the_transposed_product_is_known_with_its_exponent():
    stages = chains(0)
    u = np.ones(7)
    expected = u @ plainly(stages)
    v, k = measured(stages).pull(u)
    assert np.ldexp(v, k) == pytest.approx(expected, rel=1e-12)
    v_small, k_small = measured([1e-300 * a for a in stages]).pull(u)
    shift = np.log(v_small / v) + (k_small - k) * np.log(2)
    assert shift == pytest.approx(-12 * 300 * np.log(10), rel=1e-13)


# ------------------------------------------------------------------ zeros


@given(SEEDS, st.integers(2, 40), st.booleans())
def test_a_direction_below_rounding_is_counted_and_never_a_number(seed, n, late):
    rng = np.random.default_rng(seed)
    singular = rng.standard_normal((n, n - 1)) @ rng.standard_normal((n - 1, n))
    product = measured([rng.standard_normal((n, n)), singular] if late else [singular])
    assert (product.rank, product.unresolved, product.dead) == (n - 1, 1, 0)
    assert len(product.log_singular_values()) == n - 1


def test_equal_columns_leave_one_direction_wherever_they_stand():
    rng = np.random.default_rng(0)
    stage = rng.standard_normal((9, 9))
    stage[:, 2:6] = stage[:, 1:2]
    product = measured([stage])
    expected = np.log(np.linalg.svd(stage, compute_uv=False)[:5])
    assert (product.rank, product.unresolved) == (5, 4)
    assert product.log_singular_values() == pytest.approx(expected, abs=1e-13)


def test_what_a_narrow_stage_cuts_is_no_longer_unresolved():
    rng = np.random.default_rng(0)
    singular = rng.standard_normal((9, 5)) @ rng.standard_normal((5, 9))
    for m, unresolved in ((12, 4), (7, 2), (3, 0)):
        product = measured([singular, rng.standard_normal((m, 9))])
        assert (product.unresolved, product.dead) == (unresolved, 0)


def test_noise_hides_what_is_graded_below_it():
    # The first two columns are dependent, or differ by less than rounding: nobody knows.
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    mixed = rotation @ np.array([[1.0, 1.0, 1.0], [0.0, 1e-20, 0.0], [1.0, 1.0, -1.0]])
    above = measured([np.diag([1.0, 1e-5, 1e-9]), mixed])
    assert (above.rank, above.unresolved) == (2, 1)
    below = measured([np.diag([1.0, 1e-5, 1e-50]), mixed])
    assert (below.rank, below.unresolved) == (1, 2)


def test_masks_of_separate_blocks_each_cost_their_own_rank():
    rng = np.random.default_rng(0)
    stages = []
    for _ in range(40):
        mask = np.ones((4, 6))
        mask[rng.integers(4), rng.integers(6)] = 0
        stages.append(block_diag(*(d[:, None] * rng.standard_normal((6, 6)) for d in mask)))
    product = measured(stages)
    each = [measured([a[i : i + 6, i : i + 6] for a in stages]) for i in range(0, 24, 6)]
    expected = np.sort(np.concatenate([p.log_singular_values() for p in each]))[::-1]
    assert product.dead == sum(p.dead for p in each) > 0
    assert product.unresolved == 0
    assert product.log_singular_values() == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("axis", [0, 1])
def test_zero_rows_and_columns_cost_rank_and_leave_no_noise(axis):
    stages = chains(0)
    stages[6] = stages[6].copy()
    stages[6][(slice(None),) * axis + ([1, 4],)] = 0
    product = measured(stages)
    assert (product.rank, product.dead, product.unresolved) == (5, 2, 0)
    expected = np.linalg.svd(plainly(stages), compute_uv=False)
    assert np.exp(product.log_singular_values()) == pytest.approx(expected[:5], rel=1e-8)


def test_a_product_of_zeros_has_no_values():
    product = measured([np.eye(3), np.zeros((4, 3)), np.ones((5, 4))])
    assert (product.width, product.rank, product.dead) == (3, 0, 3)
    assert len(product.log_singular_values()) == 0
    assert not product.pull(np.ones(5))[0].any()


def test_single_rows_columns_and_numbers():
    assert log_sigma([np.full((1, 1), -3.0)] * 1000) == pytest.approx(1000 * np.log(3), rel=1e-14)
    assert log_sigma([np.ones((1, 4))]) == pytest.approx(np.log(2), rel=1e-14)
    assert log_sigma([np.ones((4, 1))]) == pytest.approx(np.log(2), rel=1e-14)


def test_stages_at_the_ends_of_floating_point():
    for scale in (1e-300, 1e300):
        found = log_sigma([scale * np.eye(3)] * 100)
        assert found == pytest.approx(np.full(3, 100 * np.log(scale)), rel=1e-14)


def test_rows_far_apart_in_one_stage_keep_their_own_accuracy():
    rng = np.random.default_rng(0)
    stages = [rng.standard_normal((4, 4)), np.diag([1e-60, 1.0, 1e-20, 1e-40])]
    assert log_sigma(stages) == pytest.approx(reference(stages, 80), abs=1e-12)


def test_scales_that_a_later_stage_turns_round_are_kept():
    rng = np.random.default_rng(0)
    first = 10.0 ** -np.array([[12], [6], [10], [4]]) * rng.standard_normal((4, 5))
    second = np.vstack([np.diag([1e-2, 1e-22, 1e-15, 1e14]), np.zeros(4)])
    third = np.hstack([np.diag([1e-2, 1e19, 1e-4, 1e-27]), np.zeros((4, 1))])
    stages = [first, second, third]
    assert log_sigma(stages) == pytest.approx(reference(stages, 60), abs=1e-12)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(InputError, match="NaN or infinite"):
        measured([np.eye(2), np.array([[1.0, bad], [0.0, 1.0]])])


def test_stages_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"shape \(2, 4\) cannot follow one with 3 outputs"):
        measured([np.eye(3), np.ones((2, 4))])
    for empty in (np.ones(3), np.ones((0, 3)), np.ones((3, 0))):
        with pytest.raises(InputError, match="a stage must be a matrix with elements"):
            measured([empty])
