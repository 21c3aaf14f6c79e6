"""The named activations against PyTorch's, and what a name may look like."""

import math

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch.nn import functional

from isometry.errors import TheoryError
from isometry.meanfield import NAMES, activation, celu, elu, leaky_relu, prelu

TORCH = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "tanh": torch.tanh,
    "hard_tanh": functional.hardtanh,
    "erf": torch.erf,
    "scaled_erf": lambda x: torch.erf(math.sqrt(math.pi) / 2 * x),
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
    "selu": functional.selu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "mish": functional.mish,
    "sin": torch.sin,
    "softsign": functional.softsign,
    "relu6": functional.relu6,
    "hardswish": functional.hardswish,
    "leaky_relu": functional.leaky_relu,
    "prelu": lambda x: functional.leaky_relu(x, 0.25),
    "elu": functional.elu,
    "celu": functional.celu,
    "leaky_relu(0.3)": lambda x: functional.leaky_relu(x, 0.3),
    "prelu(-0.5)": lambda x: functional.leaky_relu(x, -0.5),
    "elu(2)": lambda x: functional.elu(x, alpha=2.0),
    "celu(0.5)": lambda x: functional.celu(x, alpha=0.5),
}


def test_every_name_is_compared_with_torch():
    assert set(NAMES) == {name for name in TORCH if "(" not in name}


@pytest.mark.parametrize("name", TORCH)
def test_value_and_slope_are_those_of_torch(name):
    x = torch.linspace(-9.0, 9.0, 1003, dtype=torch.float64, requires_grad=True)
    y = TORCH[name](x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    act = activation(name)
    h = x.detach().numpy()
    # torch's softplus is a straight line from 20 on, its softplus slope agrees to 1e-9 below
    assert act.function(h) == pytest.approx(y.detach().numpy(), rel=1e-12, abs=1e-13)
    assert act.derivative(h) == pytest.approx(slope.numpy(), rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_values_stay_finite_far_out_and_odd_means_odd(name):
    act = activation(name)
    h = np.array([-1e6, -800.0, -40.0, -1e-300, 0.0, 1e-300, 40.0, 800.0, 1e6])
    assert np.all(np.isfinite(act.function(h)))
    assert np.all(np.isfinite(act.derivative(h)))
    x = np.linspace(0.01, 5.0, 50)
    symmetric = np.allclose(act.function(-x), -act.function(x), rtol=1e-14, atol=0)
    assert act.odd == symmetric


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "softsign", "hard_tanh"])
def test_an_odd_activation_keeps_its_digits_at_the_origin(name):
    small = activation(name).function(np.array([1e-30]))[0]
    assert small / 1e-30 == pytest.approx(2 / math.sqrt(math.pi) if name == "erf" else 1.0)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Hard-Tanh", "hard_tanh"),
        ("hardtanh", "hard_tanh"),
        ("ReLU", "relu"),
        ("identity", "linear"),
        ("swish", "silu"),
        ("Scaled Erf", "scaled_erf"),
        ("LeakyReLU(0.2)", "leaky_relu(0.2)"),
        ("hard swish", "hardswish"),
        ("ELU", "elu"),
    ],
)
def test_case_spaces_hyphens_and_underscores_do_not_matter(written, name):
    assert activation(written).name == name


def test_one_name_is_one_object():
    assert activation("tanh") is activation("TANH")
    assert activation("leaky_relu(0.2)") is leaky_relu(0.2)
    assert activation(activation("gelu")) is activation("gelu")


def test_parameters_are_what_they_say():
    h = np.array([-2.0, 3.0])
    assert leaky_relu(0.1).function(h).tolist() == [-0.2, 3.0]
    assert prelu(-1.0).function(h).tolist() == [2.0, 3.0]
    assert elu(3.0).function(h) == pytest.approx([3 * math.expm1(-2), 3.0])
    assert celu(2.0).function(h) == pytest.approx([2 * math.expm1(-1), 3.0])
    assert activation("scaled_erf").function(h) == pytest.approx(erf(math.sqrt(math.pi) / 2 * h))


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("tahn", "tanh"), ("geluu", "gelu"), ("leakyrel", "leaky_relu"), ("swich", "silu")],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(wrong, near):
    with pytest.raises(
        TheoryError, match=f"no activation is named '{wrong}'; did you mean '{near}'"
    ):
        activation(wrong)


@pytest.mark.parametrize("wrong", ["nope", "x", "перцептрон", "a" * 500])
def test_nothing_is_suggested_where_nothing_is_near(wrong):
    with pytest.raises(
        TheoryError, match=r"no activation is named .* known: linear, relu"
    ) as caught:
        activation(wrong)
    assert "did you mean" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("relu(2)", 'relu takes no parameter; try "relu"'),
        ("leaky_relu(x)", "the parameter is 'x'; expected a number"),
        ("elu(-1)", "alpha is -1.0; expected a number > 0"),
        ("celu(0)", "alpha is 0.0; expected a number > 0"),
        ("prelu(nan)", "a is nan; expected a finite real number"),
        ("", "no activation is named ''"),
        ("tanh)(", "no activation is named"),
    ],
)
def test_a_bad_parameter_is_refused(wrong, words):
    with pytest.raises(TheoryError) as caught:
        activation(wrong)
    assert words in str(caught.value)
