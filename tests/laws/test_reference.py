"""The laws against the printed table of an independent implementation."""

import numpy as np
import pytest

from isometry.laws import chain_law


def law_of(row):
    relu, depth = row["activation"] == "relu", row["depth"]
    scale = 0.5 * depth * np.log(2.0) if relu else 0.0
    return chain_law(row["weights"], depth, depth if relu else 0, log_scale=scale)


def last_digit(printed):
    return 10.0 ** -len(printed.partition(".")[2])


def eighth_digit(printed):
    value = abs(float(printed))
    return 10.0 ** (np.floor(np.log10(value)) - 7) if value else 1e-8


def test_every_row_matches_to_the_printed_digits(row):
    law = law_of(row)
    dead = float(law.cdf(-np.inf))
    measured = {
        "rank_fraction": 1.0 - dead,
        "mean_log_sigma": law.mean_log_sigma,
        "std_log_sigma": law.std_log_sigma,
        "max_log_sigma": law.support[1],
        "density_log_x_at_0": 0.5 * float(law.density(0.0)),
        "mass_above_1": 1.0 - float(law.cdf(0.0)),
        "score": law.score,
    }
    for key, value in measured.items():
        if row[key] is not None:
            unit = eighth_digit if key in ("mean_log_sigma", "std_log_sigma") else last_digit
            assert value == pytest.approx(float(row[key]), rel=0, abs=1.01 * unit(row[key])), key


def test_the_table_has_all_depths_of_the_three_chains_and_their_scores(row):
    assert row["depth"] in (1, 2, 3, 10, 100, 1000, 10000)
    assert (row["score"] is None) == (row["depth"] == 2)
