"""Is this Jacobian right? A handful of forward passes that answer before anyone relies on it.

PyTorch returns wrong derivatives without a word in cases that occur in practice: plain
reverse mode through batch norm at batch size 1 followed by a flatten and a transpose, code
under ``no_grad`` or ``detach`` inside forward, randomness that differs between two calls.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isometry.errors import InputError, MeasurementError
from isometry.jacobian.context import measuring
from isometry.jacobian.function import PureFunction, call, pure_function
from isometry.jacobian.operator import Jacobian, Session
from isometry.trust import SelfCheck

# Steps of the central difference, relative to the input: a network may bend on any scale.
_STEPS = tuple(10.0**-k for k in (6, 5, 7, 4, 8, 3, 9, 2, 10, 1, 11, 12, 13))
_ROUNDING = 20.0  # rounding noise of one forward pass, in units of eps times the output
_JITTER = 1e-3  # distance, relative to the input, at which a kink is left behind


def self_check(jacobian: Jacobian, dense: Tensor | None = None, *, seed: int = 0) -> SelfCheck:
    """Test a Jacobian against itself and against a central difference.

    Parameters
    ----------
    jacobian : Jacobian
        The operator to be tested.
    dense : Tensor, optional
        Its dense form (m, n), to be tested too.
    seed : int
        Seed of the random vectors.

    Returns
    -------
    SelfCheck
    """
    vectors = _Vectors(jacobian, seed)
    with jacobian.session() as s:
        y = call(s.f, s.x).detach()
        repeatable = _distance(call(s.f, s.x).detach(), y) <= _tolerance(jacobian)
        jv, jtu = _push_or_none(s, vectors.v), s.pull(vectors.u[None])[0]
    adjoint = None if jv is None else _adjoint_error(vectors, jv, jtu)
    against_dense = None if dense is None else _dense_error(dense, vectors, jv, jtu)
    difference = _difference_error(jacobian, jacobian.x, vectors, jv, jtu)
    disagrees = difference is not None and difference > _difference_tolerance(jacobian)
    kink = disagrees and _agrees_beside(jacobian, vectors)
    failures = []
    if not repeatable:
        failures.append("ISO301")
    if any(e is not None and not e <= _tolerance(jacobian) for e in (adjoint, against_dense)):
        failures.append("ISO302")
    if disagrees and not kink:
        failures.append("ISO303")
    if difference is None and jacobian.dtype in (torch.float16, torch.bfloat16):
        failures.append("ISO304")
    return SelfCheck(repeatable, adjoint, against_dense, difference, kink, tuple(failures))


class _Vectors:
    """A Gaussian tangent v and cotangent u, the same for every device."""

    def __init__(self, jacobian: Jacobian, seed: int) -> None:
        g = torch.Generator(device="cpu").manual_seed(seed)
        self.v = torch.randn(jacobian.x.shape, generator=g, dtype=torch.float64, device="cpu").to(
            jacobian.x
        )
        self.u = torch.randn(
            jacobian.output_shape, generator=g, dtype=torch.float64, device="cpu"
        ).to(jacobian.x)
        self.direction = torch.randn(
            jacobian.x.shape, generator=g, dtype=torch.float64, device="cpu"
        )


def _push_or_none(s: Session, v: Tensor) -> Tensor | None:
    try:
        return s.push(v[None])[0]
    except MeasurementError:
        return None


def _adjoint_error(vectors: _Vectors, jv: Tensor, jtu: Tensor) -> float:
    gap = (torch.sum(vectors.u * jv) - torch.sum(jtu * vectors.v)).abs()
    return _ratio(gap, _norm(jv) * _norm(vectors.u) / vectors.u.numel() ** 0.5)


def _dense_error(dense: Tensor, vectors: _Vectors, jv: Tensor | None, jtu: Tensor) -> float:
    # Rows come from reverse mode and are tested by a forward product, and the other way round.
    by_rows = dense.shape[0] <= dense.shape[1]
    if by_rows and jv is not None:
        return _distance(dense @ vectors.v.flatten(), jv.flatten())
    return _distance(dense.T @ vectors.u.flatten(), jtu.flatten())


def _agrees_beside(jacobian: Jacobian, vectors: _Vectors) -> bool:
    shift = _JITTER * _scale(jacobian.x) * vectors.direction.to(jacobian.x)
    beside = jacobian.x + shift
    with jacobian.session(at=beside) as s:
        jv, jtu = _push_or_none(s, vectors.v), s.pull(vectors.u[None])[0]
    if jv is not None and _adjoint_error(vectors, jv, jtu) > _tolerance(jacobian):
        return False
    error = _difference_error(jacobian, beside, vectors, jv, jtu)
    return error is not None and error <= _difference_tolerance(jacobian)


def _difference_error(
    jacobian: Jacobian, at: Tensor, vectors: _Vectors, jv: Tensor | None, jtu: Tensor
) -> float | None:
    """Relative error against central differences, or None when they cannot tell.

    A step whose rounding noise could hide the error tells nothing. One step that agrees
    acquits; to convict, two steps must agree with each other and not with J v, since a
    network that bends within the smallest usable step lets no difference converge.
    """
    tolerance = _difference_tolerance(jacobian)
    seen: list[Tensor] = []
    best, settled = math.inf, False
    with measuring(jacobian.modules, jacobian.device):
        f, x = _in_double(jacobian, at)
        v, u = vectors.v.to(x), vectors.u.to(x)
        # Where only reverse mode exists, ⟨u, ·⟩ of both sides is compared.
        expected = torch.sum(jtu.to(x) * v) if jv is None else jv.to(x)
        size = _norm(jtu.to(x) if jv is None else expected)
        for relative in _STEPS:
            h = relative * _scale(x)
            ahead, behind = call(f, x + h * v).detach(), call(f, x - h * v).detach()
            slope = (ahead - behind) / (2 * h)
            noise = _ROUNDING * torch.finfo(x.dtype).eps * _norm(ahead) / h
            slope = torch.sum(u * slope) if jv is None else slope
            if not noise <= tolerance * torch.maximum(size, _norm(slope)):
                continue
            best = min(best, _ratio(_norm(slope - expected), size))
            if best <= tolerance:
                return best
            settled |= any(_distance(slope, other) <= tolerance for other in seen)
            seen.append(slope)
    return best if settled else None


def _in_double(jacobian: Jacobian, at: Tensor) -> tuple[PureFunction, Tensor]:
    if jacobian.dtype == torch.float64 or jacobian.device.type == "mps":
        return jacobian.f, at
    f = pure_function(jacobian.model, jacobian.modules, torch.float64, jacobian.device)
    x = at.to(torch.float64)
    try:
        call(f, x)
    except (InputError, MeasurementError):
        return jacobian.f, at
    return f, x


def _tolerance(jacobian: Jacobian) -> float:
    return 20 * math.sqrt(torch.finfo(jacobian.dtype).eps)


def _difference_tolerance(jacobian: Jacobian) -> float:
    return 1e-3 if jacobian.dtype == torch.float64 else 2e-2


def _scale(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt()) or 1.0


def _distance(a: Tensor, b: Tensor) -> float:
    return _ratio(_norm(a - b), _norm(b))


def _norm(t: Tensor) -> Tensor:
    # Deep networks have entries whose squares leave the range of floating point.
    scale = t.abs().max()
    return scale * (t / scale).norm() if scale > 0 else scale


def _ratio(gap: Tensor, size: Tensor) -> float:
    if gap == 0:
        return 0.0
    return float(gap / size) if size > 0 else float("inf")
