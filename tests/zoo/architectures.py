"""Whole networks by hand, one for each idea of the literature."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.case import CUT, Family

CASES = Family("architectures by hand")


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _residual_mlp() -> nn.Module:
    return nn.Sequential(
        *(Residual(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in "123")
    )


CASES.add("residual MLP", _residual_mlp, (1, 8))


class Attention(nn.Module):
    """Attention by F.scaled_dot_product_attention, with fewer key heads than query heads."""

    def __init__(self, heads: int = 2, key_heads: int = 2, *, masked=False, **options) -> None:
        super().__init__()
        self.heads, self.key_heads, self.options = heads, key_heads, options
        self.q, self.out = nn.Linear(8, 8), nn.Linear(8, 8)
        self.kv = nn.Linear(8, 2 * key_heads * (8 // heads))
        mask = torch.tril(torch.ones(4, 4)).log().clamp_min(-9.0) if masked else None
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2 * self.key_heads, -1)).transpose(1, 2).chunk(2, 1)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, **self.options)
        return self.out(y.transpose(1, 2).flatten(2))


def _block(**options) -> nn.Module:
    return nn.Sequential(
        Residual(nn.LayerNorm(8), Attention(**options)),
        Residual(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)),
    )


CASES.add("pre-norm Transformer block", _block, (1, 4, 8))
CASES.add("Transformer block, causal", lambda: _block(is_causal=True), (1, 4, 8))
CASES.add("Transformer block, float mask", lambda: _block(masked=True), (1, 4, 8))
CASES.add(
    "Transformer block, grouped queries",
    lambda: _block(heads=4, key_heads=2, enable_gqa=True, is_causal=True),
    (1, 4, 8),
)


class MixtureOfExperts(nn.Module):
    """Top-2 routing with the weights renormalised; only chosen experts see a token."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 6)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.router(x).softmax(-1).topk(2, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == i)
            out = out.index_add(0, token, weight[token, slot, None] * expert(x[token]))
        return out


CASES.add("mixture of experts, top-2", MixtureOfExperts, (5, 6))


class SelectiveScan(nn.Module):
    """The recurrence of Mamba, as a Python loop."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.rand(4, 3))
        self.project, self.delta = nn.Linear(4, 6), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        b, c = self.project(x).chunk(2, -1)
        delta = functional.softplus(self.delta(x))
        h, ys = x.new_zeros(4, 3), []
        for t in range(len(x)):
            h = torch.exp(-delta[t, :, None] * self.a) * h + (delta[t] * x[t])[:, None] * b[t]
            ys.append(h @ c[t])
        return torch.stack(ys) + x


CASES.add("selective scan", SelectiveScan, (6, 4))


class MessagePassing(nn.Module):
    """A graph network whose messages are summed by index_add."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = nn.Linear(8, 8), nn.Linear(12, 4)
        edges = torch.tensor([[0, 1, 1, 2, 3, 4, 4, 0], [1, 0, 2, 1, 4, 3, 0, 4]])
        self.register_buffer("edges", edges)

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.edges
        m = self.message(torch.cat([x[source], x[target]], -1)).tanh()
        received = x.new_zeros(len(x), 8).index_add(0, target, m)
        return x + self.update(torch.cat([x, received], -1))


CASES.add("message passing", MessagePassing, (5, 4))


class GraphAttention(MessagePassing):
    """The softmax runs over each node's own edges."""

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.edges
        m = self.message(torch.cat([x[source], x[target]], -1))
        e = m.mean(-1).exp()
        total = x.new_zeros(len(x)).scatter_add(0, target, e)
        weighted = m * (e / total[target])[:, None]
        received = x.new_zeros(len(x), 8).index_add(0, target, weighted)
        return self.update(torch.cat([x, received], -1))


CASES.add("graph attention", GraphAttention, (5, 4))


class Equilibrium(nn.Module):
    """z = tanh(W z + U x) by a fixed number of iterations."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(6, 6, bias=False), nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.zeros_like(self.u(x))
        for _ in range(20):
            z = torch.tanh(0.5 * self.w(z) + self.u(x))
        return z


CASES.add("deep equilibrium, 20 iterations", Equilibrium, (1, 5))


class ImplicitEquilibrium(Equilibrium):
    """The fixed point without a graph, and one more step with it: the usual phantom gradient."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = super().forward(x)
        return torch.tanh(0.5 * self.w(z) + self.u(x))


CASES.add(
    "deep equilibrium, phantom gradient",
    ImplicitEquilibrium,
    (1, 5),
    refused=CUT,
    why="the derivative through the fixed point is left out on purpose",
)


class NeuralODE(nn.Module):
    """Classical Runge–Kutta steps."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = 0.25
        for _ in range(4):
            k1 = self.field(x)
            k2 = self.field(x + h / 2 * k1)
            k3 = self.field(x + h / 2 * k2)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + self.field(x + h * k3))
        return x


CASES.add("neural ODE, RK4", NeuralODE, (1, 6))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU())
        self.deep = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        up = self.up(self.deep(functional.max_pool2d(skip, 2)))
        return self.head(torch.cat([skip, up], 1))


CASES.add("U-Net", UNet, (1, 1, 8, 8))


class Dense(nn.Module):
    """Every layer sees all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(2 + 3 * i), nn.ReLU(), nn.Conv2d(2 + 3 * i, 3, 3, 1, 1))
            for i in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x.mean((2, 3))


CASES.add("DenseNet block", Dense, (1, 2, 6, 6))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(4, 2, 1), nn.SiLU(), nn.Conv2d(2, 4, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3), keepdim=True))


CASES.add("squeeze and excite", SqueezeExcite, (1, 4, 4, 4))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(2))
        self.tokens, self.channels = nn.Linear(4, 4), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x + functional.gelu(self.tokens(self.norms[0](x).mT)).mT
        return x + functional.gelu(self.channels(self.norms[1](x)))


CASES.add("MLP-Mixer block", Mixer, (1, 4, 6))


class Hypernetwork(nn.Module):
    """The input makes the weights that are applied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(5, 20)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(self.make(x).tanh().reshape(-1, 4, 5), x[..., None])[..., 0]


CASES.add("hypernetwork", Hypernetwork, (2, 5))


class SpectralConv(nn.Module):
    """The layer of a Fourier neural operator: complex weights on the low modes."""

    def __init__(self) -> None:
        super().__init__()
        # Real and imaginary parts apart, as a complex parameter has no default precision.
        self.parts = nn.Parameter(torch.randn(2, 3, 4, 2) / 4)
        self.local = nn.Conv1d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        modes = torch.fft.rfft(x)[..., :4]
        mixed = torch.einsum(
            "bim,oim->bom",
            modes,
            torch.view_as_complex(self.parts.permute(1, 2, 3, 0).transpose(1, 2).contiguous()),
        )
        return functional.gelu(torch.fft.irfft(mixed, n=x.shape[-1]) + self.local(x))


CASES.add("Fourier neural operator", SpectralConv, (1, 2, 10))


class ComplexInside(nn.Module):
    """Complex weights and a complex nonlinearity, real in and real out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6, dtype=torch.complex128 if _double() else torch.complex64)
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(torch.complex(x, torch.zeros_like(x)))
        return self.last((z * torch.relu(z.abs() - 0.1) / z.abs()).real)


def _double() -> bool:
    return torch.get_default_dtype() == torch.float64


CASES.add("complex-valued layers", ComplexInside, (1, 5))


class Energy(nn.Module):
    """A network that is the gradient of an energy: score model, Hamiltonian, force field."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "func":
            return torch.func.grad(lambda x: self.energy(x).sum())(x)
        with torch.enable_grad():
            if not x.requires_grad:
                x = x.detach().requires_grad_()
            (g,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        if self.how == "hamiltonian":
            dq, dp = g.chunk(2, -1)
            return torch.cat([dp, -dq], -1)
        return -g


CASES.add("score network by autograd.grad", lambda: Energy("score"), (1, 6))
CASES.add("Hamiltonian network by autograd.grad", lambda: Energy("hamiltonian"), (1, 6))
CASES.add("score network by func.grad", lambda: Energy("func"), (1, 6))


class LearnedOptimiser(nn.Module):
    """Unrolled gradient descent on a loss whose data is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(5, 4) / 2)

    def forward(self, y: Tensor) -> Tensor:
        z = y.new_zeros(4)
        for _ in range(5):
            z = functional.softshrink(z - 0.2 * self.matrix.T @ (self.matrix @ z - y), 0.02)
        return z


CASES.add("unrolled ISTA", LearnedOptimiser, (5,))


class Coupling(nn.Module):
    """An affine coupling layer of a normalising flow, with its log-determinant."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, -1)
        scale, shift = self.net(a).chunk(2, -1)
        return torch.cat([a, b * scale.tanh().exp() + shift], -1), scale.tanh().sum(-1)


CASES.add("normalising flow, coupling layer", Coupling, (1, 6))
CASES.add("normalising flow, log-determinant", Coupling, (1, 6), output=1)


class Autoencoder(nn.Module):
    """A variational autoencoder as it is evaluated: the mean instead of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 6), nn.Linear(3, 8)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encode(x).chunk(2, -1)
        if self.training:
            mean = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decode(mean.tanh())


CASES.add("variational autoencoder", Autoencoder, (1, 8))
CASES.add("variational autoencoder, train mode", Autoencoder, (1, 8), train_mode=True)


class VectorQuantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(7, 4))

    def forward(self, x: Tensor) -> Tensor:
        nearest = self.codes[torch.cdist(x, self.codes).argmin(-1)]
        return x + (nearest - x).detach()


CASES.add(
    "vector quantisation, straight through",
    VectorQuantised,
    (3, 4),
    refused=CUT,
    why="the function is locally constant, its derivative is said to be one",
)


class EarlyExit(nn.Module):
    """Stops at the first layer that is sure enough: the depth depends on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x).tanh()
            if self.head(x).softmax(-1).max() > 0.6:
                break
        return self.head(x)


CASES.add("early exit", EarlyExit, (1, 6))


class Siren(nn.Module):
    """Coordinates through sines; a Jacobian larger than that of most networks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 16), nn.Linear(16, 16)])
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        return self.last(x)


CASES.add("SIREN", Siren, (4, 2))


class Kolmogorov(nn.Module):
    """A KAN layer: each edge a sum of Gaussian bumps."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(-2, 2, 5))
        self.weight = nn.Parameter(torch.randn(4, 6, 5) / 3)

    def forward(self, x: Tensor) -> Tensor:
        bumps = torch.exp(-((x[..., None] - self.centres) ** 2))
        return torch.einsum("bic,oic->bo", bumps, self.weight)


CASES.add("Kolmogorov-Arnold layer", Kolmogorov, (1, 6))
