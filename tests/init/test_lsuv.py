"""Scales from data: every layer gives the variance wanted, and nothing else changes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from isometry.errors import InputError
from isometry.init import lsuv_, orthogonal_


def variances(model, x):
    """Of the output of every linear layer and convolution, in evaluation mode."""
    found, hooks = {}, []
    for name, m in model.named_modules():
        if getattr(m, "weight", None) is not None and m.weight.ndim > 1:
            hooks.append(
                m.register_forward_hook(
                    lambda m, a, y, name=name: found.update({name: float(y.var(correction=0))})
                )
            )
    with torch.no_grad():
        copy.deepcopy(model).eval()(x)
    for h in hooks:
        h.remove()
    return found


def dense():
    return nn.Sequential(
        nn.Linear(10, 40), nn.Tanh(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5)
    )


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.GELU(),
        nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2),
        nn.Flatten(),
        nn.LazyLinear(6, bias=False),
    )


@pytest.mark.parametrize("wanted", [1.0, 0.3, 7.0])
@pytest.mark.parametrize(("make", "shape"), [(dense, (64, 10)), (convolutional, (16, 3, 9, 9))])
def test_every_layer_gives_the_variance_wanted(make, shape, wanted):
    model, x = make(), 5.0 * torch.randn(*shape) + 1.0
    model(x)
    factors = lsuv_(model, x, variance=wanted)
    found = variances(model, x)
    assert set(factors) == set(found)
    assert found == {name: pytest.approx(wanted, rel=1e-4) for name in factors}


def test_factors_are_those_of_the_weights_and_in_the_order_of_the_pass():
    model, x = dense(), torch.randn(50, 10)
    before = copy.deepcopy(model)
    factors = lsuv_(model, x)
    assert list(factors) == ["0", "2", "4"]
    for name, factor in factors.items():
        torch.testing.assert_close(model[int(name)].weight, factor * before[int(name)].weight)


def test_a_second_time_there_is_nothing_to_scale():
    model, x = dense(), torch.randn(50, 10)
    lsuv_(model, x)
    assert list(lsuv_(model, x).values()) == [pytest.approx(1.0, abs=1e-5)] * 3


def test_biases_count_with_the_signal_that_they_meet():
    layer, x = nn.Linear(1, 2), torch.tensor([[1.0], [1.2]])
    with torch.no_grad():
        layer.weight[:, 0] = torch.tensor([2.0, -1.0])
        layer.bias[:] = torch.tensor([0.5, -0.5])
    lsuv_(layer, x, variance=4.0)
    assert float(layer(x).detach().var(correction=0)) == pytest.approx(4.0, rel=1e-6)


def test_nothing_but_weights_changes(traces):
    model, x = convolutional().train(), torch.randn(4, 3, 9, 9)
    model(x)
    before = traces(model)
    lsuv_(model, x)
    after = traces(model)
    changed = {k for k in before if before[k] != after[k]}
    assert changed == {"0.weight", "3.weight", "5.weight"}


def test_a_layer_that_runs_twice_is_scaled_once():
    layer = nn.Linear(6, 6, bias=False)
    model, x = nn.Sequential(layer, nn.Tanh(), layer), torch.randn(20, 6)
    factors = lsuv_(model, x)
    assert list(factors) == ["0"]
    assert float(layer(x).detach().var(correction=0)) == pytest.approx(1.0, rel=1e-5)


def test_named_arguments_and_named_layers():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(2, 2)

        def forward(self, a, b):
            return self.left(a) + self.right(b)

    model, x = Two(), torch.randn(9, 4)
    unused = model.unused.weight.clone()
    assert set(lsuv_(model, {"a": x, "b": x})) == {"left", "right"}
    assert torch.equal(model.unused.weight, unused)
    assert list(lsuv_(model, (x, x), layers=["right"])) == ["right"]


def test_half_precision():
    model, x = dense().bfloat16(), torch.randn(200, 10).bfloat16()
    lsuv_(model, x)
    found = variances(model.float(), x.float())
    assert found == {name: pytest.approx(1.0, rel=0.02) for name in found}


def frozen(model):
    model[2].weight.requires_grad_(False)


def parametrised(model):
    weight_norm(model[2])


def shared(model):
    model[2].weight = model.append(nn.Linear(40, 40))[-1].weight


def without_values(model):
    model[2].to("meta")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (frozen, "layer '2' is frozen"),
        (parametrised, "layer '2' is parametrised"),
        (shared, "layer '2' shares its weight"),
        (without_values, "layer '2' has a weight without values"),
    ],
)
def test_a_layer_that_cannot_be_scaled_is_named(spoil, words):
    model = dense()
    spoil(model)
    before = model[0].weight.clone()
    with pytest.raises(InputError, match=words):
        lsuv_(model, torch.randn(5, 10))
    assert torch.equal(model[0].weight, before)


def loud(model):
    model.append(nn.Linear(3, 3))


def constant(model):
    nn.init.zeros_(model[4].weight)


def biased(model):
    nn.init.normal_(model[4].bias, std=30.0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (loud, "the network raised RuntimeError: mat1 and mat2"),
        (constant, "the output of layer '4' has variance 0"),
        (biased, "the bias of layer '4' alone has variance"),
    ],
)
def test_what_fails_half_way_leaves_the_model_as_it_was(spoil, words, traces):
    model = dense().train()
    spoil(model)
    weights = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=words) as caught:
        lsuv_(model, torch.randn(5, 10))
    assert "\n" not in str(caught.value)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])
    assert all(m.training and not m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (nn.ReLU(), {}, "no linear layer or convolution ran"),
        (dense(), {"layers": ["6"]}, "is called '6'; there is"),
        (dense(), {"variance": 0.0}, "variance is 0.0; expected a number > 0"),
        (lambda x: x, {}, "the model is a function; expected a torch.nn.Module"),
    ],
)
def test_arguments_that_make_no_sense(model, options, words):
    with pytest.raises(InputError, match=words):
        lsuv_(model, torch.randn(5, 10), **options)


def test_orthogonal_weights_stay_orthogonal():
    model = nn.Sequential(nn.Linear(12, 12, bias=False), nn.Tanh(), nn.Linear(12, 12, bias=False))
    for layer in model[::2]:
        orthogonal_(layer.weight)
    for name, factor in lsuv_(model, torch.randn(80, 12)).items():
        w = model[int(name)].weight
        torch.testing.assert_close(w @ w.T, factor**2 * torch.eye(12))
