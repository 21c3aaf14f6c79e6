"""The Dyson equation against closed forms, its own identities and real residual networks."""

import math
from fractions import Fraction

import numpy as np
import pytest

from isometry.distance import kolmogorov_smirnov
from isometry.errors import TheoryError
from isometry.laws import FreeProduct, FussCatalan, Residual, chain_law
from isometry.laws.dyson import DysonLaw
from isometry.laws.dyson.hub import Hub
from isometry.laws.dyson.network import Neurons, Node
from isometry.laws.dyson.polar import solve
from isometry.laws.dyson.types import NeuronTypes

LAYERS = 4
ALL_MASKS = np.array([[t >> layer & 1 for t in range(16)] for layer in range(LAYERS)], float)


def gaussian_chain(depth, masked=False):
    x = Node(Neurons(1))
    for _ in range(depth):
        neurons = Neurons(1, (0.5, 0.5) if masked else (1.0,))
        x = Node(neurons, weights=[(x, 2.0 if masked else 1.0)])
        if masked:
            x = Node(neurons, [(x, [0.0, 1.0])])
    return DysonLaw(x)


def same_mask(kept, c=1.0):
    masks = np.repeat((np.arange(10) < 10 * kept)[None], LAYERS, axis=0)
    return DysonLaw.from_masks(masks, 2 * c / LAYERS)


def relu_resnet(n, seed, c=1.0):
    """Measured masks, the variance of the weights and the singular values of J."""
    rng = np.random.default_rng(seed)
    variance = 2 * c / LAYERS
    x, J, masks = rng.standard_normal(n), np.eye(n), []
    for _ in range(LAYERS):
        W = rng.standard_normal((n, n)) * np.sqrt(variance / n)
        masks.append(x > 0)
        J, x = J + W @ (masks[-1][:, None] * J), x + W @ np.maximum(x, 0)
    return np.array(masks), variance, np.linalg.svd(J, compute_uv=False)


def distance(sigma, law):
    return kolmogorov_smirnov(np.log(sigma), np.full(sigma.size, 1 / sigma.size), law)


@pytest.fixture(scope="module")
def independent():
    """All sixteen patterns of four independent masks, equally frequent."""
    return DysonLaw.from_masks(ALL_MASKS, 2 / LAYERS)


# closed forms


def test_a_gaussian_chain_is_fuss_catalan():
    law, closed = gaussian_chain(3), FussCatalan(3)
    s = closed.grid(101)
    assert np.max(np.abs(law.density(s) - closed.density(s))) < 1e-11
    assert np.max(np.abs(law.cdf(s) - closed.cdf(s))) < 1e-12
    assert law.support == (-np.inf, pytest.approx(closed.support[1], abs=1e-11))
    assert law.mean_log_sigma == pytest.approx(-1.5, abs=1e-12)
    assert law.std_log_sigma == pytest.approx(closed.std_log_sigma, abs=1e-11)
    assert law.score == pytest.approx(closed.score, abs=1e-13)
    assert law.atoms == ()


def test_a_relu_chain_is_the_free_product():
    law, closed = gaussian_chain(3, masked=True), chain_law("gaussian", 3, 3, 0.5, 1.5 * np.log(2))
    s = closed.grid(101)
    assert np.max(np.abs(law.density(s) - closed.density(s))) < 1e-12
    assert np.max(np.abs(law.cdf(s) - closed.cdf(s))) < 1e-12
    assert law.support[1] == pytest.approx(closed.support[1], abs=1e-11)
    assert law.atoms == ((0.0, pytest.approx(0.5, abs=1e-12)),)
    assert law.mean_log_sigma == pytest.approx(closed.mean_log_sigma, abs=1e-12)
    assert law.std_log_sigma == pytest.approx(closed.std_log_sigma, abs=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_where_the_axis_ends_the_law_goes_on_as_a_power(depth):
    law, closed = gaussian_chain(depth), FussCatalan(depth)
    s = np.array([-9.0, -12.0, -20.0, -40.0]) * (depth + 1)
    assert law.cdf(s) == pytest.approx(closed.cdf(s), rel=1e-6)
    assert law.density(s) == pytest.approx(closed.density(s), rel=1e-6)


@pytest.mark.parametrize(("n_in", "n_out"), [(2, 1), (1, 2), (4, 1)])
def test_a_rectangular_weight_is_marchenko_pastur(n_in, n_out):
    law = DysonLaw(Node(Neurons(n_out), weights=[(Node(Neurons(n_in)), 1.0)]))
    c = n_out / n_in
    edges = np.log([abs(1 - np.sqrt(c)), 1 + np.sqrt(c)])
    assert law.support == pytest.approx(edges, abs=1e-11)
    x = np.exp(2 * law.grid(40))
    marchenko_pastur = np.sqrt((np.exp(2 * edges[1]) - x) * (x - np.exp(2 * edges[0])))
    expected = marchenko_pastur / (np.pi * c * min(1, 1 / c))  # 2 x ρ(x), over r directions
    assert law.density(0.5 * np.log(x)) == pytest.approx(expected, abs=1e-11)
    if c == 0.5:
        assert 2 * law.mean_log_sigma == pytest.approx(-0.306852819440, abs=1e-11)
        assert 4 * law.std_log_sigma**2 == pytest.approx(0.723122011175, abs=1e-10)


@pytest.mark.parametrize("depth", [1, 3])
def test_moments_are_the_fuss_catalan_numbers(depth):
    numbers = [math.comb((depth + 1) * k, k) / (depth * k + 1) for k in range(1, 6)]
    assert gaussian_chain(depth).moments(5) == pytest.approx(numbers, rel=1e-11)


def test_the_s_transform_of_a_chain_is_the_product_of_its_factors():
    m = -np.array([0.01, 0.2, 0.49])
    law = gaussian_chain(2, masked=True)
    assert law.s_transform(m) == pytest.approx((0.5 / (0.5 + m)) ** 2 / 0.25 / 4, rel=1e-12)
    with pytest.raises(TheoryError, match="S-transform was asked for"):
        law.s_transform(-1e-14)


# identities


def test_the_log_determinant_is_a_potential_of_the_trace(independent):
    """Its derivative in log z is the trace, in every direction of the upper half plane."""
    equation, axis = independent._equation, independent._axis
    log_r, angle, h = np.array([-1.5, 0.2, 1.1]), 0.7, 1e-4

    def potential(log_abs_z, at):
        return equation.log_determinant(*solve(equation, axis, log_abs_z, at))

    trace = equation.trace(*solve(equation, axis, log_r, angle))
    radial = (potential(log_r + h, angle) - potential(log_r - h, angle)) / (2 * h)
    angular = (potential(log_r, angle + h) - potential(log_r, angle - h)) / (2 * h)
    assert np.max(np.abs(radial - trace)) < 1e-6 * np.max(np.abs(trace))
    assert np.max(np.abs(angular - 1j * trace)) < 1e-6 * np.max(np.abs(trace))
    assert np.max(np.abs(radial - 1.01 * trace)) > 1e-3


def test_the_jacobian_of_the_equation_is_its_derivative(independent):
    equation = independent._equation
    q, u = solve(equation, independent._axis, np.array([0.3]), 0.5)
    near = equation.linearise(q, u)
    for k in range(equation.ports):
        step = np.zeros(u.shape)
        step[0, k] = 1e-6
        ahead, behind = (equation.linearise(q, u + d * step).residual for d in (1, -1))
        assert near.jacobian[0, :, k] == pytest.approx((ahead - behind)[0] / 2e-6, abs=1e-8)
    ahead, behind = (equation.linearise(q * np.exp(d * 1e-6), u).residual for d in (1, -1))
    assert near.by_log_q[0] == pytest.approx((ahead - behind)[0] / 2e-6, abs=1e-8)


@pytest.mark.parametrize("log_abs_z", [-2.0, 0.5])
def test_the_blocks_of_the_equation_are_those_of_the_whole_pencil(independent, log_abs_z):
    """The dense pencil of all nodes, type by type, with the self-energies of the solution."""
    equation, axis = independent._equation, independent._axis
    q, u = solve(equation, axis, np.array([log_abs_z]), 0.3)
    h, K, reads = np.sqrt(q[0]), 2 * LAYERS + 1, LAYERS + 1
    # nodes x_0, m_1, x_1, m_2, x_2, ...; unknowns: m_1 ... m_L and x_L, then x_0 ... x_L
    order = np.argsort(np.concatenate([2 * np.arange(LAYERS) + 1, [2 * LAYERS]]))
    gamma, hat = u[0, :reads][order], u[0, reads:]
    found = np.zeros(K, complex)
    for mask in ALL_MASKS.T:
        A = np.zeros((K, K))
        X, Y = np.zeros(K, complex), np.zeros(K, complex)
        X[-1], Y[0] = 1.0, 1.0
        for k in range(LAYERS):
            A[2 * k + 1, 2 * k], A[2 * k + 2, 2 * k] = mask[k], 1.0
            X[2 * k + 1] += 2 / LAYERS * hat[k + 1]
            Y[2 * k + 2] += 2 / LAYERS * gamma[k]
        B = np.eye(K) - A
        pencil = np.block([[h * np.diag(X), 1j * B.T], [1j * B, h * np.diag(Y)]])
        found += np.diag(np.linalg.inv(pencil))[:K] / len(ALL_MASKS.T)
    assert found[1::2] == pytest.approx(h * gamma[:LAYERS], rel=1e-10)
    assert found[-1] == pytest.approx(h * gamma[-1], rel=1e-10)


@pytest.mark.parametrize(
    ("roots_x", "roots_y"),
    [
        ((2, 3, 10**8), (1, Fraction(2, 10**8), Fraction(3, 10**8))),  # a skip, at small z
        ((10**4, 10**6, 10**8), (1, Fraction(1, 10**4), Fraction(2, 10**4))),  # as a law reaches 0
        ((Fraction(1, 10**6), Fraction(2, 10**6), Fraction(3, 10**6)), (1, 2, 3)),  # at large z
        ((1, 2, 3), (3, 1, 2)),
    ],
)
def test_the_response_of_a_hub_has_all_its_digits_at_any_scale(roots_x, roots_y):
    """Against rational arithmetic; entries of one matrix differ by up to 10^16."""
    exact = np.vectorize(Fraction, otypes=[object])
    R, x, y = exact([[1, 0, 0], [2, 1, 0], [1, 1, 1]]), exact(roots_x), exact(roots_y)
    N = x[:, None] * R * y
    rows = np.hstack([exact(np.eye(3, dtype=int)) + N @ N.T, N])
    for k in range(3):  # Gaussian elimination
        rows[k] = rows[k] / rows[k, k]
        for i in {0, 1, 2} - {k}:
            rows[i] = rows[i] - rows[i, k] * rows[k]
    shares = (rows[:, 3:] * N).astype(object)
    hub = Hub(R[None].astype(float), np.ones(1), 1, slice(0, 3), slice(0, 3))
    found = hub.response(x[None].astype(float) ** 2, y[None].astype(float) ** 2)
    assert found.reads[0] == pytest.approx(shares.sum(axis=1).astype(float), rel=1e-12)
    assert found.drives[0] == pytest.approx(shares.sum(axis=0).astype(float), rel=1e-12)


def quadrature(law):
    """Places and lengths over the support of a residual network's law, in three panels."""
    low, high = law.support
    nodes, weights = np.polynomial.legendre.leggauss(50)
    angle, step = 0.25 * np.pi * (nodes + 1), 0.25 * np.pi * weights
    s, length = [], []
    for a, b in [(low, -0.1), (-0.1, 0.1), (0.1, high)]:
        s.append(a + (b - a) * np.sin(angle) ** 2)  # flattens the square roots at the edges
        length.append(step * (b - a) * np.sin(2 * angle))
    return np.array(s), np.array(length)


def test_the_cdf_is_the_integral_of_the_density(independent):
    s, length = quadrature(independent)
    panels = np.sum(independent.density(s) * length, axis=1)
    between = np.diff(independent.cdf([independent.support[0], -0.1, 0.1, 9.0]))
    assert panels == pytest.approx(between, abs=1e-9)


def test_log_moments_moments_and_score_are_integrals_of_the_density(independent):
    s, length = quadrature(independent)
    mass = independent.density(s) * length
    assert independent.mean_log_sigma == pytest.approx(0.0, abs=1e-12)  # whatever the masks
    assert np.sum(mass * s) == pytest.approx(0.0, abs=1e-9)
    assert np.sum(mass * s**2) == pytest.approx(independent.std_log_sigma**2, abs=1e-9)
    assert np.sum(mass / np.cosh(2 * s)) == pytest.approx(independent.score, abs=1e-9)
    moments = np.sum(mass * np.exp(2 * np.arange(1, 4)[:, None, None] * s), axis=(1, 2))
    assert independent.moments(3) == pytest.approx(moments, rel=1e-8)
    assert independent.moments(1) == pytest.approx([(1 + 1 / LAYERS) ** LAYERS], rel=1e-12)


def test_quantiles_invert_the_cdf(independent):
    p = np.array([0.01, 0.5, 0.9])
    assert independent.cdf(independent.quantile(p)) == pytest.approx(p, abs=1e-11)


def test_an_activation_before_the_weight_is_the_transpose_of_one_after_it():
    slopes = np.random.default_rng(0).choice([0.1, 0.7, 1.3], size=(3, 6))
    before = DysonLaw.from_masks(slopes, [0.3, 0.6, 0.2], skip=0.8)
    after = DysonLaw.from_masks(slopes[::-1], [0.2, 0.6, 0.3], skip=0.8, activation="after")
    s = before.grid(30)
    assert after.cdf(s) == pytest.approx(before.cdf(s), abs=1e-11)
    other = DysonLaw.from_masks(slopes, [0.3, 0.6, 0.2], skip=0.8, activation="after")
    assert np.max(np.abs(other.cdf(s) - before.cdf(s))) > 1e-4


def test_all_weights_scaled_scale_the_law():
    """With the skip they scale σ^L: no other scale is left."""
    slopes = ALL_MASKS[:2, :4]
    plain = DysonLaw.from_masks(slopes, 0.5)
    scaled = DysonLaw.from_masks(slopes, 0.5 * 9, skip=3.0)
    s = plain.grid(20)
    assert scaled.cdf(s + 2 * np.log(3)) == pytest.approx(plain.cdf(s), abs=1e-11)
    assert scaled.mean_log_sigma == pytest.approx(plain.mean_log_sigma + 2 * np.log(3))


@pytest.mark.parametrize("scale", [1e-40, 1e40])
def test_the_score_of_a_law_far_from_one_is_its_limit(scale):
    law = DysonLaw(Node(Neurons(1), weights=[(Node(Neurons(1)), scale)]))
    if scale < 1:
        assert law.score == pytest.approx(2 * scale, rel=1e-9)  # 2 E x
    else:  # density of x is 1 / (π √x) near 0, in units of the scale
        assert law.score == pytest.approx(np.sqrt(2 / scale), rel=1e-6)


def test_values_beyond_the_ends_are_the_limits(independent):
    ends = [-np.inf, -1e9, *independent.support, 1e9, np.inf, np.nan]
    assert independent.density(ends)[:-1].tolist() == [0] * 6
    assert independent.cdf(ends)[:-1].tolist() == [0, 0, 0, 1, 1, 1]
    assert np.isnan(independent.cdf(np.nan))
    assert np.isnan(independent.density(np.nan))


# neurons that no weight reads: what happens at σ = 1


def test_neurons_never_read_leave_an_atom_when_they_are_the_majority():
    law = same_mask(kept=0.3)
    assert law.atoms == ((1.0, pytest.approx(0.7 - 0.3, abs=1e-12)),)
    equation = law._equation
    for angle in (1e-4, 1e-8):
        q, u = solve(equation, law._axis, np.zeros(1), angle)
        assert abs(equation.trace(q, u)[0] / 10 * angle) == pytest.approx(0.4, abs=1e-6)
    just_below, at_one = law.cdf([-1e-3, 0.0])
    assert just_below == pytest.approx(0.3, abs=1e-11)
    assert at_one == pytest.approx(0.7, abs=1e-9)
    assert law.density([-0.01, 0.01]) == pytest.approx([0, 0], abs=1e-10)  # a gap on both sides
    n = 200
    masks = np.arange(n) < 0.3 * n
    rng, J = np.random.default_rng(1), np.eye(n)
    for _ in range(LAYERS):
        J = J + np.sqrt(0.5 / n) * rng.standard_normal((n, n)) @ (masks[:, None] * J)
    sigma = np.linalg.svd(J, compute_uv=False)
    assert np.count_nonzero(np.abs(sigma - 1) < 1e-9) == round(0.4 * n)
    assert distance(sigma, law) < 0.5 / np.sqrt(n)


def test_neurons_never_written_leave_the_same_atom():
    masks = np.repeat([[1.0, 1.0, 0.0, 0.0, 0.0]], 2, axis=0)
    law = DysonLaw.from_masks(masks, 0.5, activation="after")
    assert law.atoms == ((1.0, pytest.approx(0.2, abs=1e-12)),)
    skipped = DysonLaw.from_masks(masks, 0.5, activation="after", skip=-0.5)
    assert skipped.atoms == ((pytest.approx(0.25), pytest.approx(0.2, abs=1e-12)),)


def test_when_they_are_half_the_density_diverges_on_one_side():
    law = same_mask(kept=0.5)
    assert law.atoms == ()
    away = np.array([1e-4, 1e-5, 1e-6])
    below, above = law.density(-away), law.density(away)
    assert below * np.sqrt(away) == pytest.approx(np.full(3, 0.1211), rel=0.03)
    assert np.all(above < 1e-4)
    assert law.cdf(-away) == pytest.approx(0.5 - 2 * 0.1211 * np.sqrt(away), abs=1e-4)
    assert law.cdf(0.0) == pytest.approx(0.5, abs=1e-6)


def test_when_they_are_fewer_the_density_is_finite():
    law = same_mask(kept=0.7)
    assert law.atoms == ()
    away = 10.0 ** np.arange(-10, -4)
    around = np.concatenate([law.density(-away), law.density(away)])
    assert around == pytest.approx(np.full(around.size, law.density(0.0)), rel=1e-4)


def test_masked_paths_lower_the_rank_and_wide_neurons_count_once():
    """A branch of two weights through few live hidden neurons, without a skip."""
    x = Node(Neurons(8))
    hidden = Neurons(4, (0.25, 0.75))
    h = Node(hidden, [(Node(hidden, weights=[(x, 1.0)]), [0.0, 1.0])])
    law = DysonLaw(Node(Neurons(6), weights=[(h, 1.0)]))
    assert law.atoms == ((0.0, pytest.approx(0.25, abs=1e-12)),)  # of 4 directions
    assert law.cdf(-np.inf) == pytest.approx(0.25)
    assert law.cdf(law.support[1]) == 1.0


# real networks


def test_one_mask_in_all_layers_follows_monte_carlo():
    n, rng, sigma = 800, np.random.default_rng(3), []
    mask = np.arange(n) < n // 2
    for _ in range(2):
        J = np.eye(n)
        for _ in range(LAYERS):
            J += np.sqrt(0.5 / n) * rng.standard_normal((n, n)) @ (mask[:, None] * J)
        sigma.append(np.linalg.svd(J, compute_uv=False))
    law = same_mask(kept=0.5)
    assert distance(np.concatenate(sigma), law) < 0.012
    assert 4 * law.std_log_sigma**2 == pytest.approx(2.17, abs=0.02)
    assert np.var(2 * np.log(sigma)) == pytest.approx(4 * law.std_log_sigma**2, abs=0.03)


def test_a_relu_resnet_follows_the_law_of_its_own_masks_and_not_of_independent_ones():
    n = 400
    masks, variance, sigma = relu_resnet(n, seed=0)
    law = DysonLaw.from_masks(masks, variance)
    assert law.merged == 0
    assert distance(sigma, law) < 0.01
    rng = np.random.default_rng(1)
    shuffled = DysonLaw.from_masks([rng.permutation(mask) for mask in masks], variance)
    assert distance(sigma, shuffled) > 0.02


def test_a_branch_of_two_weights_and_a_readout_follow_their_law():
    """Nodes of three widths: h = W₁ x, y = x + W₂ D h, and a readout without a skip."""
    rng, n, hidden, out = np.random.default_rng(2), 480, 720, 360
    slope = rng.choice([0.2, 1.0], hidden)
    W1, W2, V = (
        rng.standard_normal((a, b)) * np.sqrt(s / b)
        for a, b, s in [(hidden, n, 0.9), (n, hidden, 0.7), (out, n, 1.5)]
    )
    sigma = np.linalg.svd(V @ (np.eye(n) + W2 @ (slope[:, None] * W1)), compute_uv=False)

    def law(hidden, slopes):
        trunk, inner = Neurons(n), Neurons(hidden, [np.mean(slope == d) for d in (1.0, 0.2)])
        x = Node(trunk)
        h = Node(inner, [(Node(inner, weights=[(x, 0.9)]), slopes)])
        y = Node(trunk, [(x, 1.0)], [(h, 0.7)])
        return DysonLaw(Node(Neurons(out), weights=[(y, 1.5)]))

    # of a smooth statistic of eigenvalues, which repel, the error falls like 1/n
    assert distance(sigma, law(hidden, [1.0, 0.2])) < 4 / out
    assert distance(sigma, law(hidden, [1.0, 1.0])) > 8 / out
    assert distance(sigma, law(hidden // 8, [1.0, 0.2])) > 8 / out
    assert law(hidden, [1.0, 0.2]).atoms == ()


# types


def test_equal_patterns_are_one_type():
    types = NeuronTypes.of([[0, 1, 1, 0], [1, 1, 1, 0]])
    assert types.slopes.tolist() == [[0, 0], [0, 1], [1, 1]]
    assert types.fractions.tolist() == [0.25, 0.25, 0.5]
    assert types.merged == 0


def test_merged_types_keep_the_gain_of_every_layer_and_say_how_many_neurons_moved():
    slopes = 1 / np.cosh(np.random.default_rng(0).standard_normal((3, 300))) ** 2
    types = NeuronTypes.of(slopes, 20)
    assert len(types.fractions) == 20
    assert types.fractions.sum() == pytest.approx(1)
    assert types.fractions @ types.slopes**2 == pytest.approx(np.mean(slopes**2, axis=1))
    assert 0.9 < types.merged <= 1
    rare = np.repeat([[1.0, 0.0, 0.02], [1.0, 0.0, 0.0]], [50, 49, 1], axis=1)
    assert NeuronTypes.of(rare, 2).merged == pytest.approx(0.5)


def test_few_types_are_close_to_all_of_them():
    slopes = 1 / np.cosh(np.random.default_rng(0).standard_normal((2, 100))) ** 2
    exact = DysonLaw.from_masks(slopes, 0.5, max_types=100)
    coarse = DysonLaw.from_masks(slopes, 0.5, max_types=16)
    s = exact.grid(8)
    assert (exact.merged, coarse.merged > 0.9) == (0, True)
    assert coarse.cdf(s) == pytest.approx(exact.cdf(s), abs=2e-3)


# bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Neurons(0), "width of a layer is 0; expected a whole number"),
        (lambda: Neurons(3, (0.5, 0.4)), "fractions of the neuron types .* add up to 1"),
        (lambda: Neurons(3, (1.5, -0.5)), "expected positive numbers"),
        (lambda: Node(Neurons(1), [(Node(Neurons(1)), 1.0)]), "joins two sets of neurons"),
        (lambda: Node(Neurons(1), weights=[(Node(Neurons(1)), 0.0)]), "expected more than 0"),
        (lambda: DysonLaw.from_masks([[1, 0]], -1.0), "variance of a weight is -1.0"),
        (lambda: DysonLaw.from_masks([[1, 0]], [1.0, 2.0]), r"variances have shape \(2,\)"),
        (lambda: DysonLaw.from_masks([1, 0], 1.0), r"slopes have shape \(2,\)"),
        (lambda: DysonLaw.from_masks([[1, np.nan]], 1.0), "expected finite numbers"),
        (lambda: DysonLaw.from_masks([[1, 0]], 1.0, max_types=0), "max_types is 0"),
        (lambda: DysonLaw.from_masks([[1, 0]], 1.0, skip=np.inf), "skip is inf"),
        (lambda: DysonLaw.from_masks([[1, 0]], 1.0, activation="both"), 'expected "before" or'),
        (lambda: DysonLaw.from_masks([[0, 0]], 1.0), "every signal is masked"),
        (lambda: DysonLaw(Node(Neurons(1))), "no Gaussian weight lies between"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(TheoryError, match=words):
        make()


def test_a_coefficient_for_the_wrong_number_of_types_is_refused():
    neurons = Neurons(4, (0.5, 0.5))
    with pytest.raises(TheoryError, match=r"shape \(3,\); expected one finite number, or one for"):
        Node(neurons, [(Node(neurons), [1.0, 2.0, 3.0])])


def test_two_inputs_are_refused():
    with pytest.raises(TheoryError, match="has 2 input nodes; expected one"):
        DysonLaw(Node(Neurons(1), weights=[(Node(Neurons(1)), 1.0), (Node(Neurons(1)), 1.0)]))


def test_paths_that_cancel_in_the_rank_are_refused():
    """Two copies of x through skips, read by weights to one output: rank counted, not there."""
    neurons = Neurons(4)
    x = Node(neurons)
    y = Node(neurons, weights=[(x, 1.0)])
    narrow = Neurons(2)
    z = Node(narrow, weights=[(y, 1.0)])
    gone = Node(neurons, [(y, 1.0), (Node(neurons, [(y, 1.0)]), -1.0)])
    with pytest.raises(TheoryError, match="elementwise paths cancel"):
        DysonLaw(Node(Neurons(4), weights=[(z, 1.0), (gone, 1.0)]))


@pytest.mark.parametrize("layers", [1, 2, 10])
@pytest.mark.parametrize(("variance", "rel"), [(1e-6, 1e-9), (1e-8, 1e-9), (1e-10, 1e-3)])
def test_edges_of_faint_branches_are_those_of_the_free_product(layers, variance, rel):
    law = DysonLaw.from_masks(np.ones((layers, 4)), variance)
    free = FreeProduct([(Residual(1.0, variance**0.5, [1.0]), layers)])
    assert law.support == pytest.approx(free.support, rel=rel)


def test_a_law_too_close_to_zero_is_refused_with_what_is_left_of_it():
    masks = (np.random.default_rng(0).random((4, 50)) < 0.7).astype(float)
    with pytest.raises(TheoryError, match="of the law is left; expected weaker branches"):
        DysonLaw.from_masks(masks, 2.0)
    assert DysonLaw.from_masks(masks, 0.5).std_log_sigma > 0.5
