"""The universal laws against printed edges, closed moments and very deep chains."""

import numpy as np
import pytest
from scipy.integrate import quad

from isometry.errors import TheoryError
from isometry.laws import chain_law
from isometry.laws.universal import BernoulliUniversal, ResidualUniversal, SmoothUniversal

EDGES = {
    0.1: ("0.504049416", "1.795136329"),
    1: ("0.0757393348", "4.857178136"),
    4: ("0.00137242738", "13.345433932"),
}


@pytest.mark.parametrize("spread", EDGES)
def test_the_edges_of_the_smooth_law_are_the_printed_ones(spread):
    for edge, printed in zip(SmoothUniversal(spread).support, EDGES[spread], strict=True):
        digits = len(printed.partition(".")[2])
        assert round(np.exp(2 * edge), digits) == float(printed)


@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 4.0, 50.0])
def test_the_smooth_law_fits_its_closed_moments(spread):
    law = SmoothUniversal(spread, 0.3)
    log_x, mass = law._quadrature
    assert mass.sum() == pytest.approx(1, abs=1e-12)
    assert law.moments(2) == pytest.approx([np.exp(0.6), (1 + spread) * np.exp(1.2)], rel=1e-10)
    assert log_x @ mass == pytest.approx(2 * law.mean_log_sigma, abs=1e-10)
    variance = (log_x - 2 * law.mean_log_sigma) ** 2 @ mass
    assert variance == pytest.approx(4 * law.std_log_sigma**2, rel=1e-10)


@pytest.mark.parametrize(
    "law", [SmoothUniversal(1.0), SmoothUniversal(0.01), ResidualUniversal(4.0)], ids=str
)
def test_density_and_cdf_fit_each_other(law):
    low, high = law.support
    for s in np.linspace(low, high, 7)[1:-1]:
        mass = quad(lambda u: float(law.density(u)), low, s, epsabs=1e-12, limit=200)[0]
        assert float(law.cdf(s)) == pytest.approx(mass, abs=1e-9)
    assert law.cdf([low, high]).tolist() == [0.0, 1.0]
    assert law.s_transform(-0.5) == pytest.approx(
        np.exp(0.5 * law.spread - 2 * law.log_scale), rel=1e-8
    )


@pytest.mark.parametrize(("c", "edge", "std"), [(0.25, 1.4431, 0.360844), (1, 3.0490, 0.763763)])
def test_the_residual_law_is_symmetric_with_the_printed_edges(c, edge, std):
    law = ResidualUniversal(c)
    assert 2 * np.array(law.support) == pytest.approx([-edge, edge], abs=5e-5)
    assert law.std_log_sigma == pytest.approx(std, abs=5e-7)
    s = np.linspace(0, law.support[1], 20)
    assert law.density(s) == pytest.approx(law.density(-s), abs=1e-11)
    assert float(law.cdf(0.0)) == pytest.approx(0.5, abs=1e-12)
    assert law.moments(1)[0] == pytest.approx(np.exp(c), rel=1e-12)


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.5, 4.0])
def test_very_many_rare_masks_have_the_bernoulli_law(rate):
    law, masks = BernoulliUniversal(rate), 1_000_000
    p = 1 - rate / masks
    deep = chain_law("orthogonal", masks, masks, p, -0.5 * masks * np.log(p))
    s = np.concatenate([np.linspace(-3, law.support[1] - 0.02, 9), [law.support[1] + 0.01, 3.0]])
    assert law.cdf(s) == pytest.approx(deep.cdf(s), abs=20 * rate / masks)
    assert law.density(s[:8]) == pytest.approx(deep.density(s[:8]), abs=50 * rate / masks)
    assert law.score == pytest.approx(deep.score, abs=20 * rate / masks)
    assert sum(a.mass for a in law.atoms) == pytest.approx(max(0, 1 - rate))
    assert law._quadrature[1].sum() == pytest.approx(1, abs=1e-8)
    assert law.moments(2) == pytest.approx([1, 1 + rate], rel=1e-8)


def test_the_largest_value_of_the_bernoulli_law():
    assert np.exp(2 * BernoulliUniversal(4.0).support[1]) == pytest.approx(10.873127314, rel=1e-9)
    assert BernoulliUniversal(4.0).mean_log_sigma == -np.inf


@pytest.mark.parametrize("law", [SmoothUniversal, ResidualUniversal, BernoulliUniversal])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, "1", None])
def test_parameters_are_positive(law, value):
    with pytest.raises(TheoryError, match="expected"):
        law(value)
