"""Chains of square layers D W in arbitrary precision, apart from `isometry.laws`.

X = J Jᵀ with J = D_L W_L … D_1 W_1, and t(z) = lim (1/n) Tr X (z - X)^-1. The law of d = φ'(h)² is
E f(d) = ∫ f(φ'(√q u)²) e^(-u²/2)/√(2π) du, taken by the trapezoidal rule, which converges
exponentially for analytic φ'. Multiplicativity of the S-transform, with ζ as the only unknown:

    t = E[d / (ζ - d)],
    z = (σ_w² ζ)^L t^(L-1) (1 + t)           Gaussian weights, entries N(0, σ_w²/n),
    z = (σ_w² ζ)^L (t / (1 + t))^(L-1)       σ_w times Haar orthogonal weights.

For z in the upper half plane ζ lies there too and t in the lower one; y = log(-ζ) has its
imaginary part in [-π, 0]. On the negative axis all is real and monotone, and from there
z = exp(iθ) goes round the unit circle to z = 1.
"""

from typing import NamedTuple

from mpmath import mp, mpc, mpf

mp.dps = 30

_REACH = 10  # of the Gaussian integrals: P(|u| > 10) = 1.5e-23
_SETTLED = mpf(10) ** (6 - mp.dps)


class Slopes(NamedTuple):
    """The law of d = φ'(h)² for h ~ N(0, q), as weighted nodes."""

    values: list  # d > 0
    weights: list
    zero: mpf  # P(d = 0)
    top: mpf  # the supremum of d
    exact: bool  # atoms, not the nodes of a quadrature

    def mean(self, function):
        """E f(d) over d > 0."""
        return mp.fsum(w * function(d) for d, w in zip(self.values, self.weights, strict=True))

    def transform(self, zeta):
        """t = E d/(ζ - d) and dt/dlog ζ."""
        t, slope = mpf(0), mpf(0)
        for d, w in zip(self.values, self.weights, strict=True):
            inverse = 1 / (zeta - d)
            term = w * d * inverse
            t += term
            slope -= term * inverse
        return t, slope * zeta

    def check(self, zeta, t):
        """Dropping every second node takes the square root of the relative error of t."""
        if self.exact:
            return
        every_second = zip(self.values[::2], self.weights[::2], strict=True)
        coarse = mp.fsum(2 * w * d / (zeta - d) for d, w in every_second)
        if abs(coarse - t) > 1e-8 * abs(t):
            raise ArithmeticError(f"the quadrature is too coarse at ζ = {mp.nstr(zeta, 8)}")


def atoms(p):
    """d = 1 with probability p, else 0: linear (p = 1), ReLU, hard-tanh."""
    return Slopes([mpf(1)], [mpf(p)], 1 - mpf(p), mpf(1), exact=True)


def even(derivative, q, step):
    """φ' even, analytic, positive, largest at 0."""
    nodes = [k * mpf(step) for k in range(int(_REACH / mpf(step)) + 1)]
    values = [derivative(mp.sqrt(q) * u) ** 2 for u in nodes]
    weights = [mpf(step) * mp.npdf(u) * (2 if u else 1) for u in nodes]
    return Slopes(values, weights, mpf(0), values[0], exact=False)


def split(derivative, q, step, zero, top):
    """φ' with one zero: its neighbourhood is stretched, because log d is wide there."""
    k, root, step = 8, mp.sqrt(q), mpf(step)
    count = int((58 / k + _REACH * root + abs(zero)) / step) // 2 * 2
    values, weights = [], []
    for side in (-1, 1):
        for i in range(count):
            w = i * step - mpf(58) / k
            u = (zero + side * mp.log1p(mp.exp(k * w)) / k) / root
            values.append(derivative(root * u) ** 2)
            weights.append(step * mp.npdf(u) / root / (1 + mp.exp(-k * w)))
    return Slopes(values, weights, mpf(0), derivative(top) ** 2, exact=False)


def normal_mean(function, step="0.03"):
    """E f(u), u ~ N(0, 1), for an even analytic f."""
    nodes = [k * mpf(step) for k in range(int(_REACH / mpf(step)) + 1)]
    return mpf(step) * mp.fsum((2 if u else 1) * mp.npdf(u) * function(u) for u in nodes)


class Chain:
    """L layers D W, each with σ_w² = scale, Gaussian or orthogonal W."""

    def __init__(self, slopes, scale, gaussian, depth):
        self.slopes, self.gaussian, self.depth = slopes, gaussian, depth
        self.log_scale = mp.log(scale)

    def log_minus_z(self, y):
        """log(-z), its derivative in y = log(-ζ), and t."""
        t, slope = self.slopes.transform(-mp.exp(y))
        up = self.depth - 1
        down = 1 if self.gaussian else -up
        value = self.depth * (self.log_scale + y) + up * _upper_log(-t) + down * _lower_log(1 + t)
        return value, self.depth + slope * (up / t + down / (1 + t)), t

    def circle(self, angles):
        """(t, ζ) at z = exp(iθ) for decreasing angles θ in [0, π]; the last to full precision."""
        y, here, found = mpc(self.negative_axis()), +mp.pi, []
        for there in angles:
            y, t = self._move(y, here, there, _SETTLED if there == angles[-1] else mpf("1e-13"))
            here = there
            found.append((t, -mp.exp(y)))
        self.slopes.check(found[-1][1], found[-1][0])
        return found

    def negative_axis(self):
        """The real y at z = -1, where log(-z) increases with y."""
        low, high = mpf(-1), mpf(1)
        while self.log_minus_z(low)[0].real > 0:
            low *= 2
        while self.log_minus_z(high)[0].real < 0:
            high *= 2
        y = (low + high) / 2
        while high - low > mpf("1e-12"):
            value, slope, _ = (part.real for part in self.log_minus_z(y))
            low, high = (low, y) if value > 0 else (y, high)
            new = y - value / slope
            if abs(new - y) < mpf("1e-12"):
                return new
            y = new if low < new < high else (low + high) / 2
        return y

    def _move(self, y, here, there, settled):
        _, slope, _ = self.log_minus_z(y)
        new = y + mpc(0, there - here) / slope
        for _ in range(20):
            value, slope, t = self.log_minus_z(new)
            step = (value - mpc(0, there - mp.pi)) / slope
            new -= step
            if abs(step) < settled * (1 + abs(new)):
                break
        else:
            raise ArithmeticError(f"Newton's method did not settle at θ = {mp.nstr(there, 5)}")
        inside = -mp.pi - 1e-9 < new.imag < 1e-9 and t.imag < 1e-9
        if not inside or abs(new - y) > 1:
            raise ArithmeticError(f"the branch was lost at θ = {mp.nstr(there, 5)}")
        return new, self.log_minus_z(new)[2]

    def mass_above_1(self, t, zeta):
        """P(x > 1) = Im V/π, with V = E log(1 - x/z) at z = 1 + i0 the sum over the factors."""
        own = mp.fsum(
            w * _upper_log(1 - d / zeta)
            for d, w in zip(self.slopes.values, self.slopes.weights, strict=True)
        )
        outer = -_lower_log(1 + t)
        rest = self.depth * t + outer if self.gaussian else (1 - self.depth) * outer
        return (self.depth * own + rest).imag / mp.pi

    def log_max(self):
        """log x_max: the first ζ from above where dz/dζ = 0; top atoms when there is none."""

        def slope(u):
            return self.log_minus_z(mpc(mp.log(self._zeta(u)), -mp.pi))[1].real

        high = 12 + 2 * mp.log(self.depth)
        low = high - 1
        while slope(low) > 0:
            low -= 1
            if low < -25:  # no critical point: the top of the support is an atom
                return self.depth * (self.log_scale + mp.log(self.slopes.top))
        u = mp.findroot(slope, (low, low + 1), solver="anderson", tol=mpf(10) ** -30)
        zeta = self._zeta(u)
        value, _, t = self.log_minus_z(mpc(mp.log(zeta), -mp.pi))
        self.slopes.check(zeta, t)
        return value.real

    def _zeta(self, u):
        return self.slopes.top * (1 + mp.exp(u))


def _upper_log(w):
    """The logarithm on the closed upper half plane, with room for rounding below it."""
    return mp.log(-1j * w) + mpc(0, mp.pi / 2)


def _lower_log(w):
    """The logarithm on the closed lower half plane, with room for rounding above it."""
    return mp.log(1j * w) - mpc(0, mp.pi / 2)


class LogMoments:
    """E and Var of log x over x > 0, at every depth together.

    -t(-e^s) = E 1/(1 + e^(s - log x)), so with r = P(d > 0) and u uniform on (0, 1) the s at
    -t = r u is distributed as log x plus a logistic variable, of variance π²/3. Along a chain
    s = L (α + log σ_w²) + β, β = log((1 + t)/(-t)), so four integrals over y = log(-ζ) serve
    every L.
    """

    def __init__(self, slopes, gaussian, step="0.35"):
        """By the trapezoidal rule in y: all is analytic in the strip |Im y| < π."""
        stride = mpf(step)
        rows = [*_outward(slopes, gaussian, 0, stride), *_outward(slopes, gaussian, 1, -stride)]
        total = mp.fsum(w for w, _, _ in rows)
        if abs(total - 1) > 1e-19:
            raise ArithmeticError(f"the weights add up to 1 + {mp.nstr(total - 1, 5)}")
        self._alpha = mp.fsum(w * a for w, a, _ in rows)
        self._beta = mp.fsum(w * b for w, _, b in rows)
        self._var_alpha = mp.fsum(w * (a - self._alpha) ** 2 for w, a, _ in rows)
        self._var_beta = mp.fsum(w * (b - self._beta) ** 2 for w, _, b in rows)
        self._covariance = mp.fsum(w * (a - self._alpha) * (b - self._beta) for w, a, b in rows)

    def mean(self, depth, log_scale):
        """E[log x | x > 0]."""
        return depth * (self._alpha + log_scale) + self._beta

    def variance(self, depth):
        """Var[log x | x > 0]."""
        crossed = 2 * depth * self._covariance + self._var_beta - mp.pi**2 / 3
        return depth**2 * self._var_alpha + crossed


def _outward(slopes, gaussian, first, stride):
    """(du, α, β) at y = k stride, |k| from `first` on, until nothing is left."""
    y = first * stride
    while True:
        e = mp.exp(y)
        below = density = mpf(0)  # -t and its fall with y
        above = slopes.zero  # 1 + t
        for d, w in zip(slopes.values, slopes.weights, strict=True):
            part = w / (e + d)
            below += part * d
            above += part * e
            density += part * d * e / (e + d)
        weight = density * abs(stride) / (1 - slopes.zero)
        alpha = y + mp.log(below) - (0 if gaussian else mp.log(above))
        yield weight, alpha, mp.log(above / below)
        if abs(y) > 5 and weight * (1 + abs(y)) ** 2 < 1e-24:
            return
        y += stride
