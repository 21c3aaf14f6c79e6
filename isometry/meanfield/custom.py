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
from isometry.meanfield.kink import explore
from isometry.meanfield.panels import slope
from isometry.meanfield.piecewise import PiecewiseLinear

#: what `activation` takes
ActivationLike: TypeAlias = str | Activation | Callable[..., Any]

#: where a callable is tried before it is trusted, and in which other order
_TRIAL = np.linspace(-6.0, 6.0, 25)
_SHUFFLED = 7 * np.arange(25) % 25
#: a function that is known so far out is known at every variance
_EVERYWHERE = 1.6e7


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
        A callable's kinks are found from its values, and its derivative from polynomials
        between them, as far as |h| = 1.7e7 or as it is finite and does not vary too fast:
        variances that reach further are refused. Slopes are good to about 1e-12 of the
        largest: where φ is flatter than that, their logarithms are rounding.

    Raises
    ------
    TheoryError
        When no activation has that name, or the callable raises, returns NaN or another
        shape, mixes the elements of its array, has a memory, jumps or is infinitely steep
        somewhere, is good to fewer than 13 digits, or is not a callable at all.

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
    _refuse_unless_pointwise(name, function)
    kinks, ends = explore(function)
    slopes = _piecewise_slopes(function, kinks, ends)
    return Activation(
        name,
        function,
        slope(function, ends) if slopes is None else _steps(kinks, slopes),
        kinks=kinks,
        slopes=slopes,
        odd=_odd(function, ends),
        closed=None if slopes is None else _closed(function, kinks, slopes),
        panels=tuple(ends.tolist()),
    )


def _on_arrays(name: str, call: Callable[..., Any]) -> Pointwise:
    """The callable as a function of float64 vectors: directly, through torch, or one by one."""
    torch = sys.modules.get("torch")  # whoever has a torch callable has imported torch
    if torch is not None and isinstance(call, torch.nn.Module):
        call = copy.deepcopy(call).double().eval()

    def through_torch(h: Array) -> Any:
        if torch is None:
            raise TypeError("not a torch callable")
        return call(torch.from_numpy(h)).detach().numpy()

    def one_by_one(h: Array) -> Any:
        return np.array([float(call(x)) for x in h.tolist()])

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
    raise _raised(name, failures[0]) from failures[0]


def _raised(name: str, error: Exception) -> TheoryError:
    return TheoryError(
        f"the activation {name} raised {type(error).__name__}: {error}; expected a "
        "function from an array, or from a number, to values of the same shape"
    )


def _checked(name: str, function: Pointwise) -> Pointwise:
    """The function with a float64 answer of the right shape, free of NaN."""

    def checked(h: Array) -> Array:
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(function(h.flatten()))
                complex_valued = np.iscomplexobj(value)
                value = value.astype(complex if complex_valued else float)
        except Exception as error:  # as above
            raise _raised(name, error) from error
        if complex_valued:
            raise TheoryError(f"the activation {name} returned complex numbers; expected real ones")
        if value.shape != (h.size,):
            raise TheoryError(
                f"the activation {name} returned shape {value.shape} for an array of shape "
                f"({h.size},); expected the same shape"
            )
        if not bool(np.all(np.isfinite(value))):
            bad = float(h.ravel()[~np.isfinite(value)][0])
            raise TheoryError(
                f"the activation {name} is not finite at {bad:.6g}; expected a finite value at "
                "every real number that the pre-activations reach"
            )
        return value.reshape(h.shape)

    return checked


def _refuse_unless_pointwise(name: str, function: Pointwise) -> None:
    """Raise where a value depends on more than the one number that it belongs to."""
    value = function(_TRIAL)
    if not _same(function(_TRIAL), value):
        raise TheoryError(
            f"the activation {name} returned other values when it was called again; expected a "
            "function without randomness or memory"
        )
    alone = np.concatenate([function(h) for h in _TRIAL[:, None]])
    if not (_same(alone, value) and _same(function(_TRIAL[_SHUFFLED]), value[_SHUFFLED])):
        raise TheoryError(
            f"the activation {name} mixes the elements of an array, as softmax or a mean does; "
            "expected a function of each element by itself"
        )


def _same(one: Array, other: Array) -> bool:
    return bool(np.allclose(one, other, rtol=1e-12, atol=1e-12 * float(np.abs(other).max())))


def _piecewise_slopes(
    function: Pointwise, kinks: tuple[float, ...], ends: Array
) -> tuple[float, ...] | None:
    """The slope of each piece where φ is a straight line between its kinks, however far out."""
    if min(-ends[0], ends[-1]) < _EVERYWHERE:
        return None
    x = np.union1d(ends, 0.5 * (ends[1:] + ends[:-1]))
    slopes = []
    for a, b in pairwise([ends[0], *kinks, ends[-1]]):
        h = x[(x >= a) & (x <= b)]
        y, anchor = function(h), int(np.argmin(np.abs(h)))
        rise = (y[-1] - y[0]) / (h[-1] - h[0]) * h
        line = y[anchor] + (rise - rise[anchor])
        if np.any(np.abs(y - line) > 1e-13 * (np.abs(y) + np.abs(rise) + np.abs(y[anchor]))):
            return None
        slopes.append(float(f"{(y[-1] - y[0]) / (h[-1] - h[0]):.13g}"))
    return tuple(slopes)


def _odd(function: Pointwise, ends: Array) -> bool:
    h = np.concatenate([_TRIAL, ends[np.abs(ends) <= min(-ends[0], ends[-1])]])
    return bool(np.allclose(function(-h), -function(h), rtol=1e-14, atol=1e-300))


def _closed(function: Pointwise, kinks: tuple[float, ...], slopes: tuple[float, ...]) -> ClosedForm:
    at_zero = float(function(np.zeros(1))[0])
    if kinks in ((), (0.0,)) and at_zero == 0.0:
        return Homogeneous(slopes[0], slopes[-1])
    return PiecewiseLinear(kinks, slopes, at_zero)


def _steps(kinks: tuple[float, ...], slopes: tuple[float, ...]) -> Pointwise:
    table = np.array(slopes)
    return lambda h: table[np.searchsorted(np.array(kinks), h)]
