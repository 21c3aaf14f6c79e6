"""Rows of networks of plain layers, taken on the graph of an ordinary forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from isometry.jacobian import Jacobian, operator
from isometry.jacobian.arguments import all_finite
from isometry.jacobian.modules import _PLAIN
from isometry.jacobian.routes import GraphPullback, Pullback


def _norm(norm, channels):
    norm = norm(channels).double().eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    return norm


# fmt: off
ON_VECTORS = {nn.Linear: nn.Linear(6, 4), nn.Unflatten: nn.Unflatten(1, (2, 3)),
              nn.LayerNorm: nn.LayerNorm(6), nn.PReLU: nn.PReLU()}
ON_IMAGES = {
    nn.Conv1d: (nn.Conv1d(4, 2, 3), 1), nn.Conv2d: (nn.Conv2d(4, 2, 3), 2),
    nn.Conv3d: (nn.Conv3d(4, 2, 3), 3), nn.GroupNorm: (nn.GroupNorm(2, 4), 2),
    nn.BatchNorm1d: (_norm(nn.BatchNorm1d, 4), 1), nn.BatchNorm2d: (_norm(nn.BatchNorm2d, 4), 2),
    nn.BatchNorm3d: (_norm(nn.BatchNorm3d, 4), 3),
    nn.MaxPool1d: (nn.MaxPool1d(2), 1), nn.MaxPool2d: (nn.MaxPool2d(2), 2),
    nn.MaxPool3d: (nn.MaxPool3d(2), 3), nn.AvgPool1d: (nn.AvgPool1d(2), 1),
    nn.AvgPool2d: (nn.AvgPool2d(2), 2), nn.AvgPool3d: (nn.AvgPool3d(2), 3),
    nn.AdaptiveAvgPool1d: (nn.AdaptiveAvgPool1d(2), 1),
    nn.AdaptiveAvgPool2d: (nn.AdaptiveAvgPool2d(2), 2),
    nn.AdaptiveAvgPool3d: (nn.AdaptiveAvgPool3d(2), 3),
}
# fmt: on


def _layer(kind):
    """A layer of that kind between two others, and a point."""
    if kind in ON_IMAGES:
        layer, dimensions = ON_IMAGES[kind]
        net, shape = nn.Sequential(nn.Tanh(), layer, nn.Flatten(2)), (4, *[4] * dimensions)
    else:
        layer = ON_VECTORS.get(kind) or (kind(dim=1) if "oftmax" in kind.__name__ else kind())
        net, shape = nn.Sequential(nn.Linear(6, 6), layer, nn.Softplus()), (6,)
    return net.double(), torch.randn(1, *shape, dtype=torch.float64)


@pytest.mark.parametrize("kind", sorted(_PLAIN, key=str), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_plain_layer_has_the_rows_of_vmap_vjp(kind, batch):
    net, x = _layer(kind)
    x = x.repeat(batch, *[1] * (x.ndim - 1)) + torch.randn(batch, *x.shape[1:]).double()
    u = torch.randn(5, *net(x).shape, dtype=torch.float64)
    fast, slow = GraphPullback(net, x), Pullback(net, x)
    assert torch.allclose(fast(u), slow(u), rtol=1e-13, atol=1e-15)
    assert torch.equal(fast.y, slow.y)


# fmt: off
OPTIONS = [
    (nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular"), (1, 4, 5, 5)),
    (nn.Conv1d(4, 2, 3, padding=1, padding_mode="reflect"), (1, 4, 5)),
    (nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate"), (1, 2, 3, 3, 3)),
    (nn.Conv2d(4, 4, 3, groups=2, stride=2, dilation=2), (1, 4, 7, 7)),
    (nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True), (1, 2, 8, 8)),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (1, 2, 8, 8)),
    (nn.BatchNorm2d(4).train(), (3, 4, 2, 2)), (nn.LayerNorm(4, elementwise_affine=False), (2, 4)),
    (nn.PReLU(4), (1, 4, 3)), (nn.GELU("tanh"), (2, 4)), (nn.Softplus(2, 5), (2, 4)),
    (nn.SiLU(inplace=True), (2, 4)), (nn.ELU(inplace=True), (2, 4)), (nn.Linear(4, 3), (2, 5, 4)),
]
# fmt: on


@pytest.mark.parametrize(("layer", "shape"), OPTIONS, ids=str)
def test_so_have_layers_with_unusual_options(layer, shape):
    net = nn.Sequential(nn.Softsign(), layer, nn.Softplus())
    J = Jacobian(net, torch.randn(shape), self_check=False, train_mode=True)
    u = torch.randn(5, *J.output_shape, dtype=torch.float64)
    with J.session():
        fast, slow = (route(J.f, J.x)(u) for route in (GraphPullback, Pullback))
    assert torch.allclose(fast, slow, rtol=1e-12, atol=1e-14)


def _made(J):
    return type(J._made[Pullback])


def test_plain_networks_take_it_and_those_with_code_of_the_user_do_not():
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x)

    x, hooked, patched = torch.randn(1, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    hooked.register_forward_hook(lambda m, args, out: out * 2)
    patched.forward = lambda x: x * 2
    assert _made(Jacobian(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), x)) is GraphPullback
    for model in (Own(3, 3), hooked, patched, nn.Sequential(nn.Tanh(), Own(3, 2)), torch.tanh):
        assert _made(Jacobian(model, x)) is Pullback


def test_a_wrong_graph_pullback_is_found_by_the_self_check(monkeypatch):
    class Wrong(GraphPullback):
        def __call__(self, u):
            return super().__call__(u) * 1.001

    monkeypatch.setattr(operator, "GraphPullback", Wrong)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double()
    x = torch.randn(1, 4, dtype=torch.float64)
    J = Jacobian(net, x)
    assert J.verify().passed
    assert J.reverse.reasons == ["vmap(vjp) gave wrong products"]
    true = torch.autograd.functional.jacobian(net, x).reshape(4, 4)
    assert torch.allclose(J.dense(), true, rtol=1e-14)


@pytest.mark.parametrize("model", [nn.Tanh(), torch.tanh], ids=["plain", "function"])
def test_the_graph_leads_from_the_output_to_the_point(model):
    J = Jacobian(model, torch.randn(1, 3), self_check=False)
    x, y = J.graph()
    assert torch.equal(x, J.x)
    assert torch.allclose(torch.autograd.grad(y.sum(), x)[0], 1 - torch.tanh(J.x) ** 2)


def test_the_rank_is_bounded_on_the_graph_that_is_there(monkeypatch):
    relu = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    J = Jacobian(relu, torch.randn(1, 5), self_check=False)
    passes = []
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda m, x: (passes.append(1), forward(m, x))[1])
    assert J.graph() == J._made[Pullback].graph
    assert not passes


def test_a_point_without_influence_has_rows_of_zeros():
    rows = GraphPullback(lambda x: torch.ones(2), torch.randn(3))(torch.eye(2))
    assert torch.equal(rows, torch.zeros(2, 3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_value_is_enough(bad):
    t = torch.randn(4, 5, requires_grad=True)
    assert all_finite(t)
    with torch.no_grad():
        t[2, 3] = bad
    assert not all_finite(t)
    assert not all_finite(t.to(torch.bfloat16))
