"""The inverse of an increasing function, at many points together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from isometry.domain import Array
from isometry.errors import TheoryError

_MAX_STEPS = 200
_EPS = float(np.finfo(float).eps)


def invert(
    function: Callable[[Array], tuple[Array, Array]],
    target: Array,
    low: Array,
    high: Array,
    *,
    tolerance: Array | float,
) -> Array:
    """Solve f(x) = target for an increasing f, by Newton's method inside a shrinking bracket.

    Parameters
    ----------
    function : callable
        x -> (f(x), f'(x)), elementwise on arrays of shape (k,) for any k.
    target, low, high : (n,) arrays
        f(low) <= target <= f(high) is assumed.
    tolerance : float or (n,) array
        A point is done when |f(x) - target| is no larger, or its bracket is down to rounding.

    Raises
    ------
    TheoryError
        When some point is not done after 200 steps.
    """
    low, high = low.astype(float), high.astype(float)
    tolerance = np.broadcast_to(np.asarray(tolerance, dtype=float), target.shape)
    root = 0.5 * (low + high)
    active = np.arange(target.size)
    for step in range(_MAX_STEPS):
        if active.size == 0:
            return root
        x = root[active]
        value, slope = function(x)
        miss = value - target[active]
        low[active] = np.where(miss <= 0, x, low[active])
        high[active] = np.where(miss >= 0, x, high[active])
        lo, hi = low[active], high[active]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            trial = x - miss / slope
        # every fourth step halves the bracket, so rounding noise in f cannot stall the search
        inside = (trial > lo) & (trial < hi) & (step % 4 != 3)
        root[active] = np.where(miss == 0, x, np.where(inside, trial, 0.5 * (lo + hi)))
        done = (np.abs(miss) <= tolerance[active]) | (hi - lo <= 2 * _EPS * (1 + np.abs(x)))
        root[active[done]] = x[done]
        active = active[~done]
    raise TheoryError(
        f"the inverse of a monotone function did not settle at {active.size} of {target.size} "
        f"points in {_MAX_STEPS} steps; please report the law that was asked for"
    )
