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
from isometry.jacobian.difference import (
    COARSE,
    agrees_beside,
    difference_error,
    finer_error,
    in_double,
)
from isometry.jacobian.function import call, weights_not_finite
from isometry.jacobian.placement import dtype_name
from isometry.jacobian.probe import Probe, distance, loose
from isometry.jacobian.products import Products
from isometry.trust import SelfCheck

if TYPE_CHECKING:
    from isometry.jacobian.operator import Jacobian

_TOSSES = 10  # forward passes that must agree where random numbers are drawn
_NOISY = 10  # an error so many times the noise of the products is none of rounding
_ROUNDED = 0.05  # error of J v in float32 that rounding may make, as through chaotic layers
_SHARP = {torch.float64: 2e-6, torch.float32: 5e-4}


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
    with jacobian.session() as s:
        with jacobian.network.remembering():
            repeatable = _repeatable(s, loose(jacobian.dtype))
        probe = Probe.of(jacobian, seed)
        jv, jtu = probe.jv, probe.jtu
        if jv is None and jtu is None:
            return SelfCheck(repeatable, None, None, None, False, ("ISO305",)), ""
        refuse_not_finite(jacobian, *(t for t in (jv, jtu) if t is not None))
        loop = _loop_error(s, probe)
    against_dense = None if dense is None else _dense_error(dense, probe)
    difference, wrong, kink = _difference(probe)
    failures = []
    suspect = ""
    for error in (probe.adjoint_error, against_dense):
        if error is not None and (code := _judged(error, probe, "ISO302")):
            failures.append(code)
            suspect = "reverse" if code == "ISO302" else suspect
    if wrong and difference is not None and (code := _judged(difference, probe, "ISO303")):
        failures.append(code)
        if code == "ISO303":
            suspect = "reverse" if jv is None else "forward"
    if difference is None and loop is not None and (code := _judged(loop, probe, "ISO306")):
        failures.append(code)
        suspect = suspect or ("reverse" if code == "ISO306" else "")
    if not (kink or failures or any(t is not None and t.any() for t in (jv, jtu))):
        failures.append("ISO307")
    if difference is None and jacobian.dtype in (torch.float16, torch.bfloat16):
        failures.append("ISO304")
    if not repeatable:  # then all else follows from it
        failures, suspect = ["ISO301"], ""
    codes = tuple(dict.fromkeys(failures))
    adjoint = probe.adjoint_error
    check = SelfCheck(repeatable, adjoint, against_dense, difference, kink, codes, loop)
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


def _repeatable(s: Products, tolerance: float) -> bool:
    """Whether passes agree: two of them, and more where random numbers are drawn.

    A coin that is tossed can fall the same way twice.
    """
    before = _drawn()
    y = call(s.f, s.x).detach()
    after = _drawn()
    same = torch.equal(before[0], after[0]) and before[1:] == after[1:]
    passes = 1 if same else _TOSSES
    return all(distance(call(s.f, s.x).detach(), y) <= tolerance for _ in range(passes))


def _drawn() -> tuple[Tensor, object, str]:
    """Where the global generators stand."""
    numpy = np.random.get_state(legacy=False)["state"]
    return torch.get_rng_state(), random.getstate(), str(numpy)


def _loop_error(s: Products, probe: Probe) -> float | None:
    """Compare the last row of a block with the same row by itself, through plain autograd.

    The last: where vmap goes wrong it may repeat the first.
    """
    if probe.jtu is None:
        return None
    try:
        alone = s.loop(probe.u[-1:])
    except (Exception, SystemExit):  # whatever is raised where this route does not apply
        return None
    return distance(probe.jtu[-1:], alone)


def _dense_error(dense: Tensor, probe: Probe) -> float | None:
    # Rows come from reverse mode and are tested by a forward product, and the other way round.
    by_rows = dense.shape[0] <= dense.shape[1]
    if probe.jv is not None and (by_rows or probe.jtu is None):
        return distance(dense @ probe.v[0].flatten(), probe.jv[0].flatten())
    if probe.jtu is None:
        return None
    return distance(dense.T @ probe.u[0].flatten(), probe.jtu[0].flatten())


def _judged(error: float, probe: Probe, code: str) -> str:
    """Return the code of an error, that of lost digits where rounding explains it, or none."""
    dtype = probe.x.dtype
    if error <= _SHARP.get(dtype, loose(dtype)):
        return ""
    if error > _NOISY * probe.noise:
        return code
    return "" if error <= loose(dtype) else "ISO307"


def _difference(probe: Probe) -> tuple[float | None, bool, bool]:
    """Return the error against central differences, whether it is one, and whether by a kink."""
    error, disagrees = difference_error(probe)
    if probe.x.dtype == torch.float32:
        if in_double(probe)[0] is probe.jacobian.f:
            finer, wrong, hidden = finer_error(probe)
            if hidden < math.inf:
                _tell(probe, hidden)
                return finer, False, disagrees
            if wrong:
                return finer, True, False
            if not disagrees and error is not None:
                _tell(probe, COARSE)
        elif error is not None and error <= min(_ROUNDED, _NOISY * probe.noise):
            return error, False, False
    kink = disagrees and agrees_beside(probe)
    return error, disagrees and not kink, kink


def _tell(probe: Probe, hidden: float) -> None:
    probe.jacobian.note(
        f"in {dtype_name(probe.x.dtype)}, where differences are rough, an error of the derivative "
        f"below {100 * hidden:.2g} % could pass the self-check"
    )
