"""What is measured is named in text or by number; all else is refused in words."""

import pytest
import torch
from torch import nn

from isometry import InputError, Jacobian
from isometry.jacobian.selection import Selection

NET = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
X = torch.randn(2, 4)


@pytest.mark.parametrize("name", ["wrt", "output", "at", "start", "stop"])
@pytest.mark.parametrize(
    "value",
    [True, 1.0, b"0", ["0"], (0, 1), torch.tensor(0), NET[0]],
    ids=lambda v: type(v).__name__,
)
def test_what_is_neither_text_nor_a_number_is_refused(name, value):
    words = f"^{name} is of type {type(value).__name__}, expected text or a number: write it as "
    with pytest.raises(InputError, match=words) as error:
        Jacobian(NET, X, **{name: value})
    assert "\n" not in str(error.value)


def test_a_number_is_a_name():
    assert Selection(start=1, stop=2, wrt=0, at=-1) == Selection(
        start="1", stop="2", wrt="0", at="-1"
    )
    whole = Jacobian(NET, X, start="1").dense()
    assert torch.equal(Jacobian(NET, X, start=1).dense(), whole)


def test_a_layer_that_is_not_there_is_refused_by_number_too():
    with pytest.raises(InputError, match="no layer named '3'; near it: '0', '1', '2'"):
        Jacobian(NET, X, start=3)
