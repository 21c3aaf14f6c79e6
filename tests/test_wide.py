"""Infinitely wide networks: against printed tables, and against real wide networks."""

from itertools import pairwise

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws import Diagonal, Gaussian, free_product
from isometry.meanfield import NAMES, critical_point, slope_moment
from isometry.wide import WideNetwork

TANH = {"sigma_w": 1.299220967, "sigma_b": 0.195041537}  # critical, q* = 1/2

ROWS = [
    # activation, weights, depth, mean, std, log of the largest, score
    ("tanh", "orthogonal", 1, -0.15726463, 0.51818876, 0.26176335, 0.806385),
    ("tanh", "orthogonal", 10, -1.5726463, 2.1544573, 1.10561580, 0.352685),
    ("tanh", "gaussian", 3, -1.9717939, 2.6393785, 1.23634244, 0.310435),
    ("tanh", "gaussian", 10000, -6572.6463, 6463.1758, 5.23607966, 0.000213),
    ("relu", "gaussian", 10, -4.3068528, 5.3508768, 1.99828187, 0.088589),
    ("relu", "orthogonal", 3, -0.34657359, 1.4095915, 0.95477125, 0.254339),
    ("linear", "gaussian", 100, -50, 50.815812, 2.80507680, 0.023494),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r[0]}-{r[1]}-{r[2]}")
def test_the_printed_tables_are_met(row):
    activation, weights, depth, mean, std, top, score = row
    scales = {"tanh": TANH, "relu": {"sigma_w": 2**0.5}, "linear": {"sigma_w": 1.0}}[activation]
    law = WideNetwork(activation, weights, depth, **scales).law
    assert law.mean_log_sigma == pytest.approx(mean, rel=1e-6)
    assert law.std_log_sigma == pytest.approx(std, rel=1e-6)
    assert law.support[1] == pytest.approx(top, abs=2e-6)
    assert law.score == pytest.approx(score, abs=1e-6)


def simulated(network, n, draws, seed=0):
    """log σ of real networks, -inf for zeros, sorted."""
    rng = np.random.default_rng(seed)
    widths = [n] * (network.depth + 1) if not network.widths else [n * w for w in network.widths]
    found = []
    for _ in range(draws):
        x = rng.standard_normal(widths[0]) * network.input_variance**0.5
        jacobian = np.eye(widths[0])
        for columns, rows in pairwise(widths):
            w = rng.standard_normal((rows, columns)) / columns**0.5
            if network.weights == "orthogonal":
                w = np.linalg.qr(w if rows >= columns else w.T)[0]
                w = (w if rows >= columns else w.T) * max(1, rows / columns) ** 0.5
            h = network.sigma_w * w @ x + network.sigma_b * rng.standard_normal(rows)
            jacobian = (1 - np.tanh(h) ** 2)[:, None] * (network.sigma_w * w @ jacobian)
            x = np.tanh(h)
        found.append(np.linalg.svd(jacobian, compute_uv=False)[: min(widths)])
    return np.log(np.sort(np.concatenate(found)))


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("widths", [(), (2, 3, 1, 2)])
def test_each_layer_has_its_own_variance_and_width(weights, widths):
    depth = len(widths) - 1 if widths else 4
    network = WideNetwork("tanh", weights, depth, 1.5, 0.3, input_variance=1.7, widths=widths)
    assert network.q[0] == pytest.approx(1.5**2 * 1.7 + 0.09)
    n = 200
    log_sigma = simulated(network, n, 2)
    steps = (np.arange(log_sigma.size) + 0.5) / log_sigma.size
    assert np.max(np.abs(network.law.cdf(log_sigma) - steps)) < 0.5 / n**0.5
    # the same at the fixed point throughout, and of the other ensemble, is told apart
    other = {"gaussian": "orthogonal", "orthogonal": "gaussian"}[weights]
    wrong = WideNetwork("tanh", other, depth, 1.5, 0.3, input_variance=1.7, widths=widths)
    assert np.max(np.abs(wrong.law.cdf(log_sigma) - steps)) > 0.05
    settled = WideNetwork("tanh", weights, depth, 1.5, 0.3, widths=widths)
    assert np.max(np.abs(settled.law.cdf(log_sigma) - steps)) > 0.05


def test_a_residual_network_spreads_by_its_branches_alone():
    network = WideNetwork("relu", "gaussian", 1000, 2**0.5, residual=(1.0, 1000**-0.5))
    assert network.law.std_log_sigma == pytest.approx(0.763724, abs=2e-6)
    assert network.law.mean_log_sigma == pytest.approx(0, abs=1e-9)
    assert network.point is None


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("depth", [1, 3])
def test_without_a_skip_a_residual_network_is_a_chain(weights, depth):
    chain = WideNetwork("tanh", weights, depth, 1.5, 0.3)
    residual = WideNetwork(
        "tanh", weights, depth, 3.0, 0.6, input_variance=chain.q[0], residual=(0.0, -0.5)
    )
    assert residual.q == pytest.approx(chain.q)
    x = np.linspace(-4, 1, 20)
    assert residual.law.cdf(x) == pytest.approx(chain.law.cdf(x), abs=1e-9)
    assert residual.law.score == pytest.approx(chain.law.score, rel=1e-9)


def test_without_a_branch_a_residual_network_scales():
    (atom,) = WideNetwork("gelu", "gaussian", 3, 1.0, residual=(-0.5, 0.0)).law.atoms
    assert (atom.sigma, atom.mass) == (pytest.approx(0.125), pytest.approx(1.0))


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(
    ("name", "sigma_w", "start", "residual"),
    [
        ("tanh", 1.0, 1.0, None),
        ("softsign", 1.0, 0.5, None),
        ("tanh", 1.0, 1.0, (1.0, 0.3)),
    ],
)
def test_layers_that_share_variances_have_the_law_of_layers_that_do_not(
    monkeypatch, weights, name, sigma_w, start, residual
):
    def network():
        arguments = {"input_variance": start, "residual": residual}
        return WideNetwork(name, weights, 8 if residual else 16, sigma_w, **arguments)

    shared = network().law
    x = shared.grid(30)
    found = shared.cdf(x)
    monkeypatch.setattr("isometry.wide.representatives", lambda act, q, moments: q)
    exact = network().law
    assert np.max(np.abs(found - exact.cdf(x))) < 1e-6
    assert shared.score == pytest.approx(exact.score, abs=1e-6)
    assert shared.std_log_sigma == pytest.approx(exact.std_log_sigma, rel=1e-5)
    monkeypatch.setattr("isometry.wide.representatives", lambda act, q, moments: q * 0 + q.mean())
    assert np.max(np.abs(found - network().law.cdf(x))) > 1e-5


@pytest.mark.parametrize(
    ("name", "weights", "scales"),
    [
        ("tanh", "gaussian", {"sigma_w": 1.0, "input_variance": 1.0}),
        ("celu", "gaussian", {"sigma_w": 3.0, "input_variance": 8e-8}),
        ("tanh", "orthogonal", {"sigma_w": 1.0, "residual": (1.0, 0.1)}),
    ],
)
def test_many_different_layers_have_few_factors(name, weights, scales):
    network = WideNetwork(name, weights, 100, **scales)
    assert len(set(network.q.tolist())) == 100
    assert len({factor for factor, _ in network._factors()}) < 50


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("residual", [None, (1.0, 0.1)])
def test_two_moments_are_those_of_each_layer_by_itself(name, weights, residual):
    network = WideNetwork(name, weights, 60, 1.3, 0.1, input_variance=0.02, residual=residual)
    skip, branch = residual or (0.0, 1.0)
    one, two = (
        np.array([slope_moment(name, q, k) for q in network.q]) * (branch * 1.3) ** (2 * k)
        for k in (1, 2)
    )
    own = skip**2 + one  # E x of each layer, and E x²
    square = skip**4 + 4 * skip**2 * one + two + (one**2 if weights == "gaussian" else 0.0)
    first, second = network.law.moments(2)
    assert first == pytest.approx(np.prod(own), rel=1e-9)
    spread = np.sum(square / own**2 - 1.0)
    assert second / first**2 == pytest.approx(1.0 + spread, rel=1e-9)


REFUSED_ONCE = [
    ("gelu", "orthogonal", 1000, 1.7179528584321175, 0.04594944375855634),
    ("hardswish", "orthogonal", 10_000, 1.4177, 0.12816),
    ("hardswish", "orthogonal", 1000, 1.5571, 0.11397),
    ("sin", "orthogonal", 1000, 1.00834, 0.025341),
    ("gelu", "orthogonal", 10_000, 1.03, 0.0),
    ("gelu_tanh", "orthogonal", 1, 0.95, 0.12, 129.0),
    ("gelu_tanh", "orthogonal", 10_000, 1.399315459993, 0.0295928395645, 0.003871711798512),
    ("leaky_relu", "orthogonal", 1, 1.13, 0.08),
]


def random_chain(seed):
    """Arguments of a network: any activation, depth and scales, also far from critical."""
    rng = np.random.default_rng(seed)
    name, weights = rng.choice(NAMES), rng.choice(["gaussian", "orthogonal"])
    depth = int(rng.choice([1, 2, 3, 10, 30, 100, 300, 1000, 3000, 10_000]))
    sigma_w = np.exp(rng.uniform(np.log(0.5), np.log(3.0)))
    sigma_b = rng.choice([0.0, rng.uniform(0.0, 0.2), rng.uniform(0.0, 2.0)])
    variance = None if rng.random() < 0.6 else float(10.0 ** rng.uniform(-2.0, 1.0))
    return str(name), str(weights), depth, float(sigma_w), float(sigma_b), variance


@pytest.mark.parametrize("arguments", [*REFUSED_ONCE, *map(random_chain, range(30))])
def test_every_chain_that_has_a_variance_has_a_law(arguments):
    network = WideNetwork(*arguments)
    try:
        assert np.all(network.q >= 0.0)
    except TheoryError as refused:
        assert "variance" in str(refused)  # noqa: PT017
        return
    law = network.law
    low, high = law.support
    s = law.grid(15)
    cdf = law.cdf(s)
    assert low <= high
    assert np.all(np.diff(cdf) >= -1e-10)
    assert np.all((cdf >= 0) & (cdf <= 1))
    # where there is a continuous part, the grid shows it
    assert not s.size or cdf[-1] - cdf[0] > 0.5 * (1.0 - sum(atom.mass for atom in law.atoms))
    assert 0.0 <= law.score <= 1.0


@pytest.mark.parametrize(
    ("weights", "depth", "sigma_w", "log_sigma"),
    [("orthogonal", 2000, 1.9, 2000 * np.log(1.9)), ("gaussian", 2000, 9.0, None)],
)
@pytest.mark.parametrize("variance", [None, 1.0])
def test_a_law_beyond_float64_is_told_in_logarithms(weights, depth, sigma_w, log_sigma, variance):
    found = WideNetwork("linear", weights, depth, sigma_w, 0.0, variance).to_dict(points=20)
    assert found["log_sigma_max"] > 1200
    assert np.isfinite([found["mean_log_sigma"], found["std_log_sigma"], found["score"]]).all()
    assert found["log_atoms"] == ([[pytest.approx(log_sigma), 1.0]] if log_sigma else [])


def test_the_record_is_plain_and_complete():
    found = WideNetwork("tanh", "gaussian", 2, **TANH).to_dict(points=50)
    keys = "sigma_w sigma_b q_star chi_1 chi_q xi_q xi_c mean_log_sigma std_log_sigma log_sigma_max"
    keys += " rank_fraction m2_over_m1_squared score atoms grid cdf density"
    assert set(keys.split()) <= set(found)
    assert len(found["grid"]) == len(found["cdf"]) == len(found["density"]) == 50
    assert found["m2_over_m1_squared"] == pytest.approx(3.5984883, rel=1e-7)
    assert all(type(v) is float for v in found["grid"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tahn", "gaussian", 3, 1.0), "did you mean 'tanh'"),
        (("tanh", "haar", 3, 1.0), 'expected "gaussian" or "orthogonal"'),
        (("tanh", "gaussian", 0, 1.0), "whole number"),
        (("tanh", "gaussian", 2.5, 1.0), "whole number"),
        (("tanh", "gaussian", 10**8, 1.0), "expected at most 100,000"),
        (("tanh", "gaussian", 3, 1.0, 0.1, None, (), (0, 0)), "forgets its input"),
        (("tanh", "gaussian", True, 1.0), "whole number"),
        (("tanh", "gaussian", 3, 0.0), "sigma_w"),
        (("tanh", "gaussian", 3, -1.0), "sigma_w"),
        (("tanh", "gaussian", 3, float("nan")), "sigma_w"),
        (("tanh", "gaussian", 3, 1.0, -0.1), "sigma_b"),
        (("relu", "gaussian", 1, 1.0, float("nan")), "sigma_b"),
        (("relu", "gaussian", 1, "1"), "sigma_w"),
        (("tanh", "gaussian", 3, 1e200), "sigma_w"),
        (("tanh", "gaussian", 3, 1e-300), "sigma_w is 1e-300; expected a number from 1e-100"),
        (("tanh", "gaussian", 0, 1.0, 0.1, None, (5,)), "expected two or more"),
        (("tanh", "gaussian", 3, 1.0, 0.1, "x"), "input_variance"),
        (("tanh", "gaussian", 1, 1.0, 0.1, None, (1.5, 2)), "a width"),
        (("tanh", "gaussian", 1, 1.0, 0.1, None, ("a", 2)), "a width"),
        (("tanh", "gaussian", 1, 1.0, 0.1, None, (), (1,)), "two finite numbers"),
        (("tanh", "gaussian", 3, 1.0, 0.1, -1.0), "input_variance"),
        (("tanh", "gaussian", 3, 1.0, 0.1, None, (5, 5)), "got 2 widths for a depth of 3"),
        (("tanh", "gaussian", 1, 1.0, 0.1, None, (5, 0)), "a width"),
        (("tanh", "gaussian", 1, 1.0, 0.1, None, (5, 6), (1, 1)), "equal widths"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, words):
    with pytest.raises(TheoryError, match=words) as refused:
        WideNetwork(*arguments).law  # noqa: B018
    assert "\n" not in str(refused.value)


def test_a_variance_without_fixed_point_needs_a_start():
    with pytest.raises(TheoryError, match="no stable variance"):
        WideNetwork("softplus", "gaussian", 3, 3.0).law  # noqa: B018
    assert WideNetwork("softplus", "gaussian", 3, 3.0, input_variance=1.0).law.score > 0
    assert WideNetwork("relu", "gaussian", 3, 3.0).law.support[1] > 0


@pytest.mark.parametrize("activation", ["tanh", "erf", "softsign", "gelu"])
@pytest.mark.parametrize("q_star", [0.05, 0.0169])
@pytest.mark.parametrize("depth", [2, 30, 128, 1000])
def test_nearly_isometric_chains_begin_at_their_lower_edge(activation, q_star, depth):
    point = critical_point(activation, q_star=q_star)
    law = WideNetwork(activation, "orthogonal", depth, point.sigma_w, point.sigma_b).law
    low, high = law.support
    assert float(law.cdf(low + 1e-6 * (high - low))) < 1e-3
    assert float(law.cdf(high - 1e-9 * (high - low))) > 1 - 1e-3


def test_one_orthogonal_layer_that_widens_is_a_product():
    network = WideNetwork("tanh", "orthogonal", 1, 1.5, 0.3, input_variance=1.7, widths=(2, 3))
    log_sigma = simulated(network, 200, 2)
    steps = (np.arange(log_sigma.size) + 0.5) / log_sigma.size
    assert np.max(np.abs(network.law.cdf(log_sigma) - steps)) < 0.5 / 400**0.5
    square = WideNetwork("tanh", "orthogonal", 1, 1.5, 0.3, input_variance=1.7)
    assert np.max(np.abs(square.law.cdf(log_sigma) - steps)) > 0.1


@pytest.mark.parametrize("variance", [5.0, 1e3, 1e4])
def test_many_places_without_slope_are_resolved(variance):
    law = WideNetwork("sin", "gaussian", 2, 1.0, 0.1, input_variance=variance).law
    assert law.moments(1)[0] > 0
    assert 0 < law.score < 1


def test_numbers_beyond_floating_point_are_not_warned_about():
    found = WideNetwork("relu", "gaussian", 1000, 1e-3).to_dict(points=20)
    assert np.isnan(found["m2_over_m1_squared"])
    assert np.isfinite(found["mean_log_sigma"])


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "hardswish"])
@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_a_network_stands_at_the_fixed_point_that_it_is_given(name, weights):
    point = critical_point(name, q_star=1.0)
    scales = point.sigma_w, point.sigma_b
    network = WideNetwork(name, weights, 3, *scales, fixed_point=point)
    assert network.q.tolist() == [1.0, 1.0, 1.0]
    assert network.law.moments(1) == pytest.approx(1.0, rel=1e-9)  # χ₁³
    assert not network.point.stable
    assert "half-stable" in network.to_dict(points=20)["notes"][0]
    drawn = WideNetwork(name, weights, 3, *scales)
    assert drawn.law.moments(1) < 0.9


def test_a_fixed_point_of_another_network_is_refused():
    point = critical_point("gelu", q_star=1.0)
    for other in (("silu", point.sigma_w, point.sigma_b), ("gelu", 1.0, point.sigma_b)):
        with pytest.raises(TheoryError, match="fixed_point is one of gelu"):
            WideNetwork(other[0], "gaussian", 3, *other[1:], fixed_point=point)


@pytest.mark.parametrize("name", ["relu6", "selu", "elu"])
def test_a_kink_at_zero_has_both_slopes_where_the_variance_dies_out(name):
    point = critical_point(name, sigma_b=0.0)
    for depth in (1, 2):
        law = WideNetwork(name, "orthogonal", depth, point.sigma_w, fixed_point=point).law
        assert law.moments(1) == pytest.approx(1.0, rel=1e-9)


def test_a_straight_line_that_misses_zero_has_the_law_of_its_slope():
    law = WideNetwork(lambda h: 2.0 * h + 0.5, "gaussian", 3, 0.4, 0.1).law
    linear = WideNetwork("linear", "gaussian", 3, 0.8).law
    assert law.support == pytest.approx(linear.support, rel=1e-12)
    assert law.score == pytest.approx(linear.score, rel=1e-12)


def narrowing(name, weights, widths, **more):
    return WideNetwork(name, weights, len(widths) - 1, 1.3, 0.2, widths=widths, **more)


NARROWING = [
    narrowing("tanh", "gaussian", (784, 512, 512, 10)),
    narrowing("tanh", "orthogonal", (784, 512, 512, 10)),
    narrowing("softsign", "gaussian", (784, 10)),
    narrowing("tanh", "gaussian", (128, 64)),
    narrowing("erf", "orthogonal", (784, 300, 100)),
    WideNetwork("tanh", "orthogonal", 1, 1.3, 0.2, residual=(0.1, 1.0)),
]


@pytest.mark.parametrize("network", NARROWING, ids=lambda n: f"{n.name}-{n.widths}")
def test_a_density_shows_no_nodes_of_the_quadrature_where_a_layer_narrows(network):
    law = network.law
    s = np.linspace(*law.quantile(np.array([0.02, 0.98])), 500)
    density = law.density(s)
    from_left, from_right = np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])
    assert np.all(density > 0.995 * np.minimum(from_left, from_right[::-1]))  # one maximum
    assert np.all(np.diff(law.cdf(s)) > 0)


@pytest.mark.parametrize(("name", "low"), [("tanh", 0.03), ("gelu", 0.15)])
def test_the_density_behind_a_bottleneck_is_that_of_very_many_nodes(name, low):
    network = narrowing(name, "gaussian", (784, 10), input_variance=0.5)
    law = network.law
    z = np.linspace(-8.0, 8.0, 60_001) + 1e-7
    d = network.activation.derivative(network.q[0] ** 0.5 * z) ** 2
    mass = np.exp(-0.5 * z**2)
    fine = free_product([Gaussian(10, 784, 1.3**2), Diagonal(d, mass / mass.sum(), 10)])
    s = np.append(law.quantile(np.array([low, 0.2, 0.35, 0.5, 0.8, 0.95])), -0.51)
    assert law.density(s) == pytest.approx(fine.density(s), rel=0.01)
    assert law.cdf(s) == pytest.approx(fine.cdf(s), abs=1e-4)


def test_layers_of_one_width_need_few_nodes():
    for weights, depth in (("gaussian", 1), ("orthogonal", 2), ("gaussian", 30)):
        network = WideNetwork("tanh", weights, depth, 1.3, 0.2, input_variance=1.0)
        slopes = [f for f, _ in network._factors() if isinstance(f, Diagonal)]
        assert all(factor.values.size < 300 for factor in slopes)
