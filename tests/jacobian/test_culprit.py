"""A value, or a derivative, that is not finite is traced to the layers around it."""

import pytest
import torch
from torch import nn

from isometry import Jacobian, MeasurementError


class Step(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def _infinite(x):
    return x / 0


def _steep(x):
    return (x - x).sqrt() + x


@pytest.mark.parametrize(
    ("function", "place", "words"),
    [
        (_infinite, 0, "first in the output of '0'"),
        (_infinite, 2, "first in the output of '2'"),
        (_steep, 0, "between the input and the output of '0'"),
        (_steep, 1, "between the outputs of '0' and '1'"),
        (_steep, 2, "between the outputs of '1' and '2'"),
    ],
)
def test_the_layer_is_named(function, place, words):
    layers = [nn.Linear(4, 4), nn.Tanh()]
    net = nn.Sequential(*layers[:place], Step(function), *layers[place:])
    with pytest.raises(MeasurementError, match=words):
        Jacobian(net, torch.ones(1, 4)).dense()
    assert not any(m._forward_hooks for m in net.modules())


def test_what_follows_the_last_layer_is_said_so():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return _steep(self.layer(x))

    with pytest.raises(MeasurementError, match="behind the output of 'layer'"):
        Jacobian(Net(), torch.ones(1, 4)).dense()


def test_a_function_has_no_layers_to_name():
    with pytest.raises(MeasurementError, match=r"entries\): look for overflow"):
        Jacobian(_steep, torch.ones(1, 4)).dense()
