"""Any callable as an activation."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation, ClosedForm, Pointwise
from isometry.meanfield.catalogue import named
from isometry.meanfield.closed_forms import Homogeneous
from isometry.meanfield.kink import find_kinks
from isometry.meanfield.piecewise import PiecewiseLinear

#: what `activation` takes
ActivationLike: TypeAlias = str | Activation | Callable[..., Any]

#: where a callable is tried before it is trusted
_TRIAL = np.linspace(-6.0, 6.0, 25)
#: central difference of order 8: its error is about (step)^8 φ⁽⁹⁾ / 630
_STEP = 0.02
_CENTRAL = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])


def activation(act: ActivationLike) -> Activation:
    """An activation by name, or from any callable.

    Parameters
    ----------
    act
        A name such as "tanh" or "leaky_relu(0.2)" (`NAMES` lists them; case, spaces,
        hyphens and underscores do not matter); a function of an array or of one number; a
        torch function or module, of which a copy in float64 and evaluation mode is used; or
        an `Activation`, which is returned as it is.

    Returns
    -------
    Activation
        A callable's kinks within |h| <= 32 are found from its values, and its derivative is
        a central difference that never reaches over a kink (about 1e-12).

    Raises
    ------
    TheoryError
        When no activation has that name, or the callable raises, returns NaN or another
        shape, has a jump, or is not a callable at all.

    Examples
    --------
    >>> activation("Hard-Tanh").kinks
    (-1.0, 1.0)
    >>> activation(lambda h: abs(h - 0.5)).kinks
    (0.5,)
    """
    if isinstance(act, Activation):
        return act
    if isinstance(act, str):
        return named(act)
    if not callable(act):
        raise TheoryError(
            f"an activation is {act!r}; expected a name, a callable of an array, or an Activation"
        )
    return _from_callable(act)


def _from_callable(call: Callable[..., Any]) -> Activation:
    name = getattr(call, "__name__", type(call).__name__)
    function = _checked(name, _on_arrays(name, call))
    kinks = find_kinks(function)
    slopes = _piecewise_slopes(function, kinks)
    return Activation(
        name,
        function,
        _difference(function, kinks) if slopes is None else _steps(kinks, slopes),
        kinks=kinks,
        slopes=slopes,
        odd=bool(np.allclose(function(-_TRIAL), -function(_TRIAL), rtol=1e-14, atol=1e-300)),
        closed=None if slopes is None else _closed(function, kinks, slopes),
        custom=True,
    )


def _on_arrays(name: str, call: Callable[..., Any]) -> Pointwise:
    """The callable as a function of float64 arrays: directly, through torch, or one by one."""
    torch = sys.modules.get("torch")  # whoever has a torch callable has imported torch
    if torch is not None and isinstance(call, torch.nn.Module):
        call = copy.deepcopy(call).double().eval()

    def through_torch(h: Array) -> Any:
        if torch is None:
            raise TypeError("not a torch callable")
        return call(torch.from_numpy(h)).detach().numpy()

    def one_by_one(h: Array) -> Any:
        return np.array([float(call(x)) for x in h.ravel().tolist()]).reshape(h.shape)

    failures = []
    for way in (call, through_torch, one_by_one):
        try:
            with np.errstate(all="ignore"):
                shape = np.shape(way(_TRIAL.copy()))
            if shape == _TRIAL.shape:
                return way
            raise TypeError(f"it returned shape {shape} for an array of shape {_TRIAL.shape}")
        except Exception as error:  # somebody else's code may raise anything
            failures.append(error)
    raise TheoryError(
        f"the activation {name} raised {type(failures[0]).__name__}: {failures[0]}; expected a "
        "function from an array, or from a number, to values of the same shape"
    ) from failures[0]


def _checked(name: str, function: Pointwise) -> Pointwise:
    """The function with a float64 answer of the right shape, free of NaN."""

    def checked(h: Array) -> Array:
        with np.errstate(all="ignore"):
            value = np.asarray(function(h))
        if np.iscomplexobj(value):
            raise TheoryError(f"the activation {name} returned complex numbers; expected real ones")
        value = value.astype(float)
        if value.shape != h.shape:
            raise TheoryError(
                f"the activation {name} returned shape {value.shape} for an array of shape "
                f"{h.shape}; expected the same shape"
            )
        if not bool(np.all(np.isfinite(value))):
            bad = float(h[~np.isfinite(value)][0])
            raise TheoryError(
                f"the activation {name} is not finite at {bad:.6g}; expected a finite value at "
                "every real number that the pre-activations reach"
            )
        return value

    checked(_TRIAL)
    return checked


def _difference(function: Pointwise, kinks: tuple[float, ...]) -> Pointwise:
    """φ' by central differences of order 8 whose step shrinks towards a kink."""

    def derivative(h: Array) -> Array:
        step = np.full(h.shape, _STEP)
        for kink in kinks:
            step = np.minimum(step, np.abs(h - kink) / 4.0)
        step = np.maximum(step, 1e-150)
        total = np.zeros(h.shape)
        for k, weight in enumerate(_CENTRAL, start=1):
            total += weight * (function(h + k * step) - function(h - k * step))
        return np.asarray(total / step)

    return derivative


def _piecewise_slopes(function: Pointwise, kinks: tuple[float, ...]) -> tuple[float, ...] | None:
    """The slope of each piece where the function is a straight line between its kinks."""
    ends = [min([0.0, *kinks]) - 32.0, *kinks, max([0.0, *kinks]) + 32.0]
    slopes = []
    for a, b in pairwise(ends):
        x = np.linspace(a, b, 33)
        y = function(x)
        slope = (y[-1] - y[0]) / (b - a)
        if np.max(np.abs(y - (y[0] + slope * (x - a)))) > 1e-12 * max(1.0, np.max(np.abs(y))):
            return None
        slopes.append(round(float(slope), 13))
    return tuple(slopes)


def _closed(function: Pointwise, kinks: tuple[float, ...], slopes: tuple[float, ...]) -> ClosedForm:
    at_zero = float(function(np.zeros(1))[0])
    if kinks in ((), (0.0,)) and at_zero == 0.0:
        return Homogeneous(slopes[0], slopes[-1])
    return PiecewiseLinear(kinks, slopes, at_zero)


def _steps(kinks: tuple[float, ...], slopes: tuple[float, ...]) -> Pointwise:
    table = np.array(slopes)
    return lambda h: table[np.searchsorted(np.array(kinks), h)]
