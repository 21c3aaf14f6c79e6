"""Recompute the tables of limiting laws beside this file, apart from `isometry.laws`.

Run from anywhere: ``python data/reference/make_laws.py [--only 10_2]``. Everything but 10_6, which
draws random networks, is arbitrary-precision arithmetic and gives the same digits everywhere.
"""

import itertools
import json
from pathlib import Path

import click
from activations import slope_of_one, slopes, squared, tanh_slope
from chains import Chain, LogMoments, normal_mean
from mpmath import mp, mpf
from mpmath.calculus.quadrature import GaussLegendre
from networks import statistics
from residuals import Residual, universal_variance

_HERE = Path(__file__).parent
_DIGITS = 15
_DEPTHS = (1, 2, 3, 10, 100, 1000, 10000)

_CHAINS = [  # activation, q, weights
    ("linear", "1", "gaussian"),
    ("relu", "1", "gaussian"),
    ("relu", "1", "orthogonal"),
    ("hard_tanh", "0.5", "gaussian"),
    ("hard_tanh", "0.5", "orthogonal"),
    ("tanh", "0.5", "gaussian"),
    ("tanh", "0.5", "orthogonal"),
    ("tanh", "0.01", "gaussian"),
    ("tanh", "0.01", "orthogonal"),
    ("scaled_erf", "0.5", "gaussian"),
    ("scaled_erf", "0.5", "orthogonal"),
    ("gelu", "5", "gaussian"),
    ("gelu", "5", "orthogonal"),
]
_SCORES = [
    ("linear", "1", "gaussian"),
    ("relu", "1", "gaussian"),
    ("relu", "1", "orthogonal"),
    ("hard_tanh", "0.15", "orthogonal"),
    ("tanh", "0.5", "gaussian"),
    ("tanh", "0.5", "orthogonal"),
    ("tanh", "0.01", "orthogonal"),
    ("tanh", "0.001", "orthogonal"),
]

_COLUMNS = {
    "q_star": "variance of the pre-activations; sigma_w^2 = 1 / E phi'(h)^2 there",
    "rank_fraction": "P(sigma > 0)",
    "m2_over_m1_squared": "E[sigma^4] / E[sigma^2]^2",
    "mean_log_sigma": "given sigma > 0",
    "std_log_sigma": "given sigma > 0",
    "max_log_sigma": "the largest log sigma of the support, an atom there included",
    "top_atom": "mass of the atom at max_log_sigma",
    "density_log_x_at_0": "density of log sigma^2 at sigma = 1, zeros included; null: no density",
    "mass_above_1": "P(sigma > 1), zeros included",
    "score": "E[sech(2 log sigma)], zeros contributing 0",
}
_HOW = (
    "Computed in arbitrary precision by data/reference/make_laws.py, apart from isometry.laws. "
    f"Numbers are strings of up to {_DIGITS} significant digits."
)


def digits(value):
    """A number as JSON keeps it: 0 for what rounding left of a zero, null for none."""
    if value is None:
        return None
    return "0" if abs(value) < mpf("1e-19") else mp.nstr(value, _DIGITS)


# quantities


def half_circle(order=2, panels=9):
    """Gauss–Legendre nodes (θ, weight) on (0, π), refined towards 0, in decreasing θ."""
    edges = [mp.pi / mpf(2) ** k for k in range(panels)] + [mpf(0)]
    nodes = []
    for high, low in itertools.pairwise(edges):
        middle, radius = (high + low) / 2, (high - low) / 2
        rule = GaussLegendre(mp).calc_nodes(order, mp.prec)
        nodes += [(middle + radius * x, radius * w) for x, w in rule]
    return sorted(nodes, reverse=True)


def mass_above_1(nodes, found):
    """P(x > 1) = -∫ Re t(exp iθ) dθ/π over (0, π), because t = d/dlog z of E log(1 - x/z)."""
    return -mp.fsum(w * t.real for (_, w), t in zip(nodes, found, strict=True)) / mp.pi


def score_of(chain):
    """I = -2 Im t(i)."""
    return -2 * chain.circle([3 * mp.pi / 4, mp.pi / 2])[-1][0].imag


def at_one(activation, q, chain):
    """P(x > 1) and the density of log x at 0."""
    if chain.depth == 1 and not chain.gaussian and not chain.slopes.exact:
        return slope_of_one(activation, mpf(q), mp.exp(chain.log_scale))
    nodes = half_circle()
    found = chain.circle([theta for theta, _ in nodes] + [mpf(0)])
    mass, density = chain.mass_above_1(*found[-1]), -found[-1][0].imag / mp.pi
    on_the_way = mass_above_1(nodes, [t for t, _ in found[:-1]])
    if abs(on_the_way - mass) > 1e-6:
        raise ArithmeticError(f"P(x > 1) is {mass} at the end and {on_the_way} on the way")
    return mass, None if chain.depth == 1 and not chain.gaussian else density


def chain_row(activation, q, weights, depth, law, moments):
    """One row of table 10.2."""
    scale, gaussian = 1 / law.mean(lambda d: d), weights == "gaussian"
    chain = Chain(law, scale, gaussian, depth)
    mass, density = at_one(activation, q, chain)
    spread = law.mean(lambda d: d**2) * scale**2 - (0 if gaussian else 1)
    atom = 1 - depth * law.zero if law.exact and not gaussian else 0
    variance = moments.variance(depth)
    return {
        "rank_fraction": digits(1 - law.zero),
        "m2_over_m1_squared": digits(depth * spread + 1),
        "mean_log_sigma": digits(moments.mean(depth, chain.log_scale) / 2),
        "std_log_sigma": digits(mp.sqrt(variance) / 2 if variance > 1e-18 else mpf(0)),
        "max_log_sigma": digits(chain.log_max() / 2),
        "top_atom": digits(mpf(max(atom, 0))),
        "density_log_x_at_0": digits(density),
        "mass_above_1": digits(mass),
        "score": digits(score_of(chain)),
    }


# tables


def table_10_2():
    """Square chains at the critical scale."""
    rows = []
    for activation, q, weights in _CHAINS:
        law = slopes(activation, q)
        moments = LogMoments(law, weights == "gaussian")
        for depth in _DEPTHS:
            head = {"activation": activation, "q_star": q, "weights": weights, "depth": depth}
            rows.append(head | chain_row(activation, q, weights, depth, law, moments))
            click.echo(f"10_2: {activation} {q} {weights} {depth}")
    what = "Limiting laws of singular values of square chains at the critical scale."
    return {"what": what, "how": _HOW, "columns": _COLUMNS, "rows": rows}


def table_10_3():
    """tanh with orthogonal weights at the critical point of σ_b² = 2.01e-5 (Xiao et al. 2018)."""
    bias = mpf("2.01e-5")

    def excess(q):
        root = mp.sqrt(q)
        slope = normal_mean(lambda u: tanh_slope(root * u) ** 2)
        return normal_mean(lambda u: mp.tanh(root * u) ** 2) / slope + bias - q

    q = mp.findroot(excess, (mpf("0.025"), mpf("0.027")), solver="secant", tol=1e-50)
    law = slopes("tanh", q)
    scale, moments = 1 / law.mean(lambda d: d), LogMoments(law, gaussian=False)
    spread = law.mean(lambda d: d**2) * scale**2 - 1
    rows = []
    for depth in (10, 100, 1000, 10000):
        chain, growth = Chain(law, scale, False, depth), depth * spread
        rows.append(
            {
                "depth": depth,
                "Lambda": digits(growth),
                "mean_log_sigma": digits(moments.mean(depth, chain.log_scale) / 2),
                "std_log_sigma": digits(mp.sqrt(moments.variance(depth)) / 2),
                "max_log_sigma": digits(chain.log_max() / 2),
                "smooth_mean_log_sigma": digits(-growth / 4),
                "smooth_std_log_sigma": digits(mp.sqrt(growth + growth**2 / 12) / 2),
            }
        )
    point = {"q_star": q, "sigma_w2": scale, "sigma_b2": bias, "spread": spread}
    return {
        "what": "tanh, orthogonal weights, at the critical point of sigma_b^2 = 2.01e-5.",
        "how": _HOW,
        "point": {key: digits(value) for key, value in point.items()},
        "columns": {
            "spread": "E phi'^4 / (E phi'^2)^2 - 1",
            "Lambda": "depth times spread: E[sigma^4] - 1",
            "smooth_*": "of the universal law of smooth activations with the same Lambda",
        },
        "rows": rows,
    }


def residual_row(c, depth, weights):
    """One row of table 10.4; the second moment is `c` = b² σ_w² p L."""
    branch = Residual(2 * c / depth, mpf(1) / 2, weights == "gaussian", depth)
    mean, variance = branch.log_moments()
    low, high = branch.log_edges()
    nodes = half_circle(order=3, panels=11)
    angles = [theta for theta, _ in nodes]
    if depth > 1:
        found = branch.circle([*angles, mpf(0)])
        mass, density = mass_above_1(nodes, found[:-1]), -found[-1].imag / mp.pi
    else:
        # J Jᵀ - 1 has as many positive as negative eigenvalues, by Sylvester's law of inertia;
        # the density of log x is singular there
        mass, density = mpf(1) / 2, None
    at_e = -branch.circle([*angles, mpf(0)], log_modulus=1)[-1].imag / mp.pi
    score = -2 * branch.circle([3 * mp.pi / 4, mp.pi / 2])[-1].imag
    return {
        "mean_log_sigma": digits(mean / 2),
        "std_log_sigma": digits(mp.sqrt(variance) / 2),
        "min_log_sigma": "-inf" if low == -mp.inf else digits(low / 2),
        "max_log_sigma": digits(high / 2),
        "density_log_x_at_0": digits(density),
        "density_log_x_at_1": digits(at_e),
        "mass_above_1": digits(mass),
        "score": digits(score),
    }


def table_10_4():
    """Residual layers I + b D W with free 0/1 masks."""
    rows = []
    for c in ("0.25", "1", "4"):
        for depth in (1, 4, 20, 100, 1000):
            for weights in ("gaussian", "orthogonal"):
                head = {"c": c, "depth": depth, "weights": weights}
                rows.append(head | residual_row(mpf(c), depth, weights))
            click.echo(f"10_4: c = {c}, {depth}")
    universal = {c: digits(mp.sqrt(universal_variance(mpf(c))) / 2) for c in ("0.25", "1", "4")}
    return {
        "what": "Chains of I + b D W, D^2 in {0, 1} with mass 1/2 each, sigma_w^2 = 2, b^2 = c/L, "
        "all factors free.",
        "how": _HOW,
        "universal_std_log_sigma": universal,
        "columns": _COLUMNS
        | {"density_log_x_at_1": "density of log sigma^2 where it is 1", "c": "b^2 L"},
        "rows": rows,
    }


def table_10_5():
    """Isometry scores."""
    depths = (1, 3, 10, 100, 1000, 10000)
    rows = []
    for activation, q, weights in _SCORES:
        law = slopes(activation, q)
        scale = 1 / law.mean(lambda d: d)
        chains = {L: Chain(law, scale, weights == "gaussian", L) for L in depths}
        scores = {str(L): digits(score_of(chain)) for L, chain in chains.items()}
        rows.append({"activation": activation, "q_star": q, "weights": weights, "scores": scores})
        click.echo(f"10_5: {activation} {q} {weights}")
    for c in ("0.25", "1", "4"):
        chains = {L: Residual(2 * mpf(c) / L, mpf(1) / 2, True, L) for L in depths}
        scores = {
            str(L): digits(-2 * chain.circle([3 * mp.pi / 4, mp.pi / 2])[-1].imag)
            for L, chain in chains.items()
        }
        rows.append({"residual_c": c, "weights": "gaussian", "scores": scores})
    return {
        "what": "Isometry score E[2 / (sigma^2 + sigma^-2)] by depth; zeros contribute 0.",
        "how": _HOW,
        "columns": {"residual_c": "c of table 10.4", "q_star": _COLUMNS["q_star"]},
        "rows": rows,
    }


def network(activation, weights, widths, q, point=None):
    """A network whose pre-activations have variance q; by default σ_w makes it critical."""
    if point is None:
        scale = 1 / slopes(activation, q).mean(lambda d: d)
        point = float(scale), float(max(mpf(q) - scale * squared(activation, mpf(q)), 0))
    return {
        "activation": activation,
        "weights": weights,
        "widths": widths,
        "sigma_w2": point[0],
        "sigma_b2": point[1],
        "q": float(q),
    }


def network_rows():
    """What table 10.6 draws: critical chains, square, rectangular and deep; others; branches."""
    both, n = ("gaussian", "orthogonal"), 300
    q = {"linear": "1", "relu": "1", "hard_tanh": "0.5", "tanh": "0.5", "scaled_erf": "0.5"}
    uneven = ([400, 600, 500, 200], [400, 300, 500, 600])
    square = itertools.product(("relu", "hard_tanh", "tanh", "scaled_erf"), both, (2, 3, 10, 30))
    rows = [network(phi, weights, [n] * (L + 1), q[phi]) for phi, weights, L in square]
    shapes = itertools.product(("linear", "relu", "tanh"), both, uneven)
    rows += [network(phi, weights, widths, q[phi]) for phi, weights, widths in shapes]
    rows += [network(phi, "orthogonal", [n] * 101, "0.01") for phi in ("tanh", "scaled_erf")]
    for weights, point in itertools.product(both, ((1.0, 0.09), (4.0, 0.04))):
        rows.append(network("tanh", weights, [n] * 11, fixed_point(*point), point))
    branches = itertools.product(((4, 1.0), (20, 1.0), (20, 0.25)), (*both, "two orthogonal"))
    for (depth, c), weights in branches:
        rows.append(
            {
                "weights": weights.removeprefix("two "),
                "widths": [n] * (depth + 1),
                "sigma_w2": 2.0,
                "branch_variance": c / depth,
                "two_weights": weights.startswith("two "),
            }
        )
    return [row | {"networks": 8, "seed": k} for k, row in enumerate(rows)]


def fixed_point(scale, bias):
    """q* of tanh."""
    with mp.workdps(20):
        q = mp.findroot(lambda q: scale * squared("tanh", q) + bias - q, (mpf("0.1"), mpf(5)))
    return digits(q)


def table_10_6():
    """Random networks; numbers that depend a little on the machine's linear algebra."""
    rows = []
    for row in network_rows():
        rows.append(row | {"measured": statistics(row)})
        click.echo(f"10_6: {row['seed']}")
    return {
        "what": "Finite random networks at their mean-field operating point.",
        "how": "Drawn by data/reference/networks.py from the seed of each row: the configuration "
        "is the reference. measured: mean and standard error over the networks of the row.",
        "rows": rows,
    }


TABLES = {
    "10_2": table_10_2,
    "10_3": table_10_3,
    "10_4": table_10_4,
    "10_5": table_10_5,
    "10_6": table_10_6,
}


def text(table):
    """JSON with one row a line."""
    head = json.dumps(table | {"rows": []}, indent=1, ensure_ascii=False)
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in table["rows"])
    return head.replace('"rows": []', f'"rows": [\n{rows}\n ]') + "\n"


@click.command()
@click.option("--only", type=click.Choice(list(TABLES)), multiple=True, help="Only these tables.")
def main(only):
    """Write laws_*.json beside this file; about eight minutes on one core."""
    for name in only or TABLES:
        (_HERE / f"laws_{name}.json").write_text(text(TABLES[name]()), encoding="utf-8")


if __name__ == "__main__":
    main()
