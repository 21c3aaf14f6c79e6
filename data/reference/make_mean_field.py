"""Make ``mean_field_10_1.json``: mean-field fixed points and critical points, by mpmath alone.

Run ``python data/reference/make_mean_field.py`` to write the file beside this script (a few
minutes), or with ``--check`` to compare the file that is there with what would be written.
Nothing of the package is used: the activations are written out again, integrals are
Gauss-Legendre sums in extended precision, chi_q is a numerical derivative of the q-map, and
pairs of neurons are double integrals.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import mpmath
import numpy as np
from mpmath import mp, mpf

TARGET = Path(__file__).resolve().parent / "mean_field_10_1.json"
DIGITS = 15
POINTS = 24  # Gauss-Legendre nodes on a panel of length 1

SELU_SCALE = "1.0507009873554804934193349852946"
SELU_ALPHA = "1.6732632423543772848170429916717"


class Phi(NamedTuple):
    """An activation: the function, its slope, its kinks, whether it is odd."""

    f: Callable
    d: Callable
    kinks: tuple = ()
    odd: bool = False


def pdf(x):
    """Standard Gaussian density."""
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def cdf(x):
    """Standard Gaussian distribution function."""
    return mp.erfc(-x / mp.sqrt(2)) / 2


def sig(x):
    """Logistic function."""
    return 1 / (1 + mp.exp(-x))


def leaky(a):
    """Slope 1 above 0 and a below."""
    return Phi(lambda x: x if x > 0 else a * x, lambda x: mpf(1) if x > 0 else mpf(a), (0,))


def exponential(scale, alpha):
    """ELU and SELU."""
    return Phi(
        lambda x: scale * (x if x > 0 else alpha * mp.expm1(x)),
        lambda x: scale * (1 if x > 0 else alpha * mp.exp(x)),
        (0,),
    )


def sech2(x):
    """1 / cosh^2."""
    return 1 / mp.cosh(x) ** 2


def activations() -> dict[str, Phi]:
    """By the names of the package."""
    half = mp.sqrt(mp.pi) / 2
    return {
        "linear": Phi(lambda x: x, lambda x: mpf(1), (), True),
        "relu": leaky(0),
        "leaky_relu(0.2)": leaky(mpf(1) / 5),
        "tanh": Phi(mp.tanh, sech2, (), True),
        "erf": Phi(mp.erf, lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x), (), True),
        "scaled_erf": Phi(
            lambda x: mp.erf(half * x), lambda x: mp.exp(-((half * x) ** 2)), (), True
        ),
        "hard_tanh": Phi(
            lambda x: max(mpf(-1), min(mpf(1), x)), lambda x: mpf(abs(x) < 1), (-1, 1), True
        ),
        "sin": Phi(mp.sin, mp.cos, (), True),
        "gelu": Phi(lambda x: x * cdf(x), lambda x: cdf(x) + x * pdf(x)),
        "silu": Phi(lambda x: x * sig(x), lambda x: sig(x) * (1 + x * sig(-x))),
        "elu": exponential(mpf(1), mpf(1)),
        "selu": exponential(mpf(SELU_SCALE), mpf(SELU_ALPHA)),
        "softplus": Phi(lambda x: mp.log1p(mp.exp(x)), sig),
    }


@lru_cache(maxsize=4)
def legendre(digits):
    """Nodes and weights on [-1, 1], polished by Newton from float64."""
    nodes, weights = [], []
    for start in np.polynomial.legendre.leggauss(POINTS)[0]:
        x = mpf(float(start))
        for _ in range(5):
            p0, p1 = mpf(1), x
            for k in range(2, POINTS + 1):
                p0, p1 = p1, ((2 * k - 1) * x * p1 - (k - 1) * p0) / k
            slope = POINTS * (x * p1 - p0) / (x * x - 1)
            x -= p1 / slope
        nodes.append(x)
        weights.append(2 / ((1 - x * x) * slope**2))
    return nodes, weights


def rule(breaks, limit):
    """Nodes z and weights w dz pdf(z) on panels of length 1 that also end at the breaks."""
    ends = {mpf(k) for k in range(-limit, limit + 1)} | {b for b in breaks if abs(b) < limit}
    ends = sorted(ends)
    nodes, weights = legendre(mp.dps)
    out = []
    for a, b in pairwise(ends):
        for x, w in zip(nodes, weights, strict=True):
            z = (a + b) / 2 + (b - a) / 2 * x
            out.append((z, (b - a) / 2 * w * pdf(z)))
    return out


@lru_cache(maxsize=4)
def plain(limit, digits):
    """The rule without breaks."""
    return rule((), limit)


def average(g, q, kinks):
    """E g(sqrt(q) z)."""
    s = mp.sqrt(q)
    nodes = rule([k / s for k in kinks], 16) if kinks else plain(16, mp.dps)
    return mp.fsum(w * g(s * z) for z, w in nodes)


def moment(phi, q):
    """E phi^2."""
    return average(lambda x: phi.f(x) ** 2, q, phi.kinks)


def mu(phi, q, k=1):
    """E phi'^(2k)."""
    return average(lambda x: phi.d(x) ** (2 * k), q, phi.kinks)


def pair(g, phi, q, c):
    """E g(u1) g(u2) as a double integral, u2 given u1; half of it where g is even or odd."""
    s, r = mp.sqrt(q), mp.sqrt(1 - c * c)
    outer = rule([k / s for k in phi.kinks], 9) if phi.kinks else plain(9, mp.dps)
    total = []
    for z, w in outer:
        if phi.odd and z < 0:
            continue
        breaks = [(k / s - c * z) / r for k in phi.kinks]
        inner = rule(breaks, 9) if breaks else plain(9, mp.dps)
        value = mp.fsum(v * g(s * (c * z + r * y)) for y, v in inner)
        total.append((2 if phi.odd else 1) * w * g(s * z) * value)
    return mp.fsum(total)


def root(g, low, high):
    """The zero of g between two points of opposite sign, by the Illinois rule."""
    a, b = mpf(low), mpf(high)
    ga, gb = g(a), g(b)
    if ga * gb > 0:
        raise ValueError("no change of sign")
    for _ in range(100):
        c = b - gb * (b - a) / (gb - ga)
        gc = g(c)
        if abs(c - b) < mpf(10) ** (4 - mp.dps) * (1 + abs(c)) or gc == 0:
            return c
        if gc * gb < 0:
            a, ga = b, gb
        else:
            ga /= 2
        b, gb = c, gc
    raise ValueError("no convergence")


def text(x):
    """A number as its first digits."""
    return mp.nstr(x, DIGITS, strip_zeros=False)


def at_critical(phi, q):
    """sigma_w^2 and sigma_b^2 of the critical point with that q*."""
    weight = 1 / mu(phi, q)
    return weight, q - weight * moment(phi, q)


def critical_row(name, phi, q):
    """One row of both tables of the critical line."""
    weight, bias = at_critical(phi, q)
    return {
        "activation": name,
        "q_star": text(q),
        "sigma_w": text(mp.sqrt(weight)),
        "sigma_b": text(mp.sqrt(bias)) if bias >= 0 else None,
        "sigma_b_squared": text(bias),
        "mu_1": text(1 / weight),
        "lambda_orthogonal": text(mu(phi, q, 2) * weight**2 - 1),
    }


def critical_at_bias(name, phi, sigma_b):
    """The critical point with that sigma_b."""
    target = mpf(sigma_b) ** 2
    q = mp.exp(root(lambda s: at_critical(phi, mp.exp(s))[1] - target, mp.log("1e-3"), mp.log(50)))
    return critical_row(name, phi, q) | {"sigma_b": sigma_b}


def fixed_point(name, phi, sigma_w, sigma_b):
    """One row of the table off the critical line."""
    weight, bias = mpf(sigma_w) ** 2, mpf(sigma_b) ** 2

    def excess(s):
        return mp.log((weight * moment(phi, mp.exp(s)) + bias) / mp.exp(s))

    q = mp.exp(root(excess, mp.log("1e-3"), mp.log(100)))
    chi_q = weight * mp.diff(lambda x: moment(phi, x), q)
    chi_1 = weight * mu(phi, q)
    c, chi_c = mpf(1), chi_1
    if chi_1 > 1:
        c, chi_c = correlated(phi, q, weight, bias)
    return {
        "activation": name,
        "sigma_w": sigma_w,
        "sigma_b": sigma_b,
        "q_star": text(q),
        "chi_q": text(chi_q),
        "chi_1": text(chi_1),
        "c_star": text(c),
        "chi_c": text(chi_c),
        "xi_q": text(-1 / mp.log(chi_q)),
        "xi_c": text(-1 / mp.log(chi_c)),
        "xi_gradient": text(1 / mp.log(chi_1)),
    }


def correlated(phi, q, weight, bias):
    """c* < 1 and the slope there, with fewer digits: double integrals are slow."""
    with mp.workdps(20):
        mean = average(phi.f, q, phi.kinks) if not phi.odd else mpf(0)
        c = mpf(0)
        if weight * mean**2 + bias > mpf(10) ** -17:
            c = root(lambda x: (weight * pair(phi.f, phi, q, x) + bias) / q - x, 0, "0.97")
        return c, weight * pair(phi.d, phi, q, c)


AT_BIAS = ("tanh", "erf", "scaled_erf", "hard_tanh", "sin")
BIASES = ("0.01", "0.05", "0.1", "0.2", "0.3", "0.5")
AT_VARIANCE = (*AT_BIAS, "gelu", "silu", "selu", "elu", "softplus")
VARIANCES = ("0.01", "0.1", "0.5", "1.0", "2.0", "5.0")
OFF_CRITICAL = (
    *[("tanh", w, b) for w, b in (("1.0", "0.1"), ("1.0", "0.5"), ("1.3", "0.3"))],
    *[("tanh", w, b) for w, b in (("1.5", "0.05"), ("2.0", "0.2"), ("2.5", "0.3"), ("4.0", "0.3"))],
    *[("erf", "0.8", "0.1"), ("erf", "1.5", "0.3"), ("scaled_erf", "1.5", "0.3")],
    *[("hard_tanh", w, b) for w, b in (("1.0", "0.3"), ("1.5", "0.3"), ("2.0", "0.1"))],
    *[("relu", "1.0", "0.5"), ("relu", "1.3", "0.1"), ("gelu", "1.3", "0.1")],
    *[("silu", "1.3", "0.1"), ("selu", "1.0", "0.0"), ("selu", "0.9", "0.1")],
    *[("sin", "1.5", "0.2"), ("leaky_relu(0.2)", "1.2", "0.1"), ("elu", "1.0", "0.1")],
    ("linear", "0.9", "0.1"),
)


def critical_tables() -> dict[str, list]:
    """Both tables, with more digits: hard tanh at q* = 0.01 has sigma_b^2 = 1.5e-25."""
    with mp.workdps(50):
        phi = activations()
        return {
            "critical_at_sigma_b": [
                critical_at_bias(n, phi[n], b) for n in AT_BIAS for b in BIASES
            ],
            "critical_at_q_star": [
                critical_row(n, phi[n], mpf(q)) for n in AT_VARIANCE for q in VARIANCES
            ],
        }


def content() -> str:
    """The whole file."""
    mp.dps = 30
    phi = activations()
    tables = {
        "what": "Mean-field theory of fully connected networks: the critical line chi_1 = 1 and "
        "fixed points off it. sigma_w and sigma_b are standard deviations.",
        "how": "Extended precision by mpmath, apart from the package; see make_mean_field.py.",
        "columns": {
            "q_star": "variance of the pre-activations h at the fixed point",
            "mu_1": "E phi'(h)^2",
            "lambda_orthogonal": "E phi'(h)^4 / mu_1^2 - 1",
            "sigma_b_squared": "negative where there is no critical point",
            "chi_q, chi_1, chi_c": "slopes of the q-map at q*, of the c-map at 1 and at c*",
            "xi_q, xi_c": "-1 / log chi_q, -1 / log chi_c",
            "xi_gradient": "1 / log chi_1",
        },
        **critical_tables(),
        "fixed_points": [fixed_point(n, phi[n], w, b) for n, w, b in OFF_CRITICAL],
    }
    return json.dumps(tables, indent=1) + "\n"


def main() -> int:
    """Write the file, or compare it with ``--check``; the exit status is 1 if it differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    made = content()
    if not check:
        TARGET.write_text(made, encoding="utf-8")
        print(f"{TARGET.name}: {len(made)} bytes, mpmath {mpmath.__version__}")
        return 0
    same = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == made
    print(f"{TARGET.name}: {'same' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
