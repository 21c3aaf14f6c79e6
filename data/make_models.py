"""Make the small networks in ``models/``: some that train, and some that cannot.

Run ``python data/make_models.py`` to write the files, or with ``--check`` to rebuild every network
in memory and compare it with its file. Each is built from its own generator, so the order in which
they are built does not matter, and global random state is neither read nor changed.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import skip_init

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.networks import LAYERS, residual_mlp

HERE = Path(__file__).resolve().parent
MODELS = HERE / "models"
WIDTH = 64
DEEP = 50
Q_STAR = 0.02
CHAOTIC_GAIN2 = 6.25
TOLERANCE = 1e-6


def seeded(seed: int) -> torch.Generator:
    """A generator of one network's own."""
    return torch.Generator().manual_seed(seed)


def gauss_hermite_mean(values: Callable[[np.ndarray], np.ndarray], variance: float) -> float:
    """Mean of ``values(h)`` for h normal with that variance."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    return float(weights @ values(np.sqrt(variance) * nodes) / weights.sum())


def tanh_criticality(q_star: float) -> tuple[float, float]:
    """Weight and bias variances at which tanh is critical with fixed point ``q_star``.

    ``sw2 = 1 / E phi'(h)^2`` and ``sb2 = q* - sw2 E phi(h)^2`` with h ~ N(0, q*).
    """
    weight = 1 / gauss_hermite_mean(lambda h: (1 - np.tanh(h) ** 2) ** 2, q_star)
    bias = q_star - weight * gauss_hermite_mean(lambda h: np.tanh(h) ** 2, q_star)
    return weight, bias


def haar(size: int, generator: torch.Generator) -> torch.Tensor:
    """A (size, size) orthogonal matrix from the Haar measure, in double precision."""
    gaussian = torch.randn(size, size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return q * torch.sign(torch.diagonal(r))  # without the signs QR is not Haar


def gaussian(size: int, generator: torch.Generator) -> torch.Tensor:
    """A (size, size) matrix of independent N(0, 1/size) entries, in double precision."""
    return torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5


def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    """A float32 layer with these weights, and no bias (zeros) unless one is given."""
    rows, columns = weight.shape
    layer = skip_init(nn.Linear, columns, rows)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.zeros(rows) if bias is None else bias)
    return layer


def chain(layers: Iterable[nn.Module], activation: type[nn.Module]) -> nn.Sequential:
    """The layers with an activation between each two, and none after the last."""
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [activation(), layer]
    return nn.Sequential(*modules[1:])


def default_linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """What ``nn.Linear`` does by default (uniform, gain 1/sqrt(3)), from our generator."""
    layer = skip_init(nn.Linear, n_in, n_out)
    nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
    nn.init.uniform_(layer.bias, -(n_in**-0.5), n_in**-0.5, generator=generator)
    return layer


def tanh_critical() -> nn.Sequential:
    """Orthogonal tanh chain on the critical line, entered at its fixed point and left at unit gain.

    The digits have second moment 1, so a stem of gain ``sqrt(q*)`` starts at variance q*. Each
    further layer takes a factor phi' and gives sw back; the head gives the last sw, and undoes
    the stem.
    """
    generator = seeded(1)
    weight, bias = tanh_criticality(Q_STAR)

    def hidden() -> nn.Linear:
        noise = torch.randn(WIDTH, generator=generator, dtype=torch.float64)
        return linear(weight**0.5 * haar(WIDTH, generator), bias**0.5 * noise)

    def layers() -> Iterator[nn.Linear]:
        yield linear(Q_STAR**0.5 * haar(WIDTH, generator))
        for _ in range(DEEP - 2):
            yield hidden()
        yield linear((weight / Q_STAR) ** 0.5 * haar(WIDTH, generator))

    return chain(layers(), nn.Tanh)


def tanh_default() -> nn.Sequential:
    """The same architecture as left by PyTorch's defaults."""
    generator = seeded(2)
    return chain((default_linear(WIDTH, WIDTH, generator) for _ in range(DEEP)), nn.Tanh)


def tanh_chaotic() -> nn.Sequential:
    """The same architecture deep in the chaotic phase: Gaussian, sw = 2.5, no bias."""
    generator = seeded(3)
    gain = CHAOTIC_GAIN2**0.5
    return chain((linear(gain * gaussian(WIDTH, generator)) for _ in range(DEEP)), nn.Tanh)


def relu_he() -> nn.Sequential:
    """ReLU, ten layers, He-normal weights."""
    generator = seeded(4)
    return chain((linear(2**0.5 * gaussian(WIDTH, generator)) for _ in range(10)), nn.ReLU)


def relu_orthogonal() -> nn.Sequential:
    """ReLU, eight layers, orthogonal weights of gain sqrt(2)."""
    generator = seeded(5)
    return chain((linear(2**0.5 * haar(WIDTH, generator)) for _ in range(8)), nn.ReLU)


def linear_gaussian() -> nn.Sequential:
    """Four Gaussian layers and nothing between: the law of its spectrum has a closed form."""
    generator = seeded(6)
    return nn.Sequential(*(linear(gaussian(WIDTH, generator)) for _ in range(4)))


def he_conv(n_in: int, n_out: int, stride: int, generator: torch.Generator) -> nn.Conv2d:
    """A 3x3 convolution with He-normal weights (fan in) and no bias (zeros)."""
    layer = skip_init(nn.Conv2d, n_in, n_out, 3, stride=stride, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def cnn() -> nn.Sequential:
    """Four 3x3 convolutions with ReLU, two of stride 2 and no pooling, then ten logits."""
    generator = seeded(7)
    sizes = [(1, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 2)]
    convolutions = [he_conv(*size, generator) for size in sizes]
    head = skip_init(nn.Linear, 32 * 2 * 2, 10)
    nn.init.normal_(head.weight, std=head.in_features**-0.5, generator=generator)
    nn.init.zeros_(head.bias)
    body = [module for layer in convolutions for module in (layer, nn.ReLU())]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *body, nn.Flatten(), head)


def resnet() -> dict[str, torch.Tensor]:
    """State of ``examples.networks:residual_mlp``, no stock module being residual."""
    model = residual_mlp()
    model.reset_parameters(seeded(8))
    return dict(model.state_dict())


def training_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The first 1,500 digits, in double precision."""
    with np.load(HERE / "digits.npz") as digits:
        return torch.from_numpy(digits["x"][:1500]).double(), torch.from_numpy(digits["y"][:1500])


def trained() -> nn.Sequential:
    """A tanh network of two hidden layers after 20 epochs on the digits.

    Trained in double precision and rounded at the end, so that the last bit of a matrix product,
    which differs from one machine to the next, does not reach the file.
    """
    generator = seeded(9)
    sizes = [(WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, 10)]
    model = chain((default_linear(*size, generator) for size in sizes), nn.Tanh).double()
    x, y = training_digits()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        for batch in torch.randperm(len(x), generator=generator).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
    model.zero_grad(set_to_none=True)
    return model.float()


NETWORKS: dict[str, Callable[[], nn.Module | dict[str, torch.Tensor]]] = {
    build.__name__: build
    for build in (
        tanh_critical,
        tanh_default,
        tanh_chaotic,
        relu_he,
        relu_orthogonal,
        linear_gaussian,
        cnn,
        resnet,
        trained,
    )
}


def load(path: Path) -> nn.Module | dict[str, torch.Tensor]:
    """Read a file of this folder; only tensors and the stock layers above may come out of it."""
    with torch.serialization.safe_globals(LAYERS):
        return torch.load(path, weights_only=True)


def state(network: nn.Module | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a network, or of what already is a state."""
    return dict(network.state_dict()) if isinstance(network, nn.Module) else network


def difference(path: Path, network: nn.Module | dict[str, torch.Tensor]) -> float:
    """Largest absolute difference between a file and a network; infinite if their parts differ."""
    if not path.is_file():
        return float("inf")
    stored = load(path)
    here, there = state(network), state(stored)
    if (
        str(network if isinstance(network, nn.Module) else "")
        != str(stored if isinstance(stored, nn.Module) else "")
        or here.keys() != there.keys()
    ):
        return float("inf")
    if any(here[key].shape != there[key].shape for key in here):
        return float("inf")
    return max(float((here[key] - there[key]).abs().max()) for key in here)


def main() -> int:
    """Write the files, or compare them with ``--check``; the exit status is 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    MODELS.mkdir(exist_ok=True)
    worst = 0.0
    for name, build in NETWORKS.items():
        path = MODELS / f"{name}.pt"
        network = build()
        if check:
            gap = difference(path, network)
            worst = max(worst, gap)
            print(f"{path.name}: {'same' if gap <= TOLERANCE else 'DIFFERENT'} ({gap:.1e})")
        else:
            torch.save(network, path)
            print(f"{path.name}: {path.stat().st_size} bytes")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
