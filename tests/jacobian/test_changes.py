"""Whatever the measurement changes of a network's ways is in the notes."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from isometry import Jacobian
from isometry.jacobian.changes import changes_for
from isometry.jacobian.modules import modules_of

X = torch.randn(2, 4)
CPU = torch.device("cpu")


def mlp():
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def compiled(net):
    return torch.compile(net, backend="eager")


class Attending(nn.Linear):
    def forward(self, x):
        q = super().forward(x)[None]
        return F.scaled_dot_product_attention(q, q, q)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (compiled(mlp()), "measured inside OptimizedModule: the network runs as written"),
        (nn.DataParallel(mlp()), "measured inside DataParallel: the network runs as written"),
        (nn.Sequential(compiled(mlp()), nn.Tanh()), "compilation is bypassed"),
        (Attending(4, 4), "attention runs on the plain kernel"),
        (nn.Sequential(mlp(), nn.Dropout()), "Dropout measured in evaluation mode"),
        (nn.LSTM(4, 4), "the LSTM runs without oneDNN"),
    ],
)
def test_a_change_is_noted(net, words):
    assert any(note.startswith(words) for note in Jacobian(net, X).notes)


def test_a_plain_network_needs_no_note():
    assert Jacobian(mlp(), X).notes == []


def test_precision_that_is_raised_is_noted():
    place = torch.backends.mkldnn.matmul
    try:
        place.fp32_precision = "bf16"
        notes = Jacobian(mlp(), X).notes
    finally:
        place.fp32_precision = "none"
    assert notes == ["matrix products are not rounded to TF32 or bfloat16, as PyTorch is set to"]


def test_recurrences_on_a_gpu_leave_cudnn_and_that_is_noted():
    words = "recurrent layers run without cuDNN, which has no forward-mode derivative"
    assert words in changes_for(modules_of(nn.GRU(3, 3)), torch.device("cuda"))
    assert words not in changes_for(modules_of(nn.GRU(3, 3)), CPU)


class Experts(nn.Linear):
    """Configured as mixtures of experts of Hugging Face's are."""

    class Config:
        def __init__(self):
            self._experts_implementation_internal = "grouped_mm"

    def __init__(self):
        super().__init__(4, 4)
        self.config = self.Config()

    def forward(self, x):
        assert self.config._experts_implementation_internal == "batched_mm"
        return super().forward(x)


def test_experts_that_run_otherwise_are_noted():
    net = Experts()
    notes = Jacobian(net, X).notes
    words = "experts run on batched products: grouped ones have no forward-mode derivative"
    assert notes == [words]
    assert net.config._experts_implementation_internal == "grouped_mm"
