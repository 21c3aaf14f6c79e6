"""Covariances over positions and their Fourier modes, against real convolutions too."""

import math

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.meanfield import (
    c_map,
    chi_c,
    chi_q,
    covariance_map,
    fourier_modes,
    mode_depth_scales,
    operating_point,
    q_map,
    retained_variance,
    variance_profile,
)

UNIFORM_3 = [1, 0.9493, 0.8047, 0.5885, 0.3333, 0.0782, -0.1381, -0.2826, -0.3333]
NARROW_3 = [1, 0.9924, 0.9707, 0.9383, 0.9, 0.8617, 0.8293, 0.8076, 0.8]


def random_covariance(shape, seed=0):
    n = math.prod(shape)
    a = np.random.default_rng(seed).standard_normal((n, n))
    return (a @ a.T / n).reshape(shape + shape)


def test_the_modes_of_two_profiles_are_those_that_are_printed():
    uniform = fourier_modes(variance_profile("uniform", 3), 16)
    assert uniform.real[:9] == pytest.approx(UNIFORM_3, abs=5.1e-5)
    assert np.max(np.abs(uniform.imag)) < 1e-15
    narrow = fourier_modes([0.05, 0.9, 0.05], 16)
    assert narrow.real[:9] == pytest.approx(NARROW_3, abs=5.1e-5)


def test_a_delta_profile_keeps_every_mode_and_its_depth_scale():
    delta = variance_profile("delta", 3, 2)
    assert np.abs(fourier_modes(delta, (5, 4)) - 1).max() < 1e-15
    assert mode_depth_scales(0.9, delta, (5, 4)) == pytest.approx(-1 / math.log(0.9))
    assert np.all(np.isinf(mode_depth_scales(1.0, delta, (5, 4))))


def test_two_dimensions_multiply():
    v = variance_profile("uniform", 3, 2)
    one = fourier_modes(variance_profile("uniform", 3), 6)
    two = fourier_modes(v, (6, 6))
    assert two == pytest.approx(np.outer(one, one), abs=1e-15)


def test_each_mode_has_its_own_depth_scale():
    scales = mode_depth_scales(0.95, variance_profile("uniform", 3), 16)
    expected = [-1 / math.log(0.95 * abs(x)) for x in fourier_modes(np.ones(3) / 3, 16).real]
    assert scales == pytest.approx(expected, rel=1e-12)
    # cos(2π/3) = -1/2 kills a third of the frequencies of a length that 3 divides
    assert mode_depth_scales(0.95, variance_profile("uniform", 3), 3)[1] < 0.05


def test_modes_are_what_the_covariance_map_does_to_a_small_deviation():
    n, v = 8, np.array([0.2, 0.5, 0.3])
    point = operating_point("tanh", 2.0, 0.3)
    fixed = point.q_star * ((1 - point.c_star) * np.eye(n) + point.c_star * np.ones((n, n)))
    assert covariance_map("tanh", fixed, 2.0, 0.3, v) == pytest.approx(fixed, rel=1e-11)
    modes, step, m = fourier_modes(v, n), 1e-6, 2
    wave = np.exp(2j * np.pi * m * np.arange(n) / n)
    # covariances of all pairs of positions a distance of 3 apart are disturbed by one wave
    bump = np.zeros((n, n), dtype=complex)
    for a in range(n):
        bump[a, (a + 3) % n] = wave[a]
    response = np.zeros((n, n), dtype=complex)
    for part in (1.0, 1j):
        real = step * np.real(bump / part)
        ends = [covariance_map("tanh", fixed + s * (real + real.T), 2.0, 0.3, v) for s in (1, -1)]
        response += part * (ends[0] - ends[1]) / (2 * step)
    there = np.array([response[a, (a + 3) % n] for a in range(n)])
    assert there == pytest.approx(point.chi_c * modes[m] * wave, abs=1e-7)


def test_variances_alone_move_by_chi_q():
    n, v, step = 6, np.array([0.25, 0.5, 0.25]), 1e-6
    wave = np.cos(2 * np.pi * np.arange(n) / n)
    ends = [
        np.diag(covariance_map("tanh", np.diag(1.0 + s * step * wave), 1.5, 0.2, v))
        for s in (1, -1)
    ]
    moved = (ends[0] - ends[1]) / (2 * step)
    expected = chi_q("tanh", 1.0, 1.5) * fourier_modes(v, n)[1].real * wave
    assert moved == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "hard_tanh"])
def test_equal_positions_are_a_fully_connected_network(name):
    q, c = 0.8, 0.4
    covariance = q * ((1 - c) * np.eye(5) + c * np.ones((5, 5)))
    after = covariance_map(name, covariance, 1.3, 0.2, variance_profile("uniform", 3))
    assert np.diag(after) == pytest.approx(q_map(name, q, 1.3, 0.2), rel=1e-12)
    expected = c_map(name, c, q, 1.3, 0.2) * q_map(name, q, 1.3, 0.2)
    assert after[0, 2] == pytest.approx(expected, rel=1e-12)


def test_a_delta_profile_treats_every_position_alone():
    covariance = random_covariance((4,))
    after = covariance_map("tanh", covariance, 1.3, 0.2, variance_profile("delta", 3), "zero")
    for a in range(4):
        expected = q_map("tanh", covariance[a, a], 1.3, 0.2)
        assert after[a, a] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("shape", [(5,), (3, 4)])
def test_the_map_is_the_sum_that_defines_it(shape, padding):
    d = len(shape)
    v = np.arange(1.0, 3.0**d + 1).reshape((3,) * d)
    v /= v.sum()
    covariance = random_covariance(shape)
    after = covariance_map("relu", covariance, 1.2, 0.3, v, padding)

    def arc(s, t, k):
        c = k / math.sqrt(s * t)
        angle = math.acos(min(1.0, max(-1.0, c)))
        return math.sqrt(s * t) * (math.sin(angle) + (math.pi - angle) * c) / (2 * math.pi)

    for a in np.ndindex(shape):
        for b in np.ndindex(shape):
            total = 0.0
            for index in np.ndindex(v.shape):
                x = [p + i - 1 for p, i in zip(a, index, strict=True)]
                y = [p + i - 1 for p, i in zip(b, index, strict=True)]
                if padding == "circular":
                    x = [p % n for p, n in zip(x, shape, strict=True)]
                    y = [p % n for p, n in zip(y, shape, strict=True)]
                elif any(not 0 <= p < n for p, n in zip(x + y, shape + shape, strict=True)):
                    continue
                x, y = tuple(x), tuple(y)
                one, other = covariance[x + x], covariance[y + y]
                total += v[index] * arc(one, other, covariance[x + y])
            assert after[a + b] == pytest.approx(1.44 * total + 0.09, rel=1e-7)


@pytest.mark.parametrize("padding", ["circular", "zero"])
def test_a_real_convolution_has_the_covariance_of_the_map(padding):
    n, channels, rng = 6, 1600, np.random.default_rng(1)
    start = random_covariance((n,), seed=4)
    h = rng.multivariate_normal(np.zeros(n), start, size=channels)
    v = np.array([0.2, 0.5, 0.3])
    measured = np.zeros((n, n))
    x = np.tanh(h)
    repeats = 2
    for _ in range(repeats):
        out = np.zeros((channels, n))
        for b, share in zip((-1, 0, 1), v, strict=True):
            w = rng.standard_normal((channels, channels)) * 1.5 * math.sqrt(share / channels)
            moved = np.roll(x, -b, axis=1)
            if padding == "zero" and b:
                moved[:, -1 if b == 1 else 0] = 0.0
            out += w @ moved
        out += 0.3 * rng.standard_normal((channels, 1))
        measured += out.T @ out / (channels * repeats)
    predicted = covariance_map("tanh", start, 1.5, 0.3, v, padding)
    other = covariance_map(
        "tanh", start, 1.5, 0.3, v, "zero" if padding == "circular" else "circular"
    )
    # one set of activations, many weights: the sampling of the channels dominates
    error = 5 * np.max(predicted) * math.sqrt(2 / channels)
    assert np.max(np.abs(measured - predicted)) < error
    assert np.max(np.abs(measured - other)) > error


def test_zero_padding_loses_variance_at_the_border():
    share = retained_variance(variance_profile("uniform", 3, 2), (6, 6))
    assert share.mean() == pytest.approx((16 / 18) ** 2, rel=1e-14)
    assert share[0, 0] == pytest.approx(4 / 9)
    assert share[2, 3] == pytest.approx(1.0)
    assert retained_variance(variance_profile("delta", 5), 3).tolist() == [1, 1, 1]
    linear = covariance_map("linear", np.eye(6), 1.0, 0.0, np.ones(3) / 3, "zero")
    assert np.diag(linear) == pytest.approx(retained_variance(np.ones(3) / 3, 6), rel=1e-14)


def test_silent_and_equal_positions_are_no_obstacle():
    covariance = np.zeros((3, 3))
    covariance[:2, :2] = 1.0
    after = covariance_map("sigmoid", covariance, 1.0, 0.0, variance_profile("delta", 1))
    assert after[0, 1] == pytest.approx(after[0, 0], rel=1e-14)
    assert after[2, 2] == pytest.approx(0.25, rel=1e-14)
    assert after[0, 2] == pytest.approx(0.25, rel=1e-12)


def test_an_even_kernel_has_its_centre_left_of_the_middle():
    delta = variance_profile("delta", 4)
    assert delta.tolist() == [0, 1, 0, 0]
    assert fourier_modes(delta, 8) == pytest.approx(np.ones(8))


def test_chi_c_is_what_off_diagonal_modes_grow_by():
    point = operating_point("tanh", 2.0, 0.3)
    assert chi_c("tanh", point.c_star, point.q_star, 2.0) == pytest.approx(point.chi_c, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: variance_profile("gaussian"), "the profile is 'gaussian'; expected"),
        (lambda: variance_profile([0.5, 0.6]), "the sum 1.1"),
        (lambda: variance_profile([-0.5, 1.5]), "the smallest entry -0.5"),
        (lambda: variance_profile([]), "the profile has shape (0,)"),
        (lambda: variance_profile("uniform", 0), "size is 0"),
        (lambda: variance_profile("uniform", 3, 3), "1 or 2 dimensions"),
        (lambda: fourier_modes([1.0], (4, 4)), "for a kernel of 1 dimension"),
        (lambda: fourier_modes([1.0], 0), "positions is 0"),
        (lambda: mode_depth_scales(-0.5, [1.0], 4), "chi is -0.5"),
        (lambda: covariance_map("tanh", np.ones((2, 3)), 1, 0, [1.0]), "shape (2, 3)"),
        (lambda: covariance_map("tanh", [[1, 2], [2, 1]], 1, 0, [1.0]), "is not one"),
        (lambda: covariance_map("tanh", [[1, 0.5], [0, 1]], 1, 0, [1.0]), "is not one"),
        (lambda: covariance_map("tanh", [[np.nan]], 1, 0, [1.0]), "is not one"),
        (lambda: covariance_map("tanh", [[-1.0]], 1, 0, [1.0]), "is not one"),
        (lambda: covariance_map("tanh", [[1.0]], -1, 0, [1.0]), "sigma_w is -1"),
        (lambda: covariance_map("tanh", [[1.0]], 1, 0, [1.0], "same"), "padding is 'same'"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(TheoryError) as caught:
        call()
    assert words in str(caught.value)
