"""Laws of point masses."""

import math

import numpy as np
import pytest

from isometry.errors import TheoryError
from isometry.laws import Atom, AtomicLaw


def test_the_two_point_law_counts_its_zero():
    law = AtomicLaw.two_point(0.5, 0.5 * math.log(2))
    assert law.atoms == (Atom(0.0, 0.5), Atom(pytest.approx(math.sqrt(2)), 0.5))
    assert law.support == pytest.approx((0.34657359, 0.34657359))
    s = np.log([1e-9, 1.41, math.sqrt(2), 2.0])
    assert law.cdf(s).tolist() == [0.5, 0.5, 1.0, 1.0]
    assert law.density(s).tolist() == [0, 0, 0, 0]
    assert (law.mean_log_sigma, law.std_log_sigma) == (pytest.approx(0.34657359), 0.0)
    assert law.score == pytest.approx(0.5 * 2 / (2 + 1 / 2))


def test_the_law_of_an_orthogonal_chain_is_perfect():
    law = AtomicLaw.dirac(0.0)
    assert (law.score, law.mean_log_sigma, law.std_log_sigma) == (1.0, 0.0, 0.0)
    assert law.cdf([-np.inf, -1e-9, 0.0]).tolist() == [0.0, 0.0, 1.0]
    assert np.isnan(law.cdf(np.nan))


@pytest.mark.parametrize("log_sigma", [-650.3, -3.7, 0.1, 1 / 3, 42.0])
def test_the_cdf_holds_the_atom_where_its_sigma_says_it_is(log_sigma):
    law = AtomicLaw.dirac(log_sigma)
    assert law.cdf([np.log(law.atoms[0].sigma), log_sigma]).tolist() == [1.0, 1.0]


def test_moments_of_several_atoms_are_weighted_and_leave_out_zero():
    law = AtomicLaw([Atom(math.e, 0.2), Atom(0.0, 0.2), Atom(1.0, 0.6)])
    assert [atom.sigma for atom in law.atoms] == [0.0, 1.0, math.e]
    assert law.mean_log_sigma == pytest.approx(0.25)
    assert law.std_log_sigma == pytest.approx(math.sqrt(0.25 * 0.75))
    assert law.score == pytest.approx(0.6 + 0.2 / math.cosh(2.0))


def test_quantiles_and_samples_are_atoms():
    law = AtomicLaw.two_point(0.25, 1.0)
    assert law.quantile([0.0, 0.75, 0.76, 1.0]).tolist() == [-np.inf, -np.inf, 1.0, 1.0]
    draws = law.sample(4000, np.random.default_rng(0))
    assert np.mean(draws == 1.0) == pytest.approx(0.25, abs=0.03)
    assert law.grid(10).size == 0


def test_nothing_is_known_of_what_is_not_a_number():
    law = AtomicLaw.dirac(0.0)
    assert np.isnan([law.density(np.nan), law.cdf(np.nan)]).all()
    assert law.density([0.0, np.nan])[0] == 0.0


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        ([Atom(1.0, 0.5)], "add up to 0.5; expected 1"),
        ([], "add up to 0; expected 1"),
        ([Atom(0.0, 1.0)], "one of them > 0"),
        ([Atom(-1.0, 1.0)], "expected distinct σ >= 0"),
        ([Atom(1.0, 0.5), Atom(1.0, 0.5)], "expected distinct σ"),
        ([Atom(math.nan, 1.0)], "a location σ is nan; expected a finite real number"),
        ([Atom(1.0, 1.5)], r"the mass of an atom is 1.5; expected a number in \(0, 1\]"),
    ],
)
def test_bad_atoms_are_refused(atoms, words):
    with pytest.raises(TheoryError, match=words):
        AtomicLaw(atoms)


@pytest.mark.parametrize("log_sigma", [-6632.2, -701.0, 701.0, 1283.7])
def test_a_place_beyond_float64_is_known_by_its_logarithm(log_sigma):
    law = AtomicLaw.two_point(0.75, log_sigma)
    assert law.log_atoms == ((log_sigma, 0.75),)
    assert law.support == (log_sigma, log_sigma)
    assert law.mean_log_sigma == log_sigma
    assert law.cdf([log_sigma - 1e-6, log_sigma]) == pytest.approx([0.25, 1.0])
    assert law.quantile(0.5) == log_sigma
    assert law.score == pytest.approx(0.0, abs=1e-300)
    zero, far = law.atoms
    assert (zero.sigma, np.sign(np.log(far.sigma))) == (0.0, np.sign(log_sigma))
    assert 0.0 < far.sigma < np.inf
