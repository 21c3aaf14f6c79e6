"""The central difference beside J v: whether it agrees, as closely as rounding lets it tell."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isometry.jacobian.function import PureFunction, call
from isometry.jacobian.probe import Probe, distance, loose, norm, ratio, scale

# Steps, relative to the input: a network may bend on any scale.
_STEPS = tuple(10.0**-k for k in (6, 5, 7, 4, 8, 3, 9, 2, 10, 1, 11, 12, 13))
COARSE = 2e-2  # error of J v that none is asked to see in float32
_ROUNDING = 20.0  # rounding noise of one forward pass, in units of eps times the output
_ENOUGH_STEPS = 6  # that agree loosely, where none agrees closely
_JITTER = 1e-3  # distance, relative to the input, at which a kink is left behind
# In float32: steps where rounding and curvature are both small, each half of the one before.
_FINE_STEPS = tuple(2.0**-k for k in range(4, 14))
_FINE = 1e-3  # error of J v that is none
_SETTLED = 1e-4  # distance of two differences that makes further ones needless
_CLEARLY = 4  # times the distance of the differences from each other
_ALIKE = 3  # times the least of the errors that most points find, the largest
_POINTS, _APART = 12, 0.05  # so far from x, relative to it


def difference_error(probe: Probe) -> tuple[float | None, bool]:
    """Relative error against central differences, and whether it is one; None: cannot tell.

    A step whose rounding noise could hide the error tells nothing. One step that agrees
    acquits; to convict, two steps must agree with each other and not with J v, since a
    network that bends within the smallest usable step lets no difference converge. Both are
    asked for closely first, and loosely where the differences are no better than that:
    where the network computes in float32 inside, or is chaotic.
    """
    if probe.jv is None and probe.jtu is None:
        return None, False
    seen: list[Tensor] = []
    best, settled = math.inf, math.inf
    with probe.jacobian.network.held_still(probe.jacobian.device):
        f, x = in_double(probe)
        v = probe.v[0].to(x)
        fine, coarse = _tolerances(probe.x.dtype, x.dtype)
        for relative in _STEPS:
            h = relative * scale(x)
            ahead, slope = _central(f, x, h * v, h)
            noise = _ROUNDING * torch.finfo(x.dtype).eps * ahead.abs() / h
            hopeless = noise * relative / max(_STEPS)  # what is left at the widest step
            told = _told(slope, hopeless, coarse, _level(probe, x))
            slope, expected = probe.seen(slope, told)
            if not told.any():
                continue
            noise = torch.where(told, noise, 0)
            size = torch.maximum(norm(expected), norm(slope))
            if not norm(noise) <= coarse * size:
                continue
            best = min(best, ratio(norm(slope - expected), norm(expected)))
            if best <= fine:
                return best, False
            settled = min([settled, *(distance(slope, other) for other in seen)])
            seen.append(slope)
            if best <= coarse and (settled <= fine or len(seen) == _ENOUGH_STEPS):
                break
    return _verdict(best, settled, fine, coarse)


def _tolerances(own: torch.dtype, dtype: torch.dtype) -> tuple[float, float]:
    """Return the errors of J v, in its own precision, that differences in another can tell."""
    if own == torch.float64:
        return 2e-6, 1e-3
    return _FINE if own == torch.float32 and dtype != own else COARSE, COARSE


def _verdict(best: float, settled: float, fine: float, coarse: float) -> tuple[float | None, bool]:
    if fine == coarse < best < _CLEARLY * settled:  # too rough to say
        return None, False
    if settled <= fine or best <= coarse:
        return best, best > (fine if settled <= fine else coarse)
    return (best, True) if settled <= coarse else (None, False)


def agrees_beside(probe: Probe) -> bool:
    """Whether J v is right beside the point, and wrong at it only where the network bends."""
    if not _bends(probe):
        return False
    beside = probe.beside(_JITTER)
    if beside is None or (beside.adjoint_error or 0) > loose(beside.x.dtype):
        return False
    error, disagrees = difference_error(beside)
    return error is not None and not disagrees


def finer_error(probe: Probe) -> tuple[float, bool, float]:
    """Return the error of J v, whether it is one, and which errors would not be seen.

    For networks that run in float32 alone. The difference is that of the two steps which agree
    best. Where it is not J v the point may lie so close to a kink that both have crossed it: to
    convict, most of several points beside must say much the same, and none acquit.
    """
    errors = []
    for k in range(_POINTS):
        here = probe.beside(_APART, k) if k else probe
        error, settled = _closest(here) if here else (math.inf, math.inf)
        hidden = max(3 * _FINE, error + _CLEARLY * settled)
        if error <= _FINE and hidden <= COARSE:
            return error, False, hidden
        errors.append(error if error > _CLEARLY * settled else 0.0)
    low, middle, high = sorted(errors)[_POINTS // 3 :: _POINTS // 4][:3]
    return middle, 0 < high <= _ALIKE * low, math.inf


def in_double(probe: Probe) -> tuple[PureFunction, Tensor]:
    """Return the network and the point in float64, or as they are where it does not run in it."""
    jacobian, at = probe.jacobian, probe.x
    if jacobian.dtype == torch.float64 or jacobian.device.type == "mps":
        return jacobian.f, at
    x = at.to(torch.float64)
    try:
        with jacobian.network.held_still(jacobian.device):
            f, _ = jacobian.network.function(torch.float64, jacobian.device)
            call(f, x)
    except Exception:  # the network runs in its own precision only
        return jacobian.f, at
    return f, x


def _closest(probe: Probe) -> tuple[float, float]:
    """Return the error of J v by the two differences closest to each other, and their distance."""
    error = settled = math.inf
    before: Tensor | None = None
    with probe.jacobian.network.held_still(probe.jacobian.device):
        f, x, v = probe.jacobian.f, probe.x, probe.v[0]
        for relative in _FINE_STEPS:
            h = relative * scale(x)
            ahead, slope = _central(f, x, h * v, h)
            rounding = torch.finfo(x.dtype).eps * norm(ahead) / h
            slope, expected = probe.seen(slope)
            if before is not None:
                gap = ratio(norm(slope - before) + rounding, norm(expected))
                if gap < settled:
                    error, settled = distance(slope, expected), gap
                if settled <= _SETTLED:
                    break
            before = slope
    return error, settled


def _central(f: PureFunction, x: Tensor, step: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """Return f ahead, and the slope between ahead and behind."""
    ahead, behind = call(f, x + step).detach(), call(f, x - step).detach()
    return ahead, (ahead - behind) / (2 * h)


def _level(probe: Probe, x: Tensor) -> Tensor:
    """Return the typical size of J v."""
    if probe.jv is not None:
        return norm(probe.jv[0].to(x))
    gain = norm(probe.jtu.to(x)) / norm(probe.u.to(x)) if probe.jtu is not None else 0.0
    return gain * norm(probe.v[0].to(x))


def _told(slope: Tensor, hopeless: Tensor, coarse: float, level: Tensor) -> Tensor:
    """Return which components a difference can tell about: not those too large to show a slope.

    The same at every step, or a step that tells little would acquit the rest.
    """
    finite = torch.isfinite(slope)
    level = torch.maximum(level, norm(torch.where(finite, slope, 0)))
    return finite & (hopeless <= coarse * level)


def _bends(probe: Probe) -> bool:
    """Whether the slopes ahead and behind differ, as at a kink, wherever J v is not the slope."""
    with probe.jacobian.network.held_still(probe.jacobian.device):
        f, x = in_double(probe)
        step = 1e-6 * scale(x) * probe.v[0].to(x)
        here, ahead, behind = (call(f, x + d).detach() for d in (0 * step, step, -step))
    bend, level = (ahead - here) - (here - behind), 1e-3 * (ahead - behind).abs().max()
    bent, central = bend.abs() > level, (ahead - behind) / 2
    if not bent.any():
        return False
    slope, expected = probe.seen(central / (1e-6 * scale(x)), ~bent)
    if probe.jv is None:
        return bool(norm(slope - expected) <= 1e-3 * norm(slope))
    return bool(((slope - expected).abs() * 1e-6 * scale(x) <= level).all())
