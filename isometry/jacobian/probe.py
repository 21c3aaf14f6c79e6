"""Random vectors, and their products with a Jacobian at one point."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from isometry.errors import InputError, MeasurementError
from isometry.jacobian.function import call
from isometry.jacobian.products import Products

if TYPE_CHECKING:
    from isometry.jacobian.operator import Jacobian

_NOTHING = 1e3  # of what moves the output less than by rounding, in units of eps
_LITTLE, _A_DIGIT = 1e-3, 0.1  # products are noise if so little changes them by so much
_ROUNDINGS = 4  # by which a point moves, to see them drawn anew
_LARGE = 1e3  # of a cotangent; lower precision may have no room for it


class Probe:
    """Gaussian tangents V and cotangents U, the same for every device, with J V and JᵀU.

    Several, since a block of one can be right where wider blocks are wrong; and the first once
    more, a thousand times as large, since a backward that clips its gradients is not linear.

    Attributes
    ----------
    x : Tensor
        The point.
    v, u : Tensor, shapes (k, *input) and (k, *output)
    jv, jtu : Tensor or None
        None where no route of automatic differentiation serves.
    """

    def __init__(self, jacobian: Jacobian, v: Tensor, u: Tensor, at: Tensor | None = None) -> None:
        self.jacobian, self.v, self.u = jacobian, v, u
        self.x = jacobian.x if at is None else at
        with jacobian.session(at) as s:
            self.jv, self.jtu = self._products(s)

    @classmethod
    def of(cls, jacobian: Jacobian, seed: int) -> Probe:
        """Draw the vectors, and take the products at the point of the Jacobian."""
        g = torch.Generator(device="cpu").manual_seed(seed)
        double = jacobian.dtype == torch.float64
        # The looser the tolerance, the more often two products come close to it by chance.
        several = 2 if double else 4
        v, u = (_gaussian(g, several, *s) for s in (jacobian.x.shape, jacobian.output_shape))
        v, u = torch.cat([v, v[:1]]), torch.cat([u, (_LARGE if double else 1.0) * u[:1]])
        return cls(jacobian, v.to(jacobian.x), u.to(jacobian.x))

    def _products(self, s: Products) -> tuple[Tensor | None, Tensor | None]:
        jv = s.push(self.v) if s.pushes_exactly() else None
        try:
            return jv, s.pull(self.u)
        except MeasurementError:
            if not self.jacobian.reverse.exhausted:
                raise
            return jv, None

    @property
    def adjoint_error(self) -> float | None:
        """Largest |⟨u, J v⟩ − ⟨Jᵀu, v⟩| over its typical size ‖J v‖‖u‖/√m."""
        if self.jv is None or self.jtu is None:
            return None
        errors = []
        for u, v, push, pull in zip(self.u, self.v, self.jv, self.jtu, strict=True):
            gap = (torch.sum(u * push) - torch.sum(pull * v)).abs()
            errors.append(ratio(gap, norm(push) * norm(u) / u.numel() ** 0.5))
        return max(errors)

    def beside(self, distance: float, seed: int = 0) -> Probe | None:
        """Return the products of the same vectors at a point beside; None where f has none."""
        g = torch.Generator(device="cpu").manual_seed(~seed)  # not that of the vectors
        shift = distance * scale(self.x) * _gaussian(g, *self.x.shape)
        return self._moved(self.v, self.u, self.x + shift.to(self.x))

    @cached_property
    def noise(self) -> float:
        """Largest relative change of the products where point and vectors move by some roundings.

        What is zero stays zero: the point may be on a kink. Infinite where no digit is left, and
        where a step as long as x moves f(x) by less than it rounds, as in a saturated softmax.
        """
        g = torch.Generator(device="cpu").manual_seed(0)

        def moved(t: Tensor, by: float) -> Tensor:
            return t * (1 + by * _gaussian(g, *t.shape).to(t))

        rounding = _ROUNDINGS * torch.finfo(self.x.dtype).eps
        v, u = moved(self.v, _LITTLE), moved(self.u, _LITTLE)
        if self._invisible() or self._change(Probe(self.jacobian, v, u, self.x)) > _A_DIGIT:
            return math.inf
        v, u, x = (moved(t, rounding) for t in (self.v, self.u, self.x))
        change = self._change(self._moved(v, u, x) or Probe(self.jacobian, v, u, self.x))
        return change if change < _A_DIGIT else math.inf

    def _change(self, other: Probe) -> float:
        pairs = ((other.jv, self.jv), (other.jtu, self.jtu))
        changes = (distance(a, b) for a, b in pairs if a is not None and b is not None)
        return max(changes, default=math.inf)

    def _invisible(self) -> bool:
        pairs = ((self.jv, self.v), (self.jtu, self.u))
        gain = max(float(norm(p) / norm(v)) for p, v in pairs if p is not None)
        with self.jacobian.session() as s, torch.no_grad():
            size = float(norm(call(s.f, self.x)))
        step = scale(self.x) * self.x.numel() ** 0.5
        return bool(gain * step <= _NOTHING * torch.finfo(self.x.dtype).eps * size)

    def _moved(self, v: Tensor, u: Tensor, at: Tensor) -> Probe | None:
        try:
            with self.jacobian.session() as s, torch.no_grad():
                finite = bool(torch.isfinite(call(s.f, at)).all())
        except (InputError, MeasurementError):
            return None
        return Probe(self.jacobian, v, u, at) if finite else None

    def seen(self, slope: Tensor, told: Tensor | bool = True) -> tuple[Tensor, Tensor]:
        """Return what J v says beside a slope, and what is compared with it, where it tells.

        The components themselves; or, of J by rows alone, ⟨u, ·⟩ with two cotangents.
        """
        told = torch.as_tensor(told, device=slope.device)
        if self.jv is not None:
            expected = self.jv[0].to(slope)
            return torch.where(told, slope, expected), expected
        u = torch.where(told, self.u[:2].to(slope), 0)
        with self.jacobian.session(None if self.x is self.jacobian.x else self.x) as s:
            rows = s.pull(u.to(self.jacobian.x)).to(slope)
        expected = rows.reshape(2, -1) @ self.v[0].to(slope).flatten()
        return u.reshape(2, -1) @ torch.where(told, slope, 0).flatten(), expected


def loose(dtype: torch.dtype) -> float:
    """Return an error of products that is one in any network."""
    # In float64 too, some networks compute a part of themselves in float32.
    return min(max(20 * math.sqrt(torch.finfo(dtype).eps), 2e-6), 0.1)


def scale(x: Tensor) -> float:
    """Return the root mean square of a point, or 1 at the origin."""
    largest = float(x.abs().max())
    return largest * float((x / largest).double().square().mean().sqrt()) if largest else 1.0


def distance(a: Tensor, b: Tensor) -> float:
    """Return ‖a − b‖ / ‖b‖."""
    return ratio(norm(a - b), norm(b))


def norm(t: Tensor) -> Tensor:
    """Return the Euclidean norm, also where squares leave the range of floating point."""
    largest = t.abs().max()
    return largest * (t / largest).norm() if largest > 0 else largest


def ratio(gap: Tensor, size: Tensor) -> float:
    """Return gap / size, 0 for 0 / 0."""
    if gap == 0:
        return 0.0
    return float(gap / size) if size > 0 else float("inf")


def _gaussian(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64, device="cpu")
