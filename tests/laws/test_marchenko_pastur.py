"""The Marchenko–Pastur law against its printed moments, the general law and real matrices."""

import numpy as np
import pytest
from scipy.integrate import quad

from isometry.errors import TheoryError
from isometry.laws import FussCatalan
from isometry.laws.marchenko_pastur import MarchenkoPastur


def test_a_square_matrix_has_the_fuss_catalan_law_of_depth_one():
    s = np.linspace(-6.0, 0.69, 50)
    law, same = MarchenkoPastur(1.0), FussCatalan(1)
    assert np.max(np.abs(law.density(s) - same.density(s))) < 1e-14
    assert np.max(np.abs(law.cdf(s) - same.cdf(s))) < 1e-14
    assert law.score == pytest.approx(0.600485180440, abs=1e-12)
    assert law.std_log_sigma == pytest.approx(same.std_log_sigma, rel=1e-12)


@pytest.mark.parametrize(
    ("ratio", "mean", "variance"),
    [(0.5, -0.306852819440, 0.723122011175), (0.25, -0.136953782645, 0.293890656013)],
)
def test_the_log_moments_of_log_x_are_the_printed_ones(ratio, mean, variance):
    law = MarchenkoPastur(ratio)
    assert 2 * law.mean_log_sigma == pytest.approx(mean, abs=1e-12)
    assert 4 * law.std_log_sigma**2 == pytest.approx(variance, abs=1e-12)


@pytest.mark.parametrize("over", ["directions", "outputs"])
@pytest.mark.parametrize("ratio", [1e-3, 0.5, 0.999, 1.0, 2.0, 40.0])
def test_the_parts_fit_each_other(ratio, over):
    law = MarchenkoPastur(ratio, 1.3, over=over)
    low, high = law.support
    zero = float(law.cdf(-np.inf))
    assert zero == pytest.approx(sum(a.mass for a in law.atoms), abs=1e-15)
    start = max(low, high - 20)
    for s in np.linspace(start, high, 5)[1:-1]:
        mass = quad(lambda u: float(law.density(u)), start, s, epsabs=1e-12, limit=200)[0]
        assert float(law.cdf(s)) == pytest.approx(float(law.cdf(start)) + mass, abs=1e-9)
    score = quad(lambda u: float(law.density(u)) / np.cosh(2 * u), start, high, limit=200)[0]
    assert law.score == pytest.approx(score, abs=1e-7)
    # E[x] over all n_out outputs is σ_w²; each direction holds max(c, 1) times as much
    per_output = law.moments(1)[0] * (1 if over == "outputs" else min(1, 1 / ratio))
    assert per_output == pytest.approx(1.69, rel=1e-9)
    assert law.cdf([np.inf, high, np.nan])[:2].tolist() == [1.0, 1.0]


def test_a_real_matrix_follows_it_and_another_shape_does_not():
    w = np.random.default_rng(0).standard_normal((300, 600)) / np.sqrt(600)
    log_sigma = np.log(np.sort(np.linalg.svd(w, compute_uv=False)))
    steps = (np.arange(300) + 0.5) / 300
    assert np.max(np.abs(MarchenkoPastur(0.5).cdf(log_sigma) - steps)) < 0.01
    assert np.max(np.abs(MarchenkoPastur(0.6).cdf(log_sigma) - steps)) > 0.03


@pytest.mark.parametrize("arguments", [(0,), (-1.0,), (1.0, 0.0), (np.inf,), ("1",), (2.0, 1e400)])
def test_other_parameters_are_refused(arguments):
    with pytest.raises(TheoryError, match="expected"):
        MarchenkoPastur(*arguments)


def test_what_is_counted_has_two_names():
    with pytest.raises(TheoryError, match='expected "directions" or "outputs"'):
        MarchenkoPastur(2.0, over="inputs")
