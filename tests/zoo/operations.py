"""Single operations of torch between two linear layers: what models are written with by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.case import CUT, RANDOM, Family, quiet

CASES = Family("operations by hand")


class Op(nn.Module):
    """Linear(6 → 9), the operation on a 3 x 3 matrix, flattened."""

    def __init__(self, op) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 9)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        return self.op(self.linear(x).reshape(3, 3)).flatten()


def _spd(a: Tensor) -> Tensor:
    return a @ a.T + torch.eye(3, dtype=a.dtype)


def _routed(a: Tensor) -> Tensor:
    value, index = a.topk(2, dim=-1)
    return torch.zeros_like(a).scatter(-1, index, value.softmax(-1)) * a


def _straight_through(a: Tensor) -> Tensor:
    return a + (a.round() - a).detach()


def _pow_by_loop(a: Tensor) -> Tensor:
    # Python's control flow looks at the numbers; the branch taken is a smooth function.
    n = 0
    while a.norm() < 10 and n < 5:
        a, n = a @ a + a, n + 1
    return a


def _grid(a: Tensor) -> Tensor:
    grid = torch.tanh(a[:, :2]).reshape(1, 1, 3, 2)
    image = torch.arange(25.0, dtype=a.dtype).reshape(1, 1, 5, 5).sin()
    return functional.grid_sample(image, grid, align_corners=False)


def _sampled_image(a: Tensor) -> Tensor:
    theta = torch.tensor([[[0.8, 0.1, 0.05], [-0.2, 0.9, 0.1]]], dtype=a.dtype)
    grid = functional.affine_grid(theta, (1, 1, 4, 4), align_corners=False)
    return functional.grid_sample(a[None, None], grid, align_corners=False)


def _cond(a: Tensor) -> Tensor:
    # Compiles its branches, and PyTorch warns of its own look at a gradient.
    with quiet("The .grad attribute of a Tensor that is not a leaf"):
        return torch.cond(a.sum() > 0, lambda a: a.sin(), lambda a: a.cos(), (a,))


def _jvp(a: Tensor) -> Tensor:
    with quiet("`torch.jit.script"):
        return torch.func.jvp(torch.sin, (a,), (a.T,))[1]


_INDEX = torch.tensor([0, 2, 1, 0])

for _name, _op in {
    "cumsum": lambda a: a.cumsum(-1),
    "cumprod": lambda a: a.cumprod(-1),
    "logcumsumexp": lambda a: a.logcumsumexp(-1),
    "cummax": lambda a: a.cummax(-1).values,
    "logsumexp": lambda a: a.logsumexp(-1),
    "sort": lambda a: a.sort(-1).values,
    "median and kthvalue": lambda a: a.median(-1).values + a.kthvalue(2, -1).values,
    "topk": lambda a: a.topk(2, -1).values,
    "top-k routing by scatter": _routed,
    "gather": lambda a: a.gather(1, a.argsort(-1)) * a,
    "index_select": lambda a: a.index_select(0, _INDEX).sin(),
    "index_add": lambda a: a.index_add(0, _INDEX[:3], a.sin()),
    "index_put": lambda a: a.index_put((_INDEX[:2], _INDEX[1:3]), a[0, :2].exp()),
    "scatter_reduce amax": lambda a: torch.zeros_like(a).scatter_reduce(
        0, _INDEX[:3].expand(3, 3), a, "amax", include_self=False
    ),
    "boolean mask": lambda a: a[torch.eye(3, dtype=torch.bool)].exp(),
    "where": lambda a: torch.where(a > 0, a.exp(), a.sin()),
    "safe where": lambda a: torch.where(a > 0, a.clamp_min(1e-3).log(), a),
    "clamp": lambda a: a.clamp(-0.5, 0.5) + a,
    "maximum and minimum": lambda a: torch.maximum(a, a.T) - torch.minimum(a, 0 * a),
    "amax and argmax": lambda a: a.amax(-1) * nn.functional.one_hot(a.argmax(-1), 3).to(a.dtype),
    "roll, flip, repeat_interleave": lambda a: a.roll(1, 0).flip(1).repeat_interleave(2, 0),
    "as_strided": lambda a: a.as_strided((2, 2, 2), (3, 1, 1)).exp(),
    "unfold": lambda a: a.flatten().unfold(0, 4, 2).square(),
    "tril and diagonal": lambda a: a.tril() + torch.diag_embed(a.diagonal().exp()),
    "einsum": lambda a: torch.einsum("ij,jk,ik->i", a, a, a.sin()),
    "tensordot and kron": lambda a: torch.kron(a, a[:2, :2]).sin(),
    "baddbmm": lambda a: torch.baddbmm(a[None], a[None], a.T[None], beta=0.5),
    "cross": lambda a: torch.linalg.cross(a, a.roll(1, 0)),
    "linalg.solve": lambda a: torch.linalg.solve(_spd(a), a),
    "linalg.inv": lambda a: torch.linalg.inv(_spd(a)),
    "linalg.pinv": lambda a: torch.linalg.pinv(a[:, :2]),
    "linalg.lstsq": lambda a: torch.linalg.lstsq(_spd(a), a).solution,
    "linalg.svdvals": lambda a: torch.linalg.svdvals(a),
    "linalg.svd, gauge-invariant": lambda a: (lambda u, s, v: u * s.exp() @ v)(
        *torch.linalg.svd(a)
    ),
    "linalg.eigh": lambda a: torch.linalg.eigvalsh(_spd(a)),
    "linalg.eigvals, absolute": lambda a: torch.linalg.eigvals(a).abs().sum(),
    "linalg.qr": lambda a: torch.linalg.qr(a).R,
    "linalg.cholesky": lambda a: torch.linalg.cholesky(_spd(a)),
    "linalg.matrix_exp": lambda a: torch.linalg.matrix_exp(a),
    "linalg.slogdet": lambda a: torch.linalg.slogdet(_spd(a)).logabsdet,
    "linalg.matrix_power": lambda a: torch.linalg.matrix_power(a, 3),
    "triangular solve": lambda a: torch.linalg.solve_triangular(_spd(a).tril(), a, upper=False),
    "linalg norms": lambda a: torch.stack([torch.linalg.norm(a, 2), torch.linalg.norm(a, "nuc")]),
    "fft": lambda a: torch.fft.fft2(a).abs(),
    "rfft and irfft": lambda a: torch.fft.irfft(torch.fft.rfft(a.flatten()) * (1 + 2j), n=9),
    "stft": lambda a: torch.view_as_real(
        torch.stft(
            a.flatten().repeat(2), 8, 4, window=torch.ones(8, dtype=a.dtype), return_complex=True
        )
    ),
    "complex exponential": lambda a: (
        torch.exp(1j * a).real * torch.view_as_complex(torch.stack([a, a.T], -1)).abs()
    ),
    "rotary by complex numbers": lambda a: torch.view_as_real(
        torch.view_as_complex(a.flatten()[:8].reshape(4, 2))
        * torch.exp(1j * torch.arange(4, dtype=a.dtype))
    ),
    "special functions": lambda a: torch.erf(a) + torch.lgamma(a.abs() + 1) + torch.special.i0(a),
    "xlogy and log1p": lambda a: torch.xlogy(a.square(), a.square()) + torch.log1p(a.exp()),
    "atan2 and hypot": lambda a: torch.atan2(a, a.T + 3) + torch.hypot(a, a.T + 1),
    "fmod and frac": lambda a: torch.fmod(a, 0.7) + torch.frac(3 * a),
    "norm with eps": lambda a: functional.normalize(a, dim=-1),
    "cosine_similarity": lambda a: functional.cosine_similarity(a[:, None], a[None], dim=-1),
    "pdist": lambda a: functional.pdist(a),
    "grid_sample of a constant image": _grid,
    "grid_sample of the input": _sampled_image,
    "interpolate, antialias": lambda a: functional.interpolate(
        a[None, None], size=(5, 4), mode="bilinear", antialias=True
    ),
    "interpolate, bicubic antialias": lambda a: functional.interpolate(
        a[None, None], size=(2, 2), mode="bicubic", antialias=True
    ),
    "interpolate, area": lambda a: functional.interpolate(a[None, None], size=(2, 2), mode="area"),
    "scaled_dot_product_attention": lambda a: functional.scaled_dot_product_attention(
        a[None, None], a.sin()[None, None], a[None, None]
    ),
    "trapezoid and diff": lambda a: torch.trapezoid(a, dx=0.1) + a.diff(dim=-1).sum(-1),
    "bucketize and lookup": lambda a: (
        a
        * torch.arange(4.0)[
            torch.bucketize(a.detach(), torch.tensor([-0.5, 0.0, 0.5], dtype=a.dtype))
        ].to(a.dtype)
    ),
    "sparse matrix product": lambda a: torch.sparse.mm(
        torch.eye(3, dtype=a.dtype).to_sparse(), a.sin()
    ),
    "vmap inside forward": lambda a: torch.vmap(lambda r: r * r.sum())(a),
    "func.grad inside forward": lambda a: torch.vmap(torch.func.grad(lambda r: r.sin().prod()))(a),
    "func.jacrev inside forward": lambda a: torch.func.jacrev(lambda r: (a @ r).sin())(a[0]),
    "func.jvp inside forward": _jvp,
    "data-dependent loop": _pow_by_loop,
    "NaN hidden by where": lambda a: torch.where(a > 0, a.abs().sqrt(), a),
}.items():
    CASES.add(_name, lambda op=_op: Op(op), (6,))

CASES.add(
    "torch.cond",
    lambda: Op(_cond),
    (6,),
    refused=CUT,
    quick=False,
    why="PyTorch has no derivative of it outside of compiled code",
)

CASES.add(
    "straight-through rounding by detach",
    lambda: Op(_straight_through),
    (6,),
    refused=CUT,
    why="the function is a staircase, its derivative is said to be one",
)
CASES.add(
    "gumbel_softmax in eval",
    lambda: Op(lambda a: functional.gumbel_softmax(a, tau=0.5)),
    (6,),
    refused=RANDOM,
)
CASES.add(
    "reparametrised sample in eval",
    lambda: Op(lambda a: torch.distributions.Normal(a, a.exp()).rsample()),
    (6,),
    refused=RANDOM,
)
