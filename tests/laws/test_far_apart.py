"""Values many orders of magnitude apart: the transform is a staircase, and has an inverse."""

import numpy as np
import pytest

from isometry.laws.factors.masses import Masses
from isometry.wide import WideNetwork

STAIRS = Masses(
    np.exp([-650.0, -400.0, -390.0, -70.0, 0.0]), np.array([1e-15, 0.2, 0.3, 1e-9, 0.4])
)

#: slopes of saturated activations, some with next to no mass
NETWORKS = {
    "a slope lost in rounding at the edge": ("tanh", 10_000, 1.0, 0.0, 1.0, ()),
    "a table too coarse for the stairs": ("gelu", 60, 2**0.5, 0.0, 1.0, ()),
    "masses of 1e-15 far below the others": ("sin", 60, 1.0, 0.1, 5.0, ()),
    "slopes 1e-288 apart": ("gelu", 2, 1.0, 0.0, 2879.0, (784, 300, 784)),
    "a gap that ends on a mass": ("mish", 10_000, 1.0, 1.0, 10.0, ()),
    "a lower edge lost in rounding": ("silu", 10_000, 1.0, 0.0, 1000.0, ()),
    "a lower edge thousands of e-folds away": ("scaled_erf", 20, 3.0, 0.1, 0.01, ()),
    "faint bands on both sides of the edges": ("mish", 10_000, 1.0, 0.0, 0.01, ()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_all_mass_is_between_the_edges(name):
    activation, depth, sigma_w, sigma_b, variance, widths = NETWORKS[name]
    law = WideNetwork(activation, "orthogonal", depth, sigma_w, sigma_b, variance, widths).law
    low, high = law.support
    zero = sum(atom.mass for atom in law.atoms)
    inside = np.array([low + 1e-9 * abs(low), high - 1e-9 * abs(high)])
    assert law.cdf(inside) == pytest.approx([zero, 1.0], abs=1e-7)
    assert np.all(np.diff(law.cdf(np.linspace(low, high, 30))) >= -1e-11)
    assert low < law.mean_log_sigma < high
    assert np.isfinite([law.std_log_sigma, law.score]).all()


def test_a_staircase_is_inverted_between_its_stairs_and_on_them():
    logit = np.concatenate([np.linspace(-200.0, 200.0, 41), np.linspace(-1.0, 1.0, 41)])
    found = STAIRS.logit(STAIRS.inverse(logit))[0]
    assert found == pytest.approx(logit, abs=1e-12)


@pytest.mark.parametrize("im", [0.0, -1.0, -3.0])
def test_the_log_determinant_keeps_the_smallest_values(im):
    y = np.array([-700.0, -650.0, -395.0, -100.0, 0.0, 50.0]) + 1j * im
    ratio = np.log(STAIRS.d) - y[:, None]  # log(-d / ζ)
    large = ratio.real > 0
    exact = np.where(large, ratio, 0.0) + np.log1p(np.exp(np.where(large, -ratio, ratio)))
    assert STAIRS.log_determinant(y) == pytest.approx(exact @ STAIRS.p, rel=1e-13)


def test_a_place_on_a_mass_gives_numbers():
    law = Masses(np.array([0.25, 1.0]), np.array([1e-15, 1.0]))
    logit, slope = law.logit(np.log(law.d) - 1j * np.pi)
    assert np.isfinite(logit).all()
    assert np.isfinite(slope).all()
