"""Networks of many kinds, each with an input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class LastHidden(nn.Module):
    """A recurrent network read at its last step."""

    def __init__(self, kind, n_in, n_hidden):
        super().__init__()
        self.rnn = kind(n_in, n_hidden, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class Residual(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return x


def _batch_norm(norm, channels):
    norm = norm(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm.eval()


def _cnn():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3, stride=2), nn.Flatten(), nn.Linear(8, 5)
    )


def _plain(x):
    return torch.sin(x) * x.sum(-1, keepdim=True)


def _functional(x):
    weight = torch.linspace(-1, 1, 12, dtype=x.dtype).reshape(4, 3)
    return F.softmax(x @ weight, dim=-1).square()


# fmt: off
NETWORKS = {
    "narrowing MLP": lambda: (nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3)), (1, 7)),
    "widening MLP": lambda: (nn.Sequential(nn.Linear(3, 9), nn.GELU(), nn.Linear(9, 8)), (1, 3)),
    "CNN": lambda: (_cnn(), (1, 1, 8, 8)),
    "LSTM": lambda: (LastHidden(nn.LSTM, 4, 5), (1, 6, 4)),
    "GRU": lambda: (LastHidden(nn.GRU, 4, 5), (1, 6, 4)),
    "transformer": lambda: (nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), (1, 4, 6)),
    "batch norm": lambda: (
        nn.Sequential(nn.Linear(6, 5), _batch_norm(nn.BatchNorm1d, 5), nn.ELU()), (1, 6)),
    "batch norm of images": lambda: (
        nn.Sequential(nn.Conv2d(2, 3, 3), _batch_norm(nn.BatchNorm2d, 3), nn.Tanh()), (1, 2, 5, 5)),
    "residual": lambda: (Residual(6, 3), (1, 6)),
    "several rows": lambda: (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), (5, 3)),
    "function": lambda: (_plain, (2, 4)),
    "function of other shape": lambda: (_functional, (4,)),
}
# fmt: on


@pytest.fixture(params=NETWORKS, ids=lambda name: name.replace(" ", "_"))
def network(request):
    """(model in double and evaluation mode, input in double)."""
    torch.manual_seed(1)
    model, shape = NETWORKS[request.param]()
    if isinstance(model, nn.Module):
        model = model.double().eval()
    return model, torch.randn(shape, dtype=torch.float64)


class Tokens(nn.Module):
    """A convolutional stem made into tokens: where plain reverse mode of PyTorch is wrong."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 2, stride=2)
        self.norm = _batch_norm(nn.BatchNorm2d, 4)
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.norm(self.stem(x)).flatten(2).transpose(1, 2))


@pytest.fixture
def tokens():
    torch.manual_seed(0)
    return Tokens().double().eval(), torch.randn(1, 1, 4, 6, dtype=torch.float64)


@pytest.fixture(scope="session")
def central_differences():
    """The Jacobian column by column, slow and obvious; good to about 1e-9."""

    def jacobian(f, x, h=1e-6):
        columns = []
        with torch.no_grad():
            for i in range(x.numel()):
                e = torch.zeros_like(x).view(-1)
                e[i] = h
                e = e.view_as(x)
                columns.append(((f(x + e) - f(x - e)) / (2 * h)).flatten())
        return torch.stack(columns, dim=1)

    return jacobian
