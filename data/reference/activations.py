"""Activations in arbitrary precision, and the laws of their slopes."""

from chains import atoms, even, normal_mean, split
from mpmath import mp, mpf


def tanh_slope(x):
    """φ' of tanh."""
    return mp.sech(x) ** 2


def scaled_erf_slope(x):
    """φ' of erf(√π x / 2)."""
    return mp.exp(-mp.pi * x**2 / 4)


def gelu_slope(x):
    """φ' of x Φ(x)."""
    return mp.ncdf(x) + x * mp.npdf(x)


def slopes(activation, q):
    """The law of φ'(h)², h ~ N(0, q)."""
    q = mpf(q)
    if activation in ("linear", "relu"):
        return atoms(1 if activation == "linear" else mpf(1) / 2)
    if activation == "hard_tanh":
        return atoms(mp.erf(1 / mp.sqrt(2 * q)))
    if activation == "tanh":
        return even(tanh_slope, q, "0.03")
    if activation == "scaled_erf":
        return even(scaled_erf_slope, q, "0.0125")
    return split(gelu_slope, q, "0.027", mp.findroot(gelu_slope, -0.75), mp.sqrt(2))


def slope_of_one(activation, q, scale):
    """Mass where σ_w² φ'(h)² > 1 and the density of log σ_w² φ'(h)² at 0, h ~ N(0, q)."""
    slope, bracket = {
        "tanh": (tanh_slope, (0, 30)),
        "scaled_erf": (scaled_erf_slope, (0, 30)),
        "gelu": (gelu_slope, (-0.5, 1.4)),  # φ' > 1/σ_w from there on
    }[activation]

    def log_x(h):
        return mp.log(scale) + 2 * mp.log(slope(h))

    h = mp.findroot(log_x, bracket, solver="anderson", tol=1e-50)
    u = h / mp.sqrt(q)
    mass = mp.ncdf(-u) if activation == "gelu" else 2 * mp.ncdf(u) - 1
    density = mp.npdf(u) / mp.sqrt(q) / abs(mp.diff(log_x, h))
    return mass, density * (1 if activation == "gelu" else 2)


def squared(activation, q):
    """E φ(h)², h ~ N(0, q)."""
    if activation == "linear":
        return q
    if activation == "relu":
        return q / 2
    if activation == "hard_tanh":
        # by parts: q P(|h| < 1) - √(2q/π) e^(-1/2q) + P(|h| > 1)
        inside = mp.erf(1 / mp.sqrt(2 * q))
        return q * inside - mp.sqrt(2 * q / mp.pi) * mp.exp(-1 / (2 * q)) + 1 - inside
    phi = mp.tanh if activation == "tanh" else lambda x: mp.erf(mp.sqrt(mp.pi) * x / 2)
    return normal_mean(lambda u: phi(mp.sqrt(q) * u) ** 2)
