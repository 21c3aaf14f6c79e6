"""Where PyTorch returns a wrong derivative without a word, and where nothing can be right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.case import CUT, RANDOM, STATEFUL, Family, quiet

CASES = Family("silent errors of PyTorch")


class Tokens(nn.Module):
    """Conv stem, norm, then channels last: the gradient arrives with unusual strides."""

    def __init__(self, norm: nn.Module, how: str, dims: int = 2) -> None:
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.stem = nn.Sequential(conv(2, 3, 2, stride=2), norm)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        if self.how == "flatten":
            return y.flatten(2).transpose(1, 2)
        return y.permute(0, *range(2, y.ndim), 1)


_IMAGE, _VOLUME = (1, 2, 4, 8), (1, 2, 4, 4, 4)

CASES.add("BatchNorm2d, flatten, transpose", lambda: Tokens(nn.BatchNorm2d(3), "flatten"), _IMAGE)
CASES.add(
    "BatchNorm3d, flatten, transpose", lambda: Tokens(nn.BatchNorm3d(3), "flatten", 3), _VOLUME
)
CASES.add(
    "BatchNorm2d, flatten, transpose, train mode",
    lambda: Tokens(nn.BatchNorm2d(3), "flatten"),
    _IMAGE,
    train_mode=True,
)
CASES.add(
    "BatchNorm2d, flatten, transpose, batch of 2",
    lambda: Tokens(nn.BatchNorm2d(3), "flatten"),
    (2, *_IMAGE[1:]),
)
CASES.add("BatchNorm2d, permute", lambda: Tokens(nn.BatchNorm2d(3), "permute"), _IMAGE)
for _how in ("flatten", "permute"):
    CASES.add(
        f"InstanceNorm2d, {_how}",
        lambda how=_how: Tokens(nn.InstanceNorm2d(3, affine=True), how),
        _IMAGE,
    )
CASES.add("GroupNorm, permute", lambda: Tokens(nn.GroupNorm(3, 3), "permute"), _IMAGE)


class Distances(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(5, 4))
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(x, self.centres, p=self.p))


for _p in (1.0, 2.0, 3.0):
    CASES.add(f"torch.cdist, p={_p:g}", lambda p=_p: Distances(p), (1, 3, 4))


def _between(middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), middle, nn.Tanh(), nn.Linear(12, 5))


for _name, _layer in {
    "Dropout": lambda: nn.Dropout(0.4),
    "AlphaDropout": lambda: nn.AlphaDropout(0.3),
    "RReLU": lambda: nn.RReLU(0.1, 0.9),
}.items():
    CASES.add(
        f"{_name} between layers, train mode",
        lambda layer=_layer: _between(layer()),
        (1, 6),
        train_mode=True,
        own_mask=_name == "RReLU",
    )


class LegacySpectralNorm(nn.Sequential):
    def __init__(self) -> None:
        with quiet("`torch.nn.utils.spectral_norm` is deprecated", FutureWarning):
            first = nn.utils.spectral_norm(nn.Linear(6, 8))
        super().__init__(first, nn.Tanh(), nn.Linear(8, 5))


CASES.add("legacy spectral_norm", LegacySpectralNorm, (1, 6))
CASES.add("legacy spectral_norm, train mode", LegacySpectralNorm, (1, 6), train_mode=True)


class Cut(nn.Module):
    """y = W (x + g(x)), where g reaches the output by a way that no derivative takes."""

    def __init__(self, g) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.g = g

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x + self.g(x))


def _under_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.sin()


@torch.inference_mode()
def _under_inference_mode(x: Tensor) -> Tensor:
    return x.sin()


def _by_item(x: Tensor) -> Tensor:
    return x * x.square().sum().item()


def _by_list(x: Tensor) -> Tensor:
    return torch.tensor(x.square().tolist(), dtype=x.dtype)


_WAYS = {
    "no_grad inside forward": _under_no_grad,
    "detach inside forward": lambda x: x.detach().sin(),
    ".data inside forward": lambda x: x.data.sin(),
    ".item() inside forward": _by_item,
    ".tolist() inside forward": _by_list,
    "inference_mode inside forward": _under_inference_mode,
    "NumPy inside forward": lambda x: torch.from_numpy(x.detach().numpy() ** 2),
    "stop-gradient softmax scale": lambda x: x / x.norm().detach(),
}
for _name, _way in _WAYS.items():
    CASES.add(
        _name,
        lambda way=_way: Cut(way),
        (1, 6),
        refused=CUT,
        why="the derivative lacks a term that the function has",
    )


class WhollyCut(nn.Linear):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


CASES.add("forward decorated with no_grad", lambda: WhollyCut(6, 6), (1, 6), refused=CUT)


class Harmless(nn.Module):
    """Cuts whose value does not depend on the input, or not to first order: nothing is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            mask = (x > 0).to(x.dtype)
        y = self.linear(x) * (1 + mask)
        # The usual stable softmax: subtracting the maximum changes nothing.
        e = (y - y.amax(-1, keepdim=True).detach()).exp()
        return e / e.sum(-1, keepdim=True)


CASES.add("no_grad mask and detached maximum (harmless)", Harmless, (1, 6))


class Random(nn.Module):
    def __init__(self, noise) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        return self.noise(self.linear(x))


_NOISES = {
    "additive noise in eval": lambda y: y + torch.randn_like(y),
    "multiplicative noise in eval": lambda y: y * torch.rand(y.shape, dtype=y.dtype),
    "F.dropout that ignores eval": lambda y: nn.functional.dropout(y, 0.5),
    "stochastic depth by torch.rand in eval": lambda y: y if torch.rand(()) < 0.5 else y.tanh(),
}
for _name, _noise in _NOISES.items():
    CASES.add(
        _name,
        lambda noise=_noise: Random(noise),
        (1, 6),
        refused=RANDOM,
        why="two calls are two functions",
    )


class Counting(nn.Module):
    """A state outside of parameters and buffers: each call is another function."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x) * self.calls


CASES.add("a counter as plain attribute", Counting, (1, 6), refused=STATEFUL)


class OwnGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y + torch.randn(y.shape, generator=self.generator, dtype=y.dtype)


CASES.add("noise from a generator of its own", OwnGenerator, (1, 6), refused=RANDOM)


class Running(nn.Module):
    """A buffer that every call moves, also in eval; the first call from it is one function."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.add_(0.1)
        return self.linear(x - self.mean).tanh()


CASES.add("a buffer updated in eval", Running, (1, 6))
