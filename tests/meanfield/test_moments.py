"""Gaussian moments of every known activation against another rule: tanh-sinh, in h."""

import math

import numpy as np
import pytest

from isometry.meanfield import NAMES, activation, slope_law, slope_moment
from isometry.meanfield.moments import expectation, response, second_moment

SIGMAS = [1e-3, 0.1, 1.0, 10.0, 100.0]

_T = np.arange(-3.5, 3.5, 1 / 32)
_PLACES = 0.5 * (1.0 + np.tanh(0.5 * math.pi * np.sinh(_T)))
_SHARES = math.pi / 128 * np.cosh(_T) / np.cosh(0.5 * math.pi * np.sinh(_T)) ** 2


def average(f, sigma, kinks, longest=math.inf):
    """E f(h) with h ~ N(0, σ²), on intervals that double away from 0 and from every kink."""
    steps = np.concatenate([[0.0], np.exp2(np.arange(-3.0, 13.0))])
    ends = [place + side * steps for place in (0.0, *kinks) for side in (-1.0, 1.0)]
    ends.append(np.arange(-14.0 * sigma, 14.0 * sigma, min(0.5 * sigma, longest)))
    ends = np.unique(np.concatenate(ends))
    ends = ends[np.abs(ends) <= 14.0 * sigma]
    length = np.diff(ends)[:, None]
    h = ends[:-1, None] + length * _PLACES
    density = np.exp(-0.5 * (h / sigma) ** 2) / (sigma * math.sqrt(2.0 * math.pi))
    return float(np.sum(length * _SHARES * density * f(h)))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("name", NAMES)
def test_the_moments_of_every_activation_are_those_of_another_rule(name, sigma):
    act = activation(name)
    f, d, q = act.function, act.derivative, sigma**2

    def known(g):
        return average(g, sigma, act.kinks, 3.0 if act.period else math.inf)

    size = known(lambda h: f(h) ** 2)
    assert known(np.ones_like) == pytest.approx(1.0, rel=1e-13)
    assert second_moment(act, q) == pytest.approx(size, rel=1e-10)
    mean = expectation(act, q, lambda z, h: f(h))
    assert mean == pytest.approx(known(f), rel=1e-10, abs=1e-14 * math.sqrt(size))
    assert slope_moment(act, q) == pytest.approx(known(lambda h: d(h) ** 2), rel=1e-10)
    assert slope_moment(act, q, 2) == pytest.approx(known(lambda h: d(h) ** 4), rel=1e-10)
    # E h φ φ' / q cancels where φ levels off: what is left of E |h φ φ'| / q
    slope = known(lambda h: h * f(h) * d(h)) / q
    whole = known(lambda h: np.abs(h * f(h) * d(h))) / q
    assert response(act, q) == pytest.approx(slope, rel=1e-10, abs=1e-13 * whole)
    values, weights = slope_law(act, q)
    assert weights @ values == pytest.approx(slope_moment(act, q), rel=1e-10)
