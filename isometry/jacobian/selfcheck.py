"""Is this Jacobian right? A handful of forward passes that answer before anyone relies on it.

PyTorch returns wrong derivatives without a word in cases that occur in practice: plain
reverse mode through batch norm at batch size 1 followed by a flatten and a transpose, code
under ``no_grad`` or ``detach`` inside forward, randomness that differs between two calls.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from isometry.errors import MeasurementError
from isometry.jacobian.function import PureFunction, call, weights_not_finite
from isometry.jacobian.products import Products
from isometry.trust import SelfCheck

if TYPE_CHECKING:
    from isometry.jacobian.operator import Jacobian

# Steps of the central difference, relative to the input: a network may bend on any scale.
_STEPS = tuple(10.0**-k for k in (6, 5, 7, 4, 8, 3, 9, 2, 10, 1, 11, 12, 13))
_ROUNDING = 20.0  # rounding noise of one forward pass, in units of eps times the output
_NOTHING = 1e3  # of what moves the output less than by rounding, in units of eps
_LARGE = 1e3  # of a cotangent; lower precision may have no room for it
_ENOUGH_STEPS = 6  # that agree loosely, where none agrees closely
_TOSSES = 10  # forward passes that must agree where random numbers are drawn
_JITTER = 1e-3  # distance, relative to the input, at which a kink is left behind


def self_check(
    jacobian: Jacobian, dense: Tensor | None = None, *, seed: int = 0
) -> tuple[SelfCheck, str]:
    """Test a Jacobian's products against each other and against a central difference.

    Parameters
    ----------
    jacobian : Jacobian
        The operator to be tested, through the routes in use.
    dense : Tensor, optional
        Its dense form (m, n), to be tested too.
    seed : int
        Seed of the random vectors.

    Returns
    -------
    check : SelfCheck
    suspect : str
        The direction whose route is to blame, "forward" or "reverse"; empty where none is,
        or where another route would not help.
    """
    tolerance = _tolerance(jacobian)
    vectors = _Vectors(jacobian, seed)
    with jacobian.session() as s:
        with jacobian.network.remembering():
            repeatable = _repeatable(s, tolerance)
        jv, jtu = _products(s, jacobian, vectors)
        if jv is None and jtu is None:
            return SelfCheck(repeatable, None, None, None, False, ("ISO305",)), ""
        refuse_not_finite(jacobian, *(t for t in (jv, jtu) if t is not None))
        loop = _loop_error(s, vectors, jtu)
    adjoint = _adjoint_error(vectors, jv, jtu)
    against_dense = None if dense is None else _dense_error(dense, vectors, jv, jtu)
    difference, disagrees = _difference_error(jacobian, jacobian.x, vectors, jv, jtu)
    kink = disagrees and _agrees_beside(jacobian, vectors, jv)
    failures = []
    suspect = ""
    if any(e is not None and not e <= tolerance for e in (adjoint, against_dense)):
        failures.append("ISO307" if _lost(jacobian, vectors, jv, jtu) else "ISO302")
        suspect = "reverse"
    if disagrees and not kink:
        failures.append("ISO303")
        suspect = "reverse" if jv is None else "forward"
    if difference is None and loop is not None and not loop <= tolerance:
        failures.append("ISO306")
        suspect = suspect or "reverse"
    if not (kink or failures or any(t is not None and t.any() for t in (jv, jtu))):
        failures.append("ISO307")
    if difference is None and jacobian.dtype in (torch.float16, torch.bfloat16):
        failures.append("ISO304")
    if not repeatable:  # then all else follows from it
        failures, suspect = ["ISO301"], ""
    check = SelfCheck(repeatable, adjoint, against_dense, difference, kink, tuple(failures), loop)
    return check, suspect


def refuse_not_finite(jacobian: Jacobian, *parts: Tensor) -> None:
    """Refuse a Jacobian whose entries, or products, are not finite."""
    for part in parts:
        if not torch.isfinite(part).all():
            bad = int((~torch.isfinite(part)).sum())
            raise MeasurementError(
                weights_not_finite(jacobian.network.model)
                or f"the Jacobian is not finite at this input ({bad} of {part.numel()} entries)"
                f"{jacobian.where_not_finite()}: look for overflow, or a square root, norm or "
                "logarithm at zero, or try another input"
            )


class _Vectors:
    """Gaussian tangents and cotangents, the same for every device.

    Two, since a block of one can be right where wider blocks are wrong; and the first once more,
    a thousand times as large, since a backward that clips its gradients is not linear.
    """

    def __init__(self, jacobian: Jacobian, seed: int) -> None:
        g = torch.Generator(device="cpu").manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64, device="cpu")

        v, u = draw(2, *jacobian.x.shape), draw(2, *jacobian.output_shape)
        self.v = torch.cat([v, v[:1]]).to(jacobian.x)
        large = _LARGE if jacobian.dtype == torch.float64 else 1.0
        self.u = torch.cat([u, large * u[:1]]).to(jacobian.x)
        self.direction = draw(*jacobian.x.shape)


def _repeatable(s: Products, tolerance: float) -> bool:
    """Whether passes agree: two of them, and more where random numbers are drawn.

    A coin that is tossed can fall the same way twice.
    """
    before = _drawn()
    y = call(s.f, s.x).detach()
    after = _drawn()
    same = torch.equal(before[0], after[0]) and before[1:] == after[1:]
    passes = 1 if same else _TOSSES
    return all(_distance(call(s.f, s.x).detach(), y) <= tolerance for _ in range(passes))


def _drawn() -> tuple[Tensor, object, str]:
    """Where the global generators stand."""
    numpy = np.random.get_state(legacy=False)["state"]
    return torch.get_rng_state(), random.getstate(), str(numpy)


def _products(
    s: Products, jacobian: Jacobian, vectors: _Vectors
) -> tuple[Tensor | None, Tensor | None]:
    """Return J V and JᵀU, each None where no route of automatic differentiation serves."""
    jv = s.push(vectors.v) if s.pushes_exactly() else None
    try:
        return jv, s.pull(vectors.u)
    except MeasurementError:
        if not jacobian.reverse.exhausted:
            raise
        return jv, None


def _loop_error(s: Products, vectors: _Vectors, jtu: Tensor | None) -> float | None:
    """Compare the last row of a block with the same row by itself, through plain autograd.

    The last: where vmap goes wrong it may repeat the first.
    """
    if jtu is None:
        return None
    try:
        alone = s.loop(vectors.u[-1:])
    except (Exception, SystemExit):  # whatever is raised where this route does not apply
        return None
    return _distance(jtu[-1:], alone)


def _adjoint_error(vectors: _Vectors, jv: Tensor | None, jtu: Tensor | None) -> float | None:
    if jv is None or jtu is None:
        return None
    errors = []
    for u, v, push, pull in zip(vectors.u, vectors.v, jv, jtu, strict=True):
        gap = (torch.sum(u * push) - torch.sum(pull * v)).abs()
        errors.append(_ratio(gap, _norm(push) * _norm(u) / u.numel() ** 0.5))
    return max(errors)


def _lost(jacobian: Jacobian, vectors: _Vectors, jv: Tensor | None, jtu: Tensor | None) -> bool:
    """Whether products are no more than rounding, as of a saturated softmax.

    So they are where a step as long as x moves f(x) by less than it rounds.
    """
    pairs = ((jv, vectors.v), (jtu, vectors.u))
    gain = max(float(_norm(p) / _norm(v)) for p, v in pairs if p is not None)
    with jacobian.session() as s:
        size = float(_norm(call(s.f, s.x).detach()))
    step = _scale(jacobian.x) * math.sqrt(jacobian.x.numel())
    return gain * step <= _NOTHING * torch.finfo(jacobian.dtype).eps * size


def _dense_error(
    dense: Tensor, vectors: _Vectors, jv: Tensor | None, jtu: Tensor | None
) -> float | None:
    # Rows come from reverse mode and are tested by a forward product, and the other way round.
    by_rows = dense.shape[0] <= dense.shape[1]
    if jv is not None and (by_rows or jtu is None):
        return _distance(dense @ vectors.v[0].flatten(), jv[0].flatten())
    return None if jtu is None else _distance(dense.T @ vectors.u[0].flatten(), jtu[0].flatten())


def _agrees_beside(jacobian: Jacobian, vectors: _Vectors, jv: Tensor | None) -> bool:
    if not _bends(jacobian, vectors, jv):
        return False
    shift = _JITTER * _scale(jacobian.x) * vectors.direction.to(jacobian.x)
    beside = jacobian.x + shift
    with jacobian.session(at=beside) as s:
        jv, jtu = _products(s, jacobian, vectors)
    adjoint = _adjoint_error(vectors, jv, jtu)
    if adjoint is not None and adjoint > _tolerance(jacobian):
        return False
    error, disagrees = _difference_error(jacobian, beside, vectors, jv, jtu)
    return error is not None and not disagrees


def _bends(jacobian: Jacobian, vectors: _Vectors, jv: Tensor | None) -> bool:
    """Whether the slopes ahead and behind differ, as at a kink, wherever J v is not the slope."""
    with jacobian.network.held_still(jacobian.device):
        f, x = _in_double(jacobian, jacobian.x)
        step = 1e-6 * _scale(x) * vectors.v[0].to(x)
        here, ahead, behind = (call(f, x + d).detach() for d in (0 * step, step, -step))
    bend, level = (ahead - here) - (here - behind), 1e-3 * (ahead - behind).abs().max()
    bent, central = bend.abs() > level, (ahead - behind) / 2
    if not bent.any():
        return False
    if jv is None:
        slope, expected = _by_rows(jacobian, jacobian.x, vectors, central, ~bent)
        return bool(_norm(slope - expected * 1e-6 * _scale(x)) <= 1e-3 * _norm(slope))
    wrong = (central - jv[0].to(x) * 1e-6 * _scale(x)).abs() > level
    return not bool((wrong & ~bent).any())


def _difference_error(
    jacobian: Jacobian, at: Tensor, vectors: _Vectors, jv: Tensor | None, jtu: Tensor | None
) -> tuple[float | None, bool]:
    """Relative error against central differences, and whether it is one; None: cannot tell.

    A step whose rounding noise could hide the error tells nothing. One step that agrees
    acquits; to convict, two steps must agree with each other and not with J v, since a
    network that bends within the smallest usable step lets no difference converge. Both are
    asked for closely first, and loosely where the differences are no better than that:
    where the network computes in float32 inside, or is chaotic.
    """
    if jv is None and jtu is None:
        return None, False
    fine, coarse = _difference_tolerances(jacobian)
    seen: list[Tensor] = []
    best, settled = math.inf, math.inf
    with jacobian.network.held_still(jacobian.device):
        f, x = _in_double(jacobian, at)
        v = vectors.v[0].to(x)
        for relative in _STEPS:
            h = relative * _scale(x)
            ahead, behind = call(f, x + h * v).detach(), call(f, x - h * v).detach()
            slope = (ahead - behind) / (2 * h)
            noise = _ROUNDING * torch.finfo(x.dtype).eps * ahead.abs() / h
            hopeless = noise * relative / max(_STEPS)  # what is left at the widest step
            if jv is not None:
                told = _told(slope, hopeless, coarse, _norm(jv[0].to(x)))
                slope, expected = torch.where(told, slope, jv[0].to(x)), jv[0].to(x)
            else:
                gain = _norm(jtu.to(x)) / _norm(vectors.u.to(x)) if jtu is not None else 0.0
                told = _told(slope, hopeless, coarse, gain * _norm(v))
                slope, expected = _by_rows(jacobian, at, vectors, slope, told)
            if not told.any():
                continue
            noise = torch.where(told, noise, 0)
            size = torch.maximum(_norm(expected), _norm(slope))
            if not _norm(noise) <= coarse * size:
                continue
            best = min(best, _ratio(_norm(slope - expected), _norm(expected)))
            if best <= fine:
                return best, False
            settled = min([settled, *(_distance(slope, other) for other in seen)])
            seen.append(slope)
            if best <= coarse and (settled <= fine or len(seen) == _ENOUGH_STEPS):
                break
    if settled <= fine or best <= coarse:
        return best, best > (fine if settled <= fine else coarse)
    return (best, True) if settled <= coarse else (None, False)


def _told(slope: Tensor, hopeless: Tensor, coarse: float, level: Tensor) -> Tensor:
    """Return which components a difference can tell about: not those too large to show a slope.

    The same at every step, or a step that tells little would acquit the rest.
    """
    finite = torch.isfinite(slope)
    level = torch.maximum(level, _norm(torch.where(finite, slope, 0)))
    return finite & (hopeless <= coarse * level)


def _by_rows(
    jacobian: Jacobian, at: Tensor, vectors: _Vectors, slope: Tensor, told: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ⟨u, ·⟩ of the difference, and of J v by rows alone."""
    u = torch.where(told, vectors.u[:2].to(slope), 0)
    with jacobian.session(None if at is jacobian.x else at) as s:
        rows = s.pull(u.to(jacobian.x)).to(slope)
    expected = rows.reshape(2, -1) @ vectors.v[0].to(slope).flatten()
    return u.reshape(2, -1) @ torch.where(told, slope, 0).flatten(), expected


def _in_double(jacobian: Jacobian, at: Tensor) -> tuple[PureFunction, Tensor]:
    if jacobian.dtype == torch.float64 or jacobian.device.type == "mps":
        return jacobian.f, at
    x = at.to(torch.float64)
    try:
        f, _ = jacobian.network.function(torch.float64, jacobian.device)
        call(f, x)
    except Exception:  # the network runs in its own precision only
        return jacobian.f, at
    return f, x


def _tolerance(jacobian: Jacobian) -> float:
    # In float64 too, some networks compute a part of themselves in float32.
    return min(max(20 * math.sqrt(torch.finfo(jacobian.dtype).eps), 2e-6), 0.1)


def _difference_tolerances(jacobian: Jacobian) -> tuple[float, float]:
    return (2e-6, 1e-3) if jacobian.dtype == torch.float64 else (2e-2, 2e-2)


def _scale(x: Tensor) -> float:
    largest = float(x.abs().max())
    return largest * float((x / largest).double().square().mean().sqrt()) if largest else 1.0


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
