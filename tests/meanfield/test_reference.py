"""Every number of the table that mpmath computed on its own."""

import pytest

from isometry.errors import TheoryError
from isometry.meanfield import critical_point, operating_point, slope_moment

#: the table has 15 digits; the condition of ξ_c and of E φ'⁴/μ_1² - 1 costs two or three
CLOSE = 1e-11


def lambda_orthogonal(name, point):
    return slope_moment(name, point.q_star, 2) * point.sigma_w**4 - 1.0


def test_the_critical_point_at_each_sigma_b(at_sigma_b):
    row = at_sigma_b
    point = critical_point(row["activation"], sigma_b=float(row["sigma_b"]))
    assert point.sigma_w == pytest.approx(float(row["sigma_w"]), rel=CLOSE, abs=0)
    assert point.q_star == pytest.approx(float(row["q_star"]), rel=CLOSE, abs=0)
    assert point.chi_1 / point.sigma_w**2 == pytest.approx(float(row["mu_1"]), rel=CLOSE, abs=0)
    wide = lambda_orthogonal(row["activation"], point)
    assert wide == pytest.approx(float(row["lambda_orthogonal"]), rel=CLOSE, abs=0)


def test_the_critical_point_at_each_q_star(at_q_star):
    row = at_q_star
    name, q = row["activation"], float(row["q_star"])
    if row["sigma_b"] is None:
        with pytest.raises(TheoryError, match=r"no critical point of softplus .* σ_b² = -"):
            critical_point(name, q_star=q)
        assert 1.0 / slope_moment(name, q) == pytest.approx(
            float(row["sigma_w"]) ** 2, rel=CLOSE, abs=0
        )
        return
    point = critical_point(name, q_star=q)
    assert point.sigma_w == pytest.approx(float(row["sigma_w"]), rel=CLOSE, abs=0)
    bias = float(row["sigma_b_squared"])  # 1e-31: what lies beyond 12 standard deviations
    assert point.sigma_b**2 == pytest.approx(bias, rel=2 * CLOSE, abs=1e-31)
    assert point.chi_1 == pytest.approx(1.0, abs=1e-15)
    if name != "hard_tanh" or q > 0.01:
        wide = lambda_orthogonal(name, point)
        assert wide == pytest.approx(float(row["lambda_orthogonal"]), rel=CLOSE, abs=1e-15)


def test_the_fixed_point_at_each_sigma_w_and_sigma_b(off_critical):
    row = off_critical
    point = operating_point(row["activation"], float(row["sigma_w"]), float(row["sigma_b"]))
    assert point.stable
    assert point.c_star == pytest.approx(float(row["c_star"]), rel=CLOSE, abs=1e-12)
    for key in ("q_star", "chi_q", "chi_1", "chi_c", "xi_q", "xi_c", "xi_gradient"):
        assert getattr(point, key) == pytest.approx(float(row[key]), rel=CLOSE, abs=0), key
