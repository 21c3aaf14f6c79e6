"""Each factor by itself: its transform, its series, and what it refuses."""

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws.factors import Diagonal, Gaussian, Isometry, Residual
from isometry.laws.factors.masses import Masses
from isometry.laws.rows import interpolated, places
from isometry.laws.series import composed, exp, log, reverted, times
from isometry.laws.share import share_of_rank
from isometry.laws.transform import Transform


def alone(factor):
    return Transform([(factor, 1)], [])


def matrices(factor, n, rng):
    """A large matrix of the factor, in units of 1 / n."""
    rows, columns = round(n * factor.rows), round(n * factor.columns)
    if isinstance(factor, Gaussian):
        return rng.standard_normal((rows, columns)) * np.sqrt(factor.variance / columns)
    out = np.zeros((rows, columns))
    k = min(rows, columns)
    if isinstance(factor, Isometry):
        out[np.arange(k), np.arange(k)] = factor.scale * (np.arange(k) < round(n * factor.rank))
    else:
        quantiles = np.searchsorted(np.cumsum(factor.weights), (np.arange(k) + 0.5) / k)
        out[np.arange(k), np.arange(k)] = np.sqrt(factor.values[quantiles])
    return out


FACTORS = [
    Gaussian(1, 1),
    Gaussian(2, 1, 0.7),
    Gaussian(0.5, 1, 3.0),
    Isometry(1, 2, scale=1.5),
    Isometry(2, 1, 0.5),
    Isometry.mask(1, 0.25, 2.0),
    Diagonal([1.0, 2.0, 5.0], [0.5, 0.25, 0.25]),
    Diagonal([0.0, 2.0, 5.0], [0.5, 0.25, 0.25], 2.0, 1.0),
]


@pytest.mark.parametrize("factor", FACTORS, ids=repr)
def test_z_of_t_inverts_t_of_a_large_matrix(factor):
    matrix = matrices(factor, 600, np.random.default_rng(0))
    size = min(matrix.shape)
    x = np.linalg.svd(matrix, compute_uv=False) ** 2
    transform = alone(factor)
    for p in (0.1, 0.5, 0.9):  # of the rank
        state = transform.start(np.array([np.log(p) - np.log1p(-p)]))
        z = -np.exp(float(transform.linearise(state).value[0]) + transform.log_scale)
        assert np.sum(x / (z - x)) / size == pytest.approx(-p * transform.rank, rel=0.01)


@pytest.mark.parametrize("factor", FACTORS, ids=repr)
def test_moments_are_those_of_a_large_matrix(factor):
    matrix = matrices(factor, 600, np.random.default_rng(1))
    x = np.linalg.svd(matrix, compute_uv=False) ** 2
    transform, k = alone(factor), np.arange(1, 5)
    moments = np.exp(transform.log_moments(4) + k * transform.log_scale)
    assert moments == pytest.approx([np.mean(x**j) for j in k], rel=0.04)


def test_a_square_gaussian_has_the_catalan_numbers():
    assert np.exp(alone(Gaussian(1, 1)).log_moments(5)) == pytest.approx([1, 2, 5, 14, 42])


def test_moments_of_a_diagonal_are_sums():
    d, w = np.array([0.0, 0.5, 2.0, 3.0]), np.array([0.1, 0.2, 0.3, 0.4])
    transform = alone(Diagonal(d, w))
    logs = transform.log_moments(6) + np.arange(1, 7) * transform.log_scale
    assert np.exp(logs) == pytest.approx([d**k @ w for k in range(1, 7)], rel=1e-13)


def test_u_and_its_complement_keep_their_digits_everywhere():
    a = np.array([-700.0, -40.0, 0.0, 40.0, 700.0])
    share = share_of_rank(a)
    assert share.mu * np.exp(np.maximum(-a, 0)) == pytest.approx(1 / (1 + np.exp(-np.abs(a))))
    assert share.rest[::-1] == pytest.approx(share.mu)
    assert share.log_mu == pytest.approx(np.minimum(a, 0) - np.log1p(np.exp(-np.abs(a))))
    part = share_of_rank(np.array([60.0])).of(1 - 1e-13, 1e-13)
    assert part.rest == pytest.approx(1e-13, rel=1e-12)


# series


def test_series_undo_each_other():
    f = np.array([2.0, -1.0, 0.5, 3.0, 1.0])
    assert exp(log(f)) == pytest.approx(f)
    assert times(f, exp(-log(f))) == pytest.approx([1, 0, 0, 0, 0], abs=1e-14)
    with_zero = np.concatenate([[0.0], f])
    inverse = np.concatenate([[0.0], reverted(f)])
    assert composed(with_zero, inverse) == pytest.approx([0, 1, 0, 0, 0, 0], abs=1e-13)
    assert reverted(np.array([1.0, 1.0, 0.0, 0.0])) == pytest.approx([1, -1, 2, -5])  # Catalan


# equality and bad input


def test_equal_factors_are_one_group():
    values = [1.0, 2.0, 3.0]
    factors = [Diagonal(values), Diagonal(values), Diagonal(values[::-1]), Diagonal([1, 2, 4])]
    transform = Transform([(f, 1) for f in factors], [(1.0, 3)])
    assert sorted(transform.factors.values()) == [1, 3]
    one, two = Residual(1, 0.5, values), Residual(-1, -0.5, values)
    assert one == two
    assert hash(one) == hash(two)
    assert one != Residual(1, 0.5, values, kind="orthogonal")
    assert Diagonal(values) != Residual(1, 1, values)


def test_values_that_rounding_tells_apart_are_one():
    sigma = np.linalg.svd(np.linalg.qr(np.random.default_rng(0).random((50, 50)))[0])[1]
    assert np.ptp(sigma) > 0
    assert Diagonal.measured(sigma, 50, 50).values.size == 1


def test_what_underflows_in_a_quadrature_is_no_lost_rank():
    assert Diagonal([0.0, 1.0], [1e-17, 1.0]).rank == 1.0
    assert Diagonal([1e-300, 1.0], [0.5, 0.5]).rank == 0.5
    assert Diagonal([1e-280, 1.0], [0.5, 0.5]).rank == 1.0


BAD = [
    (lambda: Gaussian(0, 1), "rows is 0; expected a number > 0"),
    (lambda: Gaussian(1, -2), "columns is -2; expected a number > 0"),
    (lambda: Gaussian(1, 1, -1.0), "variance is -1.0; expected a number > 0"),
    (lambda: Gaussian(1, 1, 0), "variance is 0; expected a number > 0"),
    (lambda: Gaussian(1, 1, np.nan), "variance is nan; expected a finite real number"),
    (lambda: Gaussian(1, "1"), "columns is '1'; expected a finite real number"),
    (lambda: Isometry(1, 1, 2), "rank is 2; expected at most 1"),
    (lambda: Isometry(1, 1, 0), "rank is 0; expected a number > 0"),
    (lambda: Isometry(1, 1, scale=-1), "scale is -1; expected a number > 0"),
    (lambda: Isometry.mask(1, 0.0), "kept is 0.0; expected a number > 0"),
    (lambda: Isometry.mask(1, 1.5), "kept is 1.5; expected at most 1"),
    (lambda: Diagonal([]), r"values have shape \(0,\)"),
    (lambda: Diagonal([1, 2], [1.0]), r"values have shape \(2,\) and weights \(1,\)"),
    (lambda: Diagonal([1, -2]), "values hold -2.0; expected finite numbers >= 0"),
    (lambda: Diagonal([1, np.nan]), "values hold nan; expected finite numbers"),
    (lambda: Diagonal([1, np.inf]), "values hold inf; expected finite numbers"),
    (lambda: Diagonal([1, 2], [1.5, -0.5]), "weights hold -0.5; expected finite numbers >= 0"),
    (lambda: Diagonal([1, 2], [0.5, 0.4]), "the weights add up to 0.9; expected 1: divide"),
    (lambda: Diagonal([0, 1], [1, 0]), "the law has no mass at values > 0"),
    (lambda: Diagonal([1], rows=-1), "rows is -1; expected a number > 0"),
    (lambda: Residual(1, 0, [1]), "branch is 0; expected a number other than 0: without a branch"),
    (lambda: Residual(1, np.inf, [1]), "b is inf; expected a finite real number"),
    (lambda: Residual(1, 1, [0]), "the law has no mass at values > 0"),
    (lambda: Residual(1, 1, [1], kind="haar"), "the kind is 'haar'; expected \"gaussian\" or"),
    (lambda: Residual(1, 1, [1], variance=-2), "variance is -2; expected a number > 0"),
    (lambda: Residual(1e-200, 1, [1]), r"the branch is e\^460.5 times its skip; expected a factor"),
    (lambda: Residual(1, 1e-6, [1], variance=9e-4), r"is e\^-17.3 times its skip; expected a"),
]


@pytest.mark.parametrize(("make", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_factors_are_told_what_came_and_what_was_expected(make, words):
    with pytest.raises(TheoryError, match=words):
        make()


@pytest.mark.parametrize("gap", [2.0**-53, 2.0**-52, 6e-8])
def test_between_values_that_rounding_tells_apart_the_logit_is_finite(gap):
    law = Masses(np.array([1.0 - gap, 1.0]), np.array([0.5, 0.5]))
    log_zeta = np.log1p(-gap * np.linspace(0.0, 1.0, 9))
    logit, slope = law.logit(log_zeta - 1j * np.pi)
    assert np.all(np.isfinite(logit))
    assert np.all(np.isfinite(slope))


def test_many_tables_are_looked_up_as_each_by_itself():
    rng = np.random.default_rng(0)
    keys, values = np.sort(rng.standard_normal((5, 12)), axis=1), rng.standard_normal((5, 12))
    at = 2.0 * rng.standard_normal((5, 40))
    each = [np.interp(*row) for row in zip(at, keys, values, strict=True)]
    assert interpolated(keys, values, at) == pytest.approx(np.array(each), abs=1e-14)
    left, right = places(keys, at)
    assert np.all(right == left + 1)
    inside = (at > keys[:, :1]) & (at < keys[:, -1:])
    assert np.all(np.take_along_axis(keys, left, axis=1)[inside] <= at[inside])
