"""The page on theory says what the code, the benchmarks and the examples say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from isometry.laws import chain_law

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/theory.md").read_text(encoding="utf-8")
FIGURES = sorted((ROOT / "examples/figures").glob("*.png"))
SCRIPTS = ("depth_scales", "pennington_2017", "tarnowski_2019", "universal_laws", "xiao_2018")


@pytest.fixture(autouse=True)
def examples_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def rows_below(header):
    """Cells of the Markdown table that has these words in its first row."""
    table = PAGE[PAGE.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_the_page_has_every_figure_and_figures_are_small():
    assert len(FIGURES) == 7
    for path in FIGURES:
        assert f"../examples/figures/{path.name}" in PAGE
        assert path.stat().st_size < 150_000
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_page_names_every_script_and_a_script_its_figures(script):
    assert f"examples/{script}.py" in PAGE
    text = (ROOT / f"examples/{script}.py").read_text(encoding="utf-8")
    assert [p.name for p in FIGURES if p.name.startswith(script) and script in text]


def test_every_block_of_code_shows_its_output():
    assert PAGE.count("```python\n") == PAGE.count("<!-- output -->") >= 10


def test_timings_on_the_page_are_those_of_the_benchmark():
    timings = json.loads((ROOT / "benchmarks/results/laws-cpu.json").read_text())["timings"]
    rows = rows_below("| law | seconds |")
    assert {row[0] for row in rows} == set(timings)
    for name, seconds, aim in rows:
        assert float(seconds) == pytest.approx(timings[name]["seconds"], rel=0.06)
        assert float(aim) == timings[name]["aim"]


def test_the_accuracy_on_the_page_is_that_of_the_benchmark():
    results = json.loads((ROOT / "benchmarks/results/laws-cpu.json").read_text())
    errors = results["largest relative difference from the reference"]
    (row,) = rows_below("| rank | E σ⁴")
    for shown, error in zip(row, errors.values(), strict=True):
        assert float(shown) == pytest.approx(error, rel=0.5)  # one digit
        assert error < 1e-8


def test_errors_on_the_page_are_those_of_the_benchmark():
    results = json.loads((ROOT / "benchmarks/results/laws-cpu.json").read_text())
    errors = results["largest error of the CDF"]
    rows = rows_below("| depth | random matrices |")
    assert [row[0] for row in rows] == list(errors)
    for depth, matrices, networks, seconds, _ in rows:
        assert float(matrices) == pytest.approx(errors[depth]["random matrices"], rel=0.06)
        assert float(networks) == pytest.approx(errors[depth]["networks"], rel=0.06)
        assert float(seconds) == pytest.approx(errors[depth]["seconds"], rel=0.06)


def test_no_equation_or_section_of_a_paper_is_cited_by_its_number():
    assert not re.search(r"\b(eqs?|equations?|theorem|sec)\b\.? ?\(?\d", PAGE, re.IGNORECASE)


def test_every_work_that_is_cited_is_in_the_references():
    text, references = PAGE.split("## References")
    cited = re.findall(r"([A-Z][a-zż]+)(?: et al\.| and [A-Z][a-z]+)? (?:\()?((?:19|20)\d\d)", text)
    assert len(cited) >= 8
    for author, year in cited:
        entry = [e for e in references.split("\n- ") if author in e]
        assert any(year in e for e in entry), f"{author} {year}"


def test_random_networks_of_the_examples_follow_their_law_and_not_another():
    from examples.random_networks import Recipe, chains, distance

    found = chains(Recipe("relu", "gaussian", 3, 2**0.5, 0.0, 1.0), 300, 3, seed=0)
    right = chain_law("gaussian", 3, 3, log_scale=1.5 * np.log(2))
    assert distance(found, right) < 0.5 / 300**0.5
    for wrong in (
        chain_law("orthogonal", 3, 3, log_scale=1.5 * np.log(2)),
        chain_law("gaussian", 3, 0),
    ):
        assert distance(found, wrong) > 2 * 0.5 / 300**0.5


def test_zeros_of_a_network_are_compared_with_zeros_of_the_law():
    from examples.random_networks import distance

    half = np.concatenate([np.zeros(50), np.ones(50)])
    assert distance([half], chain_law("orthogonal", 1, 1)) < 1e-12
    assert distance([half], chain_law("orthogonal", 1, 1, rank_fraction=0.25)) == pytest.approx(
        0.25
    )


def test_depth_scales_fitted_to_theory_come_back():
    from examples.depth_scales import Decay, fitted_scale

    layers = np.arange(30)
    exact = np.exp(-layers / 4.0)
    decay = Decay(exact, exact, np.full(30, 1e-3))
    assert decay.seen == np.argmax(exact < 3e-3)
    assert fitted_scale(decay, decay.measured) == pytest.approx(4.0, rel=1e-9)
    other = Decay(exact, np.exp(-layers / 5.0), np.full(30, 1e-3))
    assert fitted_scale(other, other.measured) == pytest.approx(5.0, rel=1e-9)


def test_lengths_and_angles_in_small_networks_decay_as_the_figure_says():
    from examples.depth_scales import decays

    found = decays(1.0, n=200, draws=8, depth=8)
    for decay in found.values():
        seen = decay.seen
        assert seen >= 3
        apart = np.abs(decay.measured - decay.theory)[:seen]
        assert np.all(apart < 4 * decay.error[:seen] + 0.05 * decay.theory[:seen])
    assert not np.allclose(found["length"].theory, found["correlation"].theory, rtol=0.2)


def test_fourier_modes_of_small_networks_decay_as_the_figure_says():
    from examples.xiao_2018 import PROFILES, decay

    for profile in ("uniform", "delta"):
        found = decay(PROFILES[profile], channels=60, draws=12)
        first = np.abs(found.measured - found.theory)[1]
        assert np.all(first < 4.5 * found.error[1])
    # a uniform kernel of three taps leaves a third of the fastest mode, a delta kernel all of it
    assert found.theory[1].min() > 0.85
    assert decay(PROFILES["uniform"], 20, 2).theory[1, -1] < 0.35


def test_masks_before_the_weight_part_from_the_free_product_and_masks_after_it_do_not():
    from examples.random_networks import distance
    from examples.tarnowski_2019 import dyson, networks, product

    depth, b = 4, 0.5**0.5
    law = product(depth, b)
    after = networks("relu", "after", depth, b, 200, 4)
    before = networks("relu", "before", depth, b, 200, 4)
    assert distance([f.sigma for f in after], law) < 0.015
    assert distance([f.sigma for f in before], law) > 0.03
    one = before[0]
    assert distance([one.sigma], dyson(one, b, "before")) < 0.02


def test_networks_of_the_universal_laws_have_the_variance_that_they_should():
    from examples.universal_laws import LIMITS, VARIANCE, law, recipe

    for name, limit in LIMITS.items():
        first, second = limit.moments(2)
        assert (first, second) == pytest.approx((1.0, 1.0 + VARIANCE), rel=1e-6)
        r = recipe(name, 64)
        m = law(r).moments(2)
        assert m == pytest.approx([1.0, 1.0 + VARIANCE], rel=1e-9)
