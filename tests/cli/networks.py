"""Networks that misbehave, copied into the working directory and named as ``networks:Name``."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Base(nn.Module):
    """What most of them share: one layer of eight units."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)


class NeedsAnArgument(Base):
    def __init__(self, depth):
        super().__init__()


class Fails(Base):
    def __init__(self):
        raise ValueError("no such depth")


def words():
    return "a network"


class TwoArguments(nn.Module):
    def forward(self, x, other):
        return x.tanh() * other


class Outputs(Base):
    """Two tensors in whatever container is asked for."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        hidden = self.layer(x)
        logits = hidden[:, :3].tanh()
        return {
            "dict": lambda: {"hidden": hidden, "logits": logits},
            "tuple": lambda: (hidden, logits),
            "dataclass": lambda: Pair(hidden, logits),
            "nested": lambda: {"layers": [hidden, logits]},
            "none": lambda: None,
            "text": lambda: "hello",
            "texts": lambda: ["hello", "world"],
            "texts inside": lambda: {"name": "x", "classes": ["cat", "dog"]},
            "generator": lambda: (row for row in hidden),
            "numpy": lambda: hidden.detach().numpy(),
            "float": lambda: 3.5,
        }[self.kind]()


@dataclass
class Pair:
    hidden: Tensor
    logits: Tensor


class Steps(nn.Module):
    """One step of code among layers with names, to be found as the culprit."""

    def __init__(self, code, *, train=False):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        self.middle = Expression(code)
        self.train(train)

    def forward(self, x):
        return self.last(self.middle(self.first(x)))


class Expression(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.code = code

    def forward(self, x):
        return eval(self.code, globals(), {"x": x})


class InPlace(Base):
    """Writes to its own input."""

    def forward(self, x):
        return self.layer(x.mul_(2).tanh_())


class NoGrad(Base):
    def forward(self, x):
        with torch.no_grad():
            gate = self.layer(x).sigmoid()
        return gate * x


class Detached(Base):
    def forward(self, x):
        return self.layer(x).detach()


class Item(Base):
    def forward(self, x):
        return self.layer(x) * x.norm().item()


class Counting(Base):
    """Changes its own state in every pass."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return self.layer(x) * self.passes


class Noisy(Base):
    def forward(self, x):
        return self.layer(x) + torch.randn_like(x)


class Checkpointed(Base):
    def forward(self, x):
        return checkpoint(self.layer, x, use_reentrant=True)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class OldFunction(Base):
    """An autograd function as written before torch.func: no vmap, no forward mode."""

    def forward(self, x):
        return _Doubled.apply(self.layer(x))


class Twice(Base):
    """Runs one layer two times."""

    def forward(self, x):
        return self.layer(self.layer(x).tanh())


class Tokens(nn.Module):
    """Each position depends on those before it; every copy has the same weights."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.first, self.last = (
                nn.Embedding(11, 4),
                nn.Linear(4, 5),
                nn.Linear(5, 4),
            )

    def forward(self, ids):
        return self.last(self.first(self.embed(ids).cumsum(1)).tanh())


class LeavesPyTorch(Base):
    def forward(self, x):
        return torch.from_numpy(self.layer(x).detach().numpy())


class Recursive(Base):
    def forward(self, x):
        return self.forward(x)


def spectral():
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 8)), nn.Tanh())


def parametrized_spectral():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Tanh())


def not_a_number():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    net[1].weight.data[0, 0] = float("nan")
    return net


def dropout():
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))


def dropout_alone():
    return nn.Dropout(0.5)


def batch_norm():
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))


def rrelu():
    return nn.Sequential(nn.Linear(8, 8), nn.RReLU())


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.Linear(8, 8), torch.ao.nn.quantized.dynamic.Linear(8, 8))


def two_devices():
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8, device="meta"))


def meta():
    return nn.Linear(8, 8, device="meta")


def lazy():
    return nn.Sequential(nn.LazyLinear(8))


def halves(kind="bfloat16"):
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh()).to(getattr(torch, kind))


def deep(depth=10_000):
    """A deep network of turns in the plane."""
    layers = [nn.Linear(2, 2, bias=False) for _ in range(depth)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))
    return nn.Sequential(*layers)


def nested(depth=2_000):
    """A network of boxes in boxes, each with one layer."""
    net = nn.Linear(8, 8)
    for _ in range(depth):
        net = nn.Sequential(net)
    return net


def odd_names():
    net = nn.Sequential()
    for name in ("слой σ", "new\nline", "\x1b[31mred", "<b>", "空"):
        net.add_module(name, nn.Linear(8, 8))
    return net
