"""The laws against tables that a computation apart from this package has made."""

import functools
import itertools

import numpy as np
import pytest

from isometry.distance import kolmogorov_smirnov
from isometry.laws import (
    Diagonal,
    Gaussian,
    Isometry,
    PushforwardLaw,
    Residual,
    chain_law,
    free_product,
)
from isometry.meanfield import activation, slope_law

EXACT = 1e-9  # relative; the tables have 15 digits


@functools.cache
def slopes(name, q):
    return slope_law(name, q)


def weight(ensemble, variance, rows=1, columns=1):
    if ensemble == "gaussian":
        return Gaussian(rows, columns, variance)
    return Isometry(rows, columns, scale=np.sqrt(variance * max(1.0, rows / columns)))


@functools.cache
def chain(name, q, ensemble, depth):
    """Square layers at the critical scale, their pre-activations of variance q."""
    values, masses = slopes(name, q)
    variance = 1.0 / (values @ masses)
    if depth == 1 and ensemble == "orthogonal":
        phi, root = activation(name), np.sqrt(q)
        return PushforwardLaw(
            lambda z: np.sqrt(variance) * np.abs(phi.derivative(root * z)),
            [kink / root for kink in phi.kinks],
        )
    return free_product([(weight(ensemble, variance), depth), (Diagonal(values, masses), depth)])


@functools.cache
def residual(c, ensemble, depth):
    """Layers I + b D W with half of D zero, σ_w² = 2 and b² = c / depth."""
    layer = Residual(1.0, np.sqrt(c / depth), [0.0, 1.0], [0.5, 0.5], ensemble, 2.0)
    return free_product([(layer, depth)])


def of_row(row, depth):
    if "residual_c" in row or "c" in row:
        return residual(float(row.get("c") or row["residual_c"]), row["weights"], depth)
    return chain(row["activation"], float(row["q_star"]), row["weights"], depth)


def highest(law):
    """The largest log σ, of the continuous part or of an atom, and the mass of that atom."""
    atoms = {np.log(atom.sigma): atom.mass for atom in law.atoms if atom.sigma > 0}
    top = max([law.support[1], *atoms])
    return top, sum(mass for at, mass in atoms.items() if abs(at - top) < 1e-12)


def kurtosis(law):
    m1, m2 = law.moments(2)
    return m2 / m1**2


COLUMNS = {
    "rank_fraction": lambda law: 1.0 - float(law.cdf(-np.inf)),
    "m2_over_m1_squared": kurtosis,
    "mean_log_sigma": lambda law: law.mean_log_sigma,
    "std_log_sigma": lambda law: law.std_log_sigma,
    "min_log_sigma": lambda law: law.support[0],
    "max_log_sigma": lambda law: highest(law)[0],
    "top_atom": lambda law: highest(law)[1],
    "density_log_x_at_0": lambda law: 0.5 * float(law.density(0.0)),
    "density_log_x_at_1": lambda law: 0.5 * float(law.density(0.5)),
    "mass_above_1": lambda law: 1.0 - float(law.cdf(0.0)),
    "score": lambda law: law.score,
}


def agree(law, row, *, but=()):
    for key, measure in COLUMNS.items():
        if row.get(key) is not None and key not in but:
            printed = pytest.approx(float(row[key]), rel=EXACT, abs=1e-12)
            assert measure(law) == printed, key


# the tables


def test_every_square_chain_has_its_printed_numbers(row):
    agree(of_row(row, row["depth"]), row)


def test_the_closed_forms_have_the_same_numbers(tables):
    rows = [r for r in tables("10_2")["rows"] if r["activation"] in ("linear", "relu")]
    assert len(rows) == 21
    for row in rows:
        relu, depth = row["activation"] == "relu", row["depth"]
        scale = 0.5 * depth * np.log(2.0) if relu else 0.0
        law = chain_law(row["weights"], depth, depth if relu else 0, log_scale=scale)
        agree(law, row, but=["m2_over_m1_squared"])


def test_the_deep_tanh_chain_has_its_printed_numbers(deep_row, tables):
    point = {key: float(value) for key, value in tables("10_3")["point"].items()}
    law = chain("tanh", point["q_star"], "orthogonal", deep_row["depth"])
    agree(law, deep_row)
    values, masses = slopes("tanh", point["q_star"])
    assert 1 / (values @ masses) == pytest.approx(point["sigma_w2"], rel=EXACT)
    assert kurtosis(law) - 1 == pytest.approx(float(deep_row["Lambda"]), rel=EXACT)


def test_every_residual_chain_has_its_printed_numbers(residual_row):
    law, singular = of_row(residual_row, residual_row["depth"]), residual_row["depth"] == 1
    agree(law, residual_row, but=["mass_above_1"] if singular else [])
    if singular:  # the density at σ = 1 is infinite
        below, above = law.cdf([-1e-6, 1e-6])
        assert below < 1 - float(residual_row["mass_above_1"]) <= above + 1e-9 < below + 1e-3


def test_every_score_is_the_printed_one(score_row):
    assert len(score_row["scores"]) == 6
    for depth, printed in score_row["scores"].items():
        law = of_row(score_row, int(depth))
        assert law.score == pytest.approx(float(printed), rel=EXACT), depth


def test_a_law_of_other_weights_or_depth_has_other_numbers(tables):
    for row in tables("10_2")["rows"]:
        if row["activation"] == "tanh" and row["q_star"] == "0.5" and row["depth"] in (3, 10):
            other = "orthogonal" if row["weights"] == "gaussian" else "gaussian"
            for law in (of_row(row, row["depth"] + 1), of_row(row | {"weights": other}, 3)):
                printed = float(row["score"])
                assert law.score != pytest.approx(printed, rel=1e-2)


# the tables themselves


def test_the_tables_have_every_depth_of_every_chain(tables):
    chains = {}
    for row in tables("10_2")["rows"]:
        chain_ = row["activation"], row["q_star"], row["weights"]
        chains.setdefault(chain_, []).append(row["depth"])
    assert len(chains) == 13
    assert all(depths == [1, 2, 3, 10, 100, 1000, 10000] for depths in chains.values())
    assert [len(tables(t)["rows"]) for t in ("10_3", "10_4", "10_5", "10_6")] == [4, 30, 11, 59]


def test_the_tables_have_the_digits_of_the_closed_forms(tables):
    for row in tables("10_2")["rows"]:
        L, gaussian = row["depth"], row["weights"] == "gaussian"
        if row["activation"] == "linear":  # Fuss–Catalan
            expected = {
                "mean_log_sigma": -L / 2,
                "std_log_sigma": 0.5 * np.sqrt(L**2 + L * np.pi**2 / 3),
                "max_log_sigma": 0.5 * (np.log(L) + (L + 1) * np.log1p(1 / L)),
            }
        elif row["activation"] == "relu" and not gaussian and L > 1:
            expected = {
                "mean_log_sigma": (1 - L / 2) * np.log(2),
                "max_log_sigma": 0.5 * (np.log(L) - (L - 1) * np.log1p(-1 / L)),
            }
        else:
            continue
        for key, value in expected.items():
            assert float(row[key]) == pytest.approx(value, rel=1e-13, abs=1e-13), key


def test_the_scripts_recompute_their_rows(recompute, tables):
    chains, branches = recompute("chains"), recompute("residuals")
    found = chains.Chain(chains.atoms("0.5"), 2, gaussian=False, depth=3)
    t, zeta = found.circle([2, 1, 0.5, 0.2, 0.1, 0])[-1]
    (row,) = (
        r
        for r in tables("10_2")["rows"]
        if (r["activation"], r["weights"], r["depth"]) == ("relu", "orthogonal", 3)
    )
    assert float(found.mass_above_1(t, zeta)) == pytest.approx(
        float(row["mass_above_1"]), rel=1e-13
    )
    assert float(found.log_max()) / 2 == pytest.approx(float(row["max_log_sigma"]), rel=1e-13)
    layer = branches.Residual("0.5", "0.5", gaussian=True, depth=4)
    (row,) = (
        r
        for r in tables("10_4")["rows"]
        if (r["c"], r["depth"], r["weights"]) == ("1", 4, "gaussian")
    )
    top = float(layer.log_edges()[1]) / 2
    assert top == pytest.approx(float(row["max_log_sigma"]), rel=1e-13)


# random networks


def predicted(row):
    """The law of a network of table 10.6."""
    depth = len(row["widths"]) - 1
    if "branch_variance" in row:
        return residual(row["branch_variance"] * depth, row["weights"], depth)
    values, masses = slopes(row["activation"], row["q"])
    factors = []
    for columns, rows in itertools.pairwise(row["widths"]):
        factors.append((weight(row["weights"], row["sigma_w2"], rows, columns), 1))
        factors.append((Diagonal(values, masses, rows), 1))
    return free_product(factors)


def test_random_networks_have_the_predicted_score(network_row):
    mean, error = network_row["measured"]["score"]
    slack = 4 * error + 1 / min(network_row["widths"])
    assert predicted(network_row).score == pytest.approx(mean, abs=slack)


def distance(row, networks, law):
    """Of some networks of a row together; few where slopes are smooth and fluctuate little."""
    smooth = row.get("activation") in ("tanh", "scaled_erf")
    sigma = np.concatenate([networks.singular_values(row, k) for k in range(2 if smooth else 8)])
    with np.errstate(divide="ignore"):
        log_sigma = np.log(sigma)
    # a network's rank is the lowest of its layers' counts of live units, a little below the
    # law's at finite width: what is smaller than this floor is one mass
    masses, floor = np.full(sigma.size, 1 / sigma.size), -4.0
    return kolmogorov_smirnov(log_sigma, masses, law, floor=floor, atom_width=1e-6)


def another(row):
    """A law that the row's networks do not have."""
    if "branch_variance" in row:
        return predicted(row | {"branch_variance": 1.5 * row["branch_variance"]})
    other = {"gaussian": "orthogonal", "orthogonal": "gaussian"}
    return predicted(row | {"weights": other[row["weights"]]})


def test_random_networks_follow_their_law_and_no_other(shallow_row, recompute):
    networks, limit = recompute("networks"), 0.5 / np.sqrt(min(shallow_row["widths"]))
    assert distance(shallow_row, networks, predicted(shallow_row)) < limit
    assert distance(shallow_row, networks, another(shallow_row)) > limit
