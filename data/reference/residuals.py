"""Chains of residual layers I + b X in arbitrary precision, apart from `isometry.laws`.

X = D W with D² ∈ {0, 1}, P(1) = p, and W of variance σ_w², free of each other. Symmetrised singular
laws of free R-diagonal sums add freely (Haagerup–Larsen): with C(g²) = g R(g) of each symmetrised
law, R its R-transform, and v = b² σ_w²,

    g² = C_I (1 + C_I),   v g² = M (1 + M) / (p + M)    Gaussian, C_X = M,
                          v g² = M (1 + M)² / (p + M)   Haar orthogonal,
    t = C_I + M,          χ = (1 + t)² / g²,            z = χ^L (t / (1 + t))^(L-1).
"""

from mpmath import mp, mpc, mpf

mp.dps = 30

_SETTLED = mpf(10) ** (6 - mp.dps)


class Residual:
    """L layers I + b X; `variance` is v = b² σ_w², `rank` is p."""

    def __init__(self, variance, rank, gaussian, depth):
        self.variance, self.rank, self.depth = mpf(variance), mpf(rank), depth
        self.power = 1 if gaussian else 2

    # the real axis, left: z = -exp(s), t = -u

    def log_minus_z(self, u):
        """log(-z) at t = -u, 0 < u < 1, and the M there."""
        M = self._root(u)
        s = 2 * mp.log(1 - u) - mp.log((u + M) * (1 - u - M))
        return self.depth * s + (self.depth - 1) * (mp.log(u) - mp.log(1 - u)), M

    def _root(self, u):
        """M in (-min(p, u), 0) with v C (1 + C) = v g², C = -u - M; bisection, then secants."""
        p, v = self.rank, self.variance

        def miss(M):
            return v * (u + M) * (u + M - 1) * (p + M) - M * (1 + M) ** self.power

        low, high = -min(p, u), mpf(0)
        f_low, f_high = miss(low), miss(high)
        for _ in range(300):  # the Illinois variant of regula falsi
            M = high - f_high * (high - low) / (f_high - f_low)
            f = miss(M)
            if f * f_high < 0:
                low, f_low = high, f_high
            else:
                f_low /= 2
            high, f_high = M, f
            if abs(high - low) < _SETTLED * abs(M) or f == 0:
                return M
        raise ArithmeticError(f"no root at t = {mp.nstr(-u, 8)}")

    def log_moments(self, step="0.125"):
        """E log x and Var log x: s(u) is the quantile function of log x plus a logistic."""
        rows = []
        for k in range(-int(62 / mpf(step)), int(62 / mpf(step)) + 1):
            a = k * mpf(step)
            u, complement = 1 / (1 + mp.exp(-a)), 1 / (1 + mp.exp(a))
            rows.append((mpf(step) * u * complement, self.log_minus_z(u)[0]))
        mean = mp.fsum(w * s for w, s in rows)
        return mean, mp.fsum(w * (s - mean) ** 2 for w, s in rows) - mp.pi**2 / 3

    # the circle |z| = exp(log_modulus)

    def circle(self, angles, log_modulus=0):
        """t at z = exp(log_modulus + iθ) for decreasing angles in [0, π)."""
        low, high = mpf(10) ** -25, 1 - mpf(10) ** -25
        while high - low > mpf("1e-12") * min(low, 1 - high):
            u = (low + high) / 2
            low, high = (u, high) if self.log_minus_z(u)[0] > log_modulus else (low, u)
        M = self.log_minus_z(u)[1]
        state, here, found = mp.matrix([mpc(-u - M), mpc(M)]), +mp.pi, []
        logs = self._logs(state, [mpf(0)] * 3)
        for there in angles:
            state, logs = self._move(state, logs, log_modulus, here, there)
            here = there
            found.append(state[0] + state[1])
        return found

    def _logs(self, state, last):
        """Logarithms of 1 + t, -t and -g², each continuous along the path."""
        C, M = state
        found = [mp.log(1 + C + M), mp.log(-C - M), mp.log(-C * (1 + C))]
        turns = [mp.nint((a - b).imag / (2 * mp.pi)) for a, b in zip(found, last, strict=True)]
        return [a - mpc(0, 2 * mp.pi * k) for a, k in zip(found, turns, strict=True)]

    def _equations(self, state, logs):
        """Branch against identity, and log(-z); with their derivatives in (C, M)."""
        L, p, v, q = self.depth, self.rank, self.variance, self.power
        C, M = state
        t = C + M
        own = M * (1 + M) ** q / (p + M)
        own_slope = own * (1 / M + q / (1 + M) - 1 / (p + M))
        z = (L + 1) * logs[0] + (L - 1) * logs[1] - L * logs[2]
        common = (L + 1) / (1 + t) + (L - 1) / t
        jacobian = mp.matrix(
            [[v * (1 + 2 * C), -own_slope], [common - L * (1 / C + 1 / (1 + C)), common]]
        )
        return mp.matrix([v * C * (1 + C) - own, z]), jacobian

    def _move(self, start, logs, log_modulus, here, there):
        target = mpc(log_modulus, there - mp.pi)
        _, jacobian = self._equations(start, logs)
        state = start + mp.lu_solve(jacobian, mp.matrix([0, mpc(0, there - here)]))
        for _ in range(30):
            logs = self._logs(state, logs)
            miss, jacobian = self._equations(state, logs)
            miss[1] -= target
            step = mp.lu_solve(jacobian, miss)
            state -= step
            if mp.norm(step) < _SETTLED * mp.norm(state):
                break
        else:
            raise ArithmeticError(f"Newton's method did not settle at θ = {mp.nstr(there, 5)}")
        if mp.norm(state - start) > 0.5 * (1 + mp.norm(start)):
            raise ArithmeticError(f"the branch was lost at θ = {mp.nstr(there, 5)}")
        return state, self._logs(state, logs)

    # the real axis, right: above and below the support

    def log_edges(self):
        """log x_min and log x_max; -inf where the support reaches 0."""
        top = self._extremum(1)
        bottom = self._extremum(-1) if self.variance * self.rank < 1 else -mp.inf
        return bottom, top

    def _extremum(self, side):
        """Where log z stops to fall (side 1) or to rise (-1) as M > 0 leaves 0."""

        def log_z(log_M):
            M = mp.exp(log_M)
            squared = M * (1 + M) ** self.power / (self.rank + M) / self.variance
            root = mp.sqrt(1 + 4 * squared)
            # C = 2 g²/(1 + √) above, -1 less that below: no cancellation next to 0
            C = 2 * squared / (1 + root)
            one_plus_t = 1 + C + M if side > 0 else M - C
            t = one_plus_t - 1
            L = self.depth
            return (
                (L + 1) * mp.log(abs(one_plus_t)) + (L - 1) * mp.log(abs(t)) - L * mp.log(squared)
            )

        def slope(log_M):
            return side * mp.diff(log_z, log_M)

        at = mpf(-40)
        while slope(at + 0.25) < 0:
            at += 0.25
            if at > 40:
                raise ArithmeticError("no edge of the support was found")
        return log_z(mp.findroot(slope, (at, at + 0.25), solver="anderson", tol=1e-30))


def universal_variance(c):
    """Var log x of many small branches, b² σ_w² p L = c (Tarnowski et al. 2019)."""
    return 2 * c + c**2 / 3
