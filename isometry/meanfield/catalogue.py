"""The activations that are known by name."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.special import erf, expit, ndtr

from isometry.domain import Array, finite, positive
from isometry.errors import TheoryError
from isometry.meanfield.activation import Activation
from isometry.meanfield.closed_forms import ErrorFunction, Homogeneous, Sine
from isometry.meanfield.piecewise import PiecewiseLinear
from isometry.meanfield.quadrature import gaussian_density

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
_GELU_CUBIC = 0.044715


def _two_slopes(name: str, left: float, right: float) -> Activation:
    return Activation(
        name,
        lambda h: np.where(h > 0, right * h, left * h),
        lambda h: np.where(h > 0, right, left),
        kinks=() if left == right else (0.0,),
        slopes=(left,) if left == right else (left, right),
        odd=left == right,
        closed=Homogeneous(left, right),
    )


def _error_function(name: str, b: float) -> Activation:
    top = 2.0 * b / math.sqrt(math.pi)
    return Activation(
        name,
        lambda h: np.asarray(erf(b * h)),
        lambda h: top * np.exp(-((b * h) ** 2)),
        odd=True,
        closed=ErrorFunction(b),
    )


def _clipped(name: str, low: float, high: float) -> Activation:
    return Activation(
        name,
        lambda h: np.clip(h, low, high),
        lambda h: ((h > low) & (h < high)).astype(float),
        kinks=(low, high),
        slopes=(0.0, 1.0, 0.0),
        odd=low == -high,
        closed=PiecewiseLinear((low, high), (0.0, 1.0, 0.0), 0.0),
    )


def _exponential_unit(name: str, scale: float, alpha: float, width: float) -> Activation:
    """`scale` times h for h > 0, and times alpha (e^{h/width} - 1) below."""

    def function(h: Array) -> Array:
        return scale * np.where(h > 0, h, alpha * np.expm1(np.minimum(h, 0.0) / width))

    def derivative(h: Array) -> Array:
        return scale * np.where(h > 0, 1.0, alpha / width * np.exp(np.minimum(h, 0.0) / width))

    return Activation(name, function, derivative, kinks=(0.0,))


def _silu_slope(h: Array) -> Array:
    return np.asarray(expit(h) * (1.0 + h * expit(-h)))


def _mish(h: Array) -> Array:
    return np.asarray(h * np.tanh(np.logaddexp(0.0, h)))


def _mish_slope(h: Array) -> Array:
    t = np.tanh(np.logaddexp(0.0, h))
    return np.asarray(t + h * expit(h) * (1.0 - t) * (1.0 + t))


def _gelu_tanh_argument(h: Array) -> Array:
    return math.sqrt(2.0 / math.pi) * (h + _GELU_CUBIC * h**3)


def _gelu_tanh(h: Array) -> Array:
    return 0.5 * h * (1.0 + np.tanh(_gelu_tanh_argument(h)))


def _gelu_tanh_slope(h: Array) -> Array:
    t = np.tanh(_gelu_tanh_argument(h))
    inner = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * _GELU_CUBIC * h**2)
    return 0.5 * (1.0 + t) + 0.5 * h * (1.0 - t) * (1.0 + t) * inner


def _hard_swish_slope(h: Array) -> Array:
    return np.where(np.abs(h) < 3.0, (2.0 * h + 3.0) / 6.0, (h > 0).astype(float))


@lru_cache(maxsize=256)
def leaky_relu(a: float = 0.01) -> Activation:
    """max(0, h) + a min(0, h); a = 0 is ReLU, a = 1 is linear."""
    return _two_slopes(f"leaky_relu({finite('a', a):g})", float(a), 1.0)


@lru_cache(maxsize=256)
def prelu(a: float = 0.25) -> Activation:
    """Leaky ReLU with a trained slope a: as a function the same as `leaky_relu(a)`."""
    return _two_slopes(f"prelu({finite('a', a):g})", float(a), 1.0)


@lru_cache(maxsize=256)
def elu(alpha: float = 1.0) -> Activation:
    """The exponential linear unit: h for h > 0, alpha (e^h - 1) below."""
    name = "elu" if positive("alpha", alpha) == 1.0 else f"elu({alpha:g})"
    return _exponential_unit(name, 1.0, float(alpha), 1.0)


@lru_cache(maxsize=256)
def celu(alpha: float = 1.0) -> Activation:
    """The continuously differentiable unit: h for h > 0, alpha (e^{h/alpha} - 1) below."""
    name = "celu" if positive("alpha", alpha) == 1.0 else f"celu({alpha:g})"
    return _exponential_unit(name, 1.0, float(alpha), float(alpha))


_FIXED = (
    _two_slopes("linear", 1.0, 1.0),
    _two_slopes("relu", 0.0, 1.0),
    Activation(
        "tanh", np.tanh, lambda h: 1.0 / np.cosh(np.minimum(np.abs(h), 350.0)) ** 2, odd=True
    ),
    _clipped("hard_tanh", -1.0, 1.0),
    _error_function("erf", 1.0),
    _error_function("scaled_erf", 0.5 * math.sqrt(math.pi)),
    Activation("sigmoid", expit, lambda h: np.asarray(expit(h) * expit(-h))),
    Activation("softplus", lambda h: np.logaddexp(0.0, h), expit),
    _exponential_unit("selu", _SELU_SCALE, _SELU_ALPHA, 1.0),
    Activation(
        "gelu",
        lambda h: np.asarray(h * ndtr(h)),
        lambda h: np.asarray(ndtr(h) + h * gaussian_density(h)),
    ),
    Activation("gelu_tanh", _gelu_tanh, _gelu_tanh_slope),
    Activation("silu", lambda h: np.asarray(h * expit(h)), _silu_slope),
    Activation("mish", _mish, _mish_slope),
    Activation("sin", np.sin, np.cos, odd=True, closed=Sine(), period=math.pi),
    Activation(
        "softsign",
        lambda h: h / (1.0 + np.abs(h)),
        lambda h: 1.0 / (1.0 + np.abs(h)) ** 2,
        kinks=(0.0,),
        odd=True,
    ),
    _clipped("relu6", 0.0, 6.0),
    Activation(
        "hardswish",
        lambda h: h * np.clip(h + 3.0, 0.0, 6.0) / 6.0,
        _hard_swish_slope,
        kinks=(-3.0, 3.0),
    ),
)
_WITH_PARAMETER: dict[str, Callable[..., Activation]] = {
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "elu": elu,
    "celu": celu,
}
_ALIASES = {"identity": "linear", "swish": "silu", "sine": "sin", "erfscaled": "scaled_erf"}

#: every name that `activation` knows; the last four take a parameter, as in "leaky_relu(0.2)"
NAMES = (*(known.name for known in _FIXED), *_WITH_PARAMETER)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower())


_BY_PLAIN_NAME = {_plain(known.name): known for known in _FIXED}
_BY_PLAIN_NAME |= {alias: _BY_PLAIN_NAME[_plain(name)] for alias, name in _ALIASES.items()}
_MAKERS = {_plain(name): maker for name, maker in _WITH_PARAMETER.items()}


def named(name: str) -> Activation:
    """The activation of that name; case, spaces, hyphens and underscores do not matter."""
    match = re.fullmatch(r"([^()]*)(?:\(([^()]*)\))?", name.strip())
    base, parameter = match.groups() if match else (name, None)
    plain = _plain(base)
    if plain in _MAKERS:
        return _MAKERS[plain](*([] if parameter is None else [_number(name, parameter)]))
    if plain in _BY_PLAIN_NAME and parameter is None:
        return _BY_PLAIN_NAME[plain]
    if plain in _BY_PLAIN_NAME:
        raise TheoryError(f'activation {name!r}: {base} takes no parameter; try "{base.strip()}"')
    known = {_plain(known): known for known in NAMES} | _ALIASES
    near = [f"did you mean {known[k]!r}? " for k in difflib.get_close_matches(plain, known, n=1)]
    raise TheoryError(
        f"no activation is named {name!r:.60}; {''.join(near)}known: {', '.join(NAMES)}; "
        "any callable works too"
    )


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise TheoryError(
            f"activation {name!r}: the parameter is {text!r}; expected a number, "
            'as in "leaky_relu(0.2)"'
        ) from None
