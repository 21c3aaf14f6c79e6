"""The façade: which law it returns, and what it refuses."""

import numpy as np
import pytest

import isometry.laws
from isometry.errors import TheoryError
from isometry.laws import Atom, AtomicLaw, FreeProduct, FussCatalan, chain_law


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("gaussian", 4, 0), FussCatalan),
        (("gaussian", 4, 7, 1.0), FussCatalan),
        (("gaussian", 1, 1), FreeProduct),
        (("gaussian", 10, 9), FreeProduct),
        (("orthogonal", 3, 0), AtomicLaw),
        (("orthogonal", 3, 5, 1.0), AtomicLaw),
        (("orthogonal", 3, 1), AtomicLaw),
        (("orthogonal", 1, 2), FreeProduct),
        ((np.str_("orthogonal"), np.int64(3), np.int32(3), np.float32(0.5)), FreeProduct),
    ],
)
def test_each_chain_gets_its_own_class(arguments, kind):
    assert type(chain_law(*arguments)) is kind


def test_orthogonal_weights_and_one_mask_give_the_two_point_law():
    law = chain_law("orthogonal", 7, 1, 0.25, 0.0)
    assert law.atoms == (Atom(0.0, 0.75), Atom(1.0, 0.25))


def test_weights_and_masks_are_counted_apart():
    s = np.array([-5.0, -4.0])
    nine, ten = chain_law("gaussian", 10, 9), chain_law("gaussian", 10, 10)
    assert np.all(np.abs(nine.density(s) - ten.density(s)) > 1e-4)


def test_the_scale_moves_mean_and_support():
    for arguments in [("gaussian", 3, 0), ("gaussian", 3, 2), ("orthogonal", 3, 1)]:
        plain, moved = chain_law(*arguments), chain_law(*arguments, log_scale=1.25)
        assert moved.mean_log_sigma == pytest.approx(plain.mean_log_sigma + 1.25)
        assert moved.support[1] == pytest.approx(plain.support[1] + 1.25)
        assert moved.std_log_sigma == pytest.approx(plain.std_log_sigma, abs=1e-12)


def test_a_name_is_kept_or_made_up():
    assert chain_law("gaussian", 2, 1, name="mine").name == "mine"
    made = "2 gaussian weights, 1 mask of rank 0.5 n, infinite width"
    assert chain_law("gaussian", 2, 1).name == made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("haar", 1, 0), 'weights is \'haar\'; expected "gaussian" or "orthogonal"'),
        ((None, 1, 0), "weights is None"),
        (("gaussian", 0, 0), "depth is 0; expected a whole number of at least 1"),
        (("gaussian", 1.5, 0), "depth is 1.5; expected a whole number"),
        (("gaussian", True, 0), "depth is True; expected a whole number"),
        (("gaussian", 1, -1), "masks is -1; expected a whole number of at least 0"),
        (("gaussian", 1, "1"), "masks is '1'; expected a whole number"),
        (("gaussian", 1, 1, 0.0), r"rank_fraction is 0.0; expected a number in \(0, 1\]"),
        (("gaussian", 1, 1, 1.1), r"rank_fraction is 1.1; expected a number in \(0, 1\]"),
        (("gaussian", 1, 1, np.nan), "rank_fraction is nan; expected a finite real number"),
        (("gaussian", 1, 1, "half"), "rank_fraction is 'half'; expected a finite real number"),
        (("gaussian", 1, 1, 0.5, np.nan), "log_scale is nan; expected a finite real number"),
        (("gaussian", 1, 0, 0.5, np.inf), "log_scale is inf; expected a finite real number"),
    ],
)
def test_bad_arguments_are_told_what_came_and_what_was_expected(arguments, words):
    with pytest.raises(TheoryError, match=words):
        chain_law(*arguments)


def test_the_public_names_exist():
    assert all(hasattr(isometry.laws, name) for name in isometry.laws.__all__)
