"""``isometry theory``, ``critical`` and ``phase``."""

import json

import numpy as np
import pytest
from PIL import Image

KEYS = {
    "sigma_w",
    "sigma_b",
    "q_star",
    "chi_1",
    "chi_q",
    "xi_q",
    "xi_c",
    "mean_log_sigma",
    "std_log_sigma",
    "log_sigma_max",
    "rank_fraction",
    "m2_over_m1_squared",
    "score",
    "atoms",
    "grid",
    "cdf",
    "density",
}


def ask(isometry, words):
    return isometry(*words.split())


def test_the_theory_of_a_critical_chain_as_json(isometry):
    asked = "theory --activation tanh --weights orthogonal --depth 10 --q-star 0.5 --json -"
    ended = ask(isometry, asked)
    found = json.loads(ended.out)
    assert ended.code == 0
    assert set(found) >= KEYS
    assert found["score"] == pytest.approx(0.352685, abs=1e-6)
    assert found["sigma_w"] == pytest.approx(1.299220967, abs=1e-9)
    assert found["std_log_sigma"] == pytest.approx(2.1544573, rel=1e-7)
    assert found["xi_c"] == "inf"  # which JSON has no number for
    # density, CDF and atoms belong together
    grid, density = np.array(found["grid"]), np.array(found["density"])
    mass = np.trapezoid(density, grid) if hasattr(np, "trapezoid") else np.trapz(density, grid)
    rise = found["cdf"][-1] - found["cdf"][0]
    assert mass == pytest.approx(rise, abs=1e-3)


def test_the_summary_says_what_matters(isometry):
    ended = isometry("theory", "--activation", "relu", "--depth", "20")
    assert ended.code == 0
    assert "sigma_w 1.41421" in ended.out
    assert "rank        0.5 of the directions" in ended.out
    assert "atom        σ = 0, mass 0.5" in ended.out


def test_the_largest_value_may_be_an_atom(isometry):
    asked = "theory --activation hard_tanh --weights orthogonal --depth 2 --q-star 0.5 --json -"
    found = json.loads(ask(isometry, asked).out)
    assert found["log_sigma_max"] == pytest.approx(0.17114332, abs=1e-8)


def test_what_was_chosen_is_said(isometry):
    ended = isometry("theory", "--activation", "tanh", "--depth", "3")
    assert "sigma_b = 0.05 (auto)" in ended.err


def test_a_critical_point_that_nobody_chose_is_the_usual_one(isometry):
    ended = ask(isometry, "critical --activation tanh")
    assert ended.code == 0
    assert "sigma_w 1.122539" in ended.out
    assert "sigma_b = 0.05 (auto)" in ended.err
    ended = ask(isometry, "critical --activation relu")
    assert "auto" not in ended.err


def test_widths_imply_the_depth_and_skips_change_the_law(isometry):
    ended = ask(isometry, "theory --activation relu --widths 784,512,512,10 --json -")
    assert json.loads(ended.out)["depth"] == 3
    asked = "theory --activation relu --depth 9 --residual 1,0.33333333333 --json -"
    ended = ask(isometry, asked)
    found = json.loads(ended.out)
    assert found["q_star"] is None
    assert found["mean_log_sigma"] == pytest.approx(0, abs=1e-6)
    assert "0.02 to 0.05 away" in ended.err
    ended = ask(isometry, "theory --activation relu --depth 9 --residual 0,1")
    assert "away" not in ended.err


def test_infinities_are_strings_that_json_knows(isometry):
    found = json.loads(ask(isometry, "critical --activation tanh --sigma-b 0.05 --json -").out)
    assert found["xi_c"] == "inf"
    assert found["sigma_w"] == pytest.approx(1.122539005, abs=1e-9)
    assert found["q_star"] == pytest.approx(0.153691936, abs=1e-9)


def test_an_unstable_critical_point_is_called_so(isometry):
    ended = ask(isometry, "critical --activation gelu --q-star 1")
    assert "not stable" in ended.out
    assert "the variance leaves q*" in ended.out
    assert "half-stable" in ended.err


@pytest.mark.parametrize("asked", ["gelu --q-star 1", "silu --sigma-b .25", "mish --q-star 1"])
def test_theory_is_that_of_the_point_that_critical_finds(isometry, asked):
    point = json.loads(ask(isometry, f"critical --activation {asked} --json -").out)
    found = json.loads(ask(isometry, f"theory --activation {asked} --depth 3 --json -").out)
    shared = ["sigma_w", "sigma_b", "q_star", "chi_1", "chi_q", "xi_q", "stable", "notes"]
    assert {key: found[key] for key in shared} == {key: point[key] for key in shared}
    assert found["q"] == [point["q_star"]]


def test_notes_are_in_the_record_too(isometry):
    asked = "theory --activation tanh --depth 9 --residual 1,0.3 --json -"
    ended = ask(isometry, asked)
    auto, away = json.loads(ended.out)["notes"]
    assert "(auto)" in auto
    assert "0.02 to 0.05 away" in away
    assert ended.err.count("note: ") == 2


@pytest.mark.parametrize(
    "asked",
    [
        "theory --activation tanh --depth 5 --q-star 0.1 --figure f.png",
        "theory --activation hard_tanh --weights orthogonal --depth 2 --q-star .5 --figure f.png",
        "phase --activation tanh --points 6 --figure f.png",
        "phase --activation softplus --points 4 --figure f.png",
    ],
)
def test_figures_are_drawn(isometry, asked):
    ended = ask(isometry, asked)
    assert (ended.code, ended.changed) == (0, ["f.png"])
    assert np.ptp(np.asarray(Image.open("f.png").convert("L"))) > 200


def test_a_phase_diagram_as_data(isometry):
    asked = "phase --activation tanh --sigma-w 0.5,2 --sigma-b 0,0.3 --points 4 --json p.json"
    ended = ask(isometry, asked)
    assert (ended.code, ended.changed) == (0, ["p.json"])
    with open("p.json", encoding="utf-8") as file:
        found = json.load(file)
    assert found["sigma_w"] == [0.5, 1.0, 1.5, 2.0]
    assert np.shape(found["xi_q"]) == (4, 4)
    assert all(v < 1 for v in np.array(found["chi_1"], dtype=float)[:, 0])
    assert found["critical_sigma_w"][-1] == pytest.approx(1.395583975, abs=1e-8)


BAD = {
    "theory --activation tahn --depth 3": "did you mean 'tanh'",
    "theory --activation tanh": "give --depth",
    "theory --activation tanh --depth 0": "whole number",
    "theory --activation tanh --depth 1.5": "not a valid integer",
    "theory --activation tanh --depth -3": "whole number",
    "theory --activation tanh --depth 3 --sigma-w -1": "sigma_w",
    "theory --activation tanh --depth 3 --sigma-w nan": "sigma_w",
    "theory --activation tanh --depth 3 --sigma-w 1 --sigma-b -1": "sigma_b",
    "theory --activation tanh --depth 3 --q-star 0": "q_star",
    "theory --activation tanh --depth 3 --q-star -1": "q_star",
    "theory --activation tanh --depth 3 --q-star 1 --sigma-w 1": "two different things",
    "theory --activation tanh --depth 3 --q-star 1 --critical": "two different things",
    "theory --activation tanh --depth 3 --q-star 1 --sigma-b 1": "leave --sigma-b out",
    "theory --activation tanh --depth 3 --widths 5,5": "one more than layers",
    "theory --activation tanh --widths 5,0": "at least 1",
    "theory --activation tanh --widths five": "not a shape",
    "theory --activation tanh --widths 5": "expected two or more",
    "theory --activation tanh --depth 3 --points 1000000000": "2<=x<=100000",
    "theory --activation tanh --depth 3 --residual nan,1": "two finite numbers",
    "theory --activation tanh --depth 3 --residual 1": "not a pair",
    "theory --activation tanh --depth 3 --weights haar": "haar",
    "theory --activation softplus --depth 3": "no critical point",
    "theory --activation softplus --depth 3 --sigma-w 3": "no stable variance",
    "theory --activation tanh --depth 3 --figure f.bmp": "use one of .png",
    "critical --activation softplus --q-star 1": "no critical point",
    "critical --activation softplus": "softplus has no critical point: χ_1 = 1 would need σ_b² < 0",
    "critical --activation nope": "no activation is named 'nope'; known: linear",
    "theory --activation tanh --depth 100000000": "at most 100,000",
    "theory --activation tanh --depth 3 --residual 0,0": "forgets its input",
    "critical --activation tanh --sigma-b 0.1 --q-star 1": "each fix the other",
    "critical --activation relu --sigma-b 0.5": "critical",
    "phase --activation tanh": "say where the diagram goes",
    "phase --activation tanh --json - --points 1": "1",
    "phase --activation tanh --json - --points 1000000": "2<=x<=400",
    "phase --activation tanh --json - --sigma-w 2,1": "--sigma-w is 2,1: give an increasing range",
    "phase --activation tanh --json - --sigma-w nan,1": "--sigma-w is nan,1",
    "phase --activation tanh --json - --sigma-w 1,inf": "--sigma-w is 1,inf",
    "phase --activation tanh --json - --sigma-b -1,1": "--sigma-b is -1,1",
}


@pytest.mark.parametrize("asked", ["critical", "theory --depth 3", "phase --json -"])
def test_no_callable_is_offered_where_none_can_be_given(isometry, asked):
    ended = ask(isometry, f"{asked} --activation zzz")
    assert ended.code == 2
    assert "no activation is named 'zzz'" in ended.err
    assert "callable" not in ended.err


@pytest.mark.parametrize("asked", BAD)
def test_bad_questions_get_one_clear_line(isometry, asked):
    ended = ask(isometry, asked)
    assert ended.code == 2
    assert BAD[asked] in ended.err
    assert (ended.out, ended.changed) == ("", [])
    assert ended.err.count("\n") == 1
