"""The way through a network, cut into blocks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from isometry import MeasurementError
from isometry.anatomy import blocks, record
from isometry.jacobian import Jacobian


def cut(model, *shape):
    """Blocks of a model; that their Jacobians multiply to the whole is asserted every time."""
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    if isinstance(model, nn.Module):
        model = model.double().eval()
    jacobian = Jacobian(model, x, self_check=False)
    with jacobian.session():
        found = blocks(record(jacobian)).blocks
        whole = torch.eye(x.numel(), dtype=torch.float64)
        for block in found:
            whole = dense(block) @ whole
            assert block.shape == dense(block).shape
        assert torch.allclose(whole, jacobian.dense(), atol=1e-10)
    return found


def dense(block):
    jacobian = torch.autograd.functional.jacobian(block.function, block.point)
    return jacobian.reshape(-1, block.point.numel())


def kinds(found):
    return [(b.kind, b.name) for b in found]


def test_a_chain_is_weights_and_activations():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    found = cut(net, 1, 3)
    assert kinds(found) == [("weight", "0"), ("activation", "1"), ("weight", "2")]
    assert torch.equal(found[0].matrix, net[0].weight)
    assert torch.allclose(found[1].slopes, 1 - torch.tanh(found[1].point) ** 2)


@pytest.mark.parametrize(
    "multiply",
    [
        lambda x, w: functional.linear(x, w.T),
        lambda x, w: x @ w,
        lambda x, w: torch.matmul(x, w),
        lambda x, w: torch.mm(x, w),
        lambda x, w: torch.addmm(torch.ones(4, dtype=x.dtype), x, w),
        lambda x, w: torch.einsum("bi,ij->bj", x, w),
        lambda x, w: torch.einsum("ij,...i->...j", w, x),
        lambda x, w: torch.tensordot(x, w, 1),
        lambda x, w: functional.linear(x, weight=w.T, bias=w[0]),
        lambda x, w: w.T @ x[0],
        lambda x, w: w.T @ x.T,
    ],
)
def test_a_product_by_any_call_is_a_weight(multiply):
    w = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    (found,) = cut(lambda x: multiply(x, w), 1, 3)
    assert found.kind == "weight"
    assert torch.equal(found.matrix, w.T)


@pytest.mark.parametrize(
    "multiply",
    [
        lambda x, w: x @ x,
        lambda x, w: w @ x,
        lambda x, w: torch.addmm(x, w, w),
        lambda x, w: torch.matmul(x, w[0]),
        lambda x, w: torch.einsum("bi,ij,jk->bk", x, w, w),
        lambda x, w: torch.nn.functional.bilinear(x, x, w[None]),
    ],
)
def test_a_product_by_the_input_or_from_the_left_is_no_weight(multiply):
    w = torch.randn(3, 3, dtype=torch.float64)
    assert "weight" not in [b.kind for b in cut(lambda x: multiply(x, w), 3, 3)]


@pytest.mark.parametrize(
    "function",
    [torch.relu, torch.sin, lambda x: x * torch.sigmoid(x), lambda x: 3 * x, torch.abs,
     lambda x: x**3, lambda x: torch.where(x > 0, x, 0.1 * x), lambda x: x.clamp(-1, 1)],
)  # fmt: skip
def test_whatever_acts_entry_by_entry_is_an_activation(function):
    found = cut(function, 1, 6)
    assert [b.kind for b in found] == ["activation"]
    assert found[0].elementwise
    assert torch.allclose(torch.diag(found[0].slopes.flatten()), dense(found[0]))


def test_neighbouring_diagonals_are_one():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    net[1].running_var.fill_(4)
    found = cut(net, 1, 2, 5, 5)
    assert kinds(found) == [("weight", "0"), ("activation", "1 + 2")]
    assert set(found[1].slopes.unique().round(decimals=4).tolist()) == {0.0, 0.5}


@pytest.mark.parametrize(
    "nothing",
    [nn.Identity(), nn.Dropout(), nn.Flatten(), nn.Unflatten(1, (2, 3))],
)
def test_what_does_nothing_is_left_out(nothing):
    assert cut(nn.Sequential(nn.Linear(6, 6), nothing), 1, 6)[1:] == ()


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x[:, 2:5], (3, 6)),
        (lambda x: torch.cat([x, torch.ones(1, 2, dtype=x.dtype)], 1), (8, 6)),
        (lambda x: functional.pad(x, (1, 2)), (9, 6)),
        (lambda x: x[:, [4, 1]], (2, 6)),
        (lambda x: x.sort(-1, descending=True).values[:, :2], (2, 6)),
        (lambda x: functional.max_pool1d(x[None], 2)[0], (3, 6)),
    ],
)
def test_what_selects_or_pads_is_routing(function, shape):
    found = cut(function, 1, 6)
    assert [b.kind for b in found] == ["routing"]
    assert found[0].shape == shape
    assert torch.equal(found[0].slopes, torch.ones(min(shape), dtype=torch.float64))


@pytest.mark.parametrize("repeat", [lambda x: torch.cat([x, x], 1), lambda x: x.mean(1)])
def test_what_repeats_or_averages_entries_is_no_routing(repeat):
    assert [b.kind for b in cut(repeat, 1, 6)] == ["opaque"]


def test_an_activation_behind_a_selection_keeps_the_slopes_that_are_left():
    (found,) = cut(lambda x: torch.sin(x)[:, 1:4], 1, 6)
    assert (found.kind, found.shape, found.elementwise) == ("activation", (3, 6), False)
    assert torch.allclose(found.slopes.sort().values, found.point.cos()[0, 1:4].sort().values)


@pytest.mark.parametrize(
    "kind", [nn.LayerNorm(6), nn.RMSNorm(6), nn.GroupNorm(2, 6), nn.Softmax(1)]
)
def test_normalisations_are_told(kind):
    assert "normalisation" in [b.kind for b in cut(kind, 1, 6)]


def own_norm(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class InFloat32(nn.Module):
    def forward(self, x):
        return own_norm(x.float()).to(x.dtype)


@pytest.mark.parametrize(
    "norm",
    [
        own_norm,
        lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt(),
        lambda x: functional.normalize(x, dim=-1),
        lambda x: own_norm(1e-2 * x),
        InFloat32(),
    ],
)
def test_a_norm_of_the_last_dimension_is_told_whatever_it_is_called(norm):
    # Only float64 all through multiplies to the Jacobian to the precision that `cut` asserts.
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    jacobian = Jacobian(norm, x, self_check=False)
    with jacobian.session():
        found = blocks(record(jacobian)).blocks
    assert "normalisation" in [b.kind for b in found]
    assert {b.kind for b in found} <= {"normalisation", "activation"}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / x.norm(),  # of all positions at once
        lambda x: x * x.sum(-1, keepdim=True),
        lambda x: torch.tanh(9 * x.sum(-1, keepdim=True)) + x.cumsum(-1) * 0,  # saturates
        lambda x: x / (100 + x.pow(2).mean(-1, keepdim=True)).sqrt(),  # what is added rules
    ],
)
def test_what_sees_the_scale_of_a_position_is_no_norm(function):
    assert "normalisation" not in [b.kind for b in cut(function, 2, 3, 6)]


class Skip(nn.Module):
    def __init__(self, scale=1.0, outer=1.0):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 4)
        self.scale, self.outer = scale, outer

    def forward(self, x):
        return self.outer * x + self.scale * self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_skip_is_a_sum_of_two_ways(scale):
    (found,) = cut(nn.Sequential(Skip(scale)), 1, 4)
    assert found.kind == "sum"
    branch = next(way for way in found.ways if way)
    assert [b.kind for b in branch][:3] == ["weight", "activation", "weight"]
    assert () in found.ways
    assert found.skip == 1


def test_a_scaled_skip_has_its_scale():
    (found,) = cut(nn.Sequential(Skip(1.0, 0.5)), 1, 4)
    assert found.kind == "sum"
    assert () not in found.ways
    assert found.skip == 0.5


def test_neither_two_branches_nor_a_mask_are_a_skip():
    a, b = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    mask = torch.tensor([1.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    for forward in (lambda x: a(x) + b(x), lambda x: mask * x + a(x)):
        (found,) = cut(forward, 1, 4)
        assert (found.kind, found.skip) == ("sum", None)


class Layer(nn.Module):
    """Two sums in one module, the second behind an activation that is no module."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.attention, self.mlp = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.scale = scale

    def forward(self, x):
        x = self.scale * x + self.attention(x)
        return x + torch.relu(self.mlp(x))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_sums_of_one_module_are_named_after_their_branches(scale):
    found = cut(nn.Sequential(Layer(scale), Layer(scale)), 1, 4)
    of_one = ["attention + skip", "mlp + skip"]
    assert [b.name for b in found] == [f"{i}.{name}" for i in range(2) for name in of_one]
    assert [b.name for b in cut(Layer(scale), 1, 4)] == of_one


def test_a_branch_used_twice_still_gives_two_names():
    class Twice(Layer):
        def forward(self, x):
            x = x + self.mlp(x)
            return x + self.mlp(x)

    names = [b.name for b in cut(nn.Sequential(Twice()), 1, 4)]
    assert names == ["0.mlp + skip", "0.mlp + skip (2)"]


def test_an_addition_in_place_counts_too():
    linear = nn.Linear(4, 4).double()

    def forward(x):
        y = linear(x)
        y += x
        return y

    (found,) = cut(forward, 1, 4)
    assert found.kind == "sum"
    assert () in found.ways


def test_skips_inside_of_skips():
    inner = Skip().double()
    (found,) = cut(lambda x: x + torch.sin(inner(torch.cos(x))), 1, 4)
    branch = next(way for way in found.ways if way)
    assert [b.kind for b in branch] == ["activation", "sum", "activation"]


def test_two_ways_that_share_more_than_their_start_are_opaque():
    a = nn.Linear(4, 4).double()

    def forward(x):
        h = a(x)
        return torch.sin(h) * x + h

    assert [b.kind for b in cut(forward, 1, 4)] == ["opaque"]


def test_products_of_two_ways_are_opaque():
    a, b = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    assert [k.kind for k in cut(lambda x: a(x) * torch.sigmoid(b(x)), 1, 4)] == ["opaque"]


def test_a_weight_used_twice_is_two_blocks_of_two_names():
    layer = nn.Linear(4, 4)
    found = cut(nn.Sequential(layer, nn.Tanh(), layer), 1, 4)
    assert [b.kind for b in found] == ["weight", "activation", "weight"]
    assert len({b.name for b in found}) == 3


def test_a_tied_weight_is_read_transposed():
    layer = nn.Linear(3, 5, bias=False).double()
    found = cut(lambda x: torch.tanh(layer(x)) @ layer.weight, 1, 3)
    assert torch.equal(found[-1].matrix, layer.weight.T)


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
def test_padding_belongs_to_its_convolution(mode):
    (found,) = cut(nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode), 1, 2, 4, 4)
    assert found.kind == "weight"
    assert found.shape == (48, 32)
    assert found.circular == (mode == "circular")


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv1d(2, 3, 3, stride=2), (1, 2, 9)),
        (nn.Conv2d(4, 4, 3, groups=4, padding=1), (1, 4, 4, 4)),
        (nn.Conv2d(2, 2, 3, dilation=2), (1, 2, 6, 6)),
        (nn.Conv3d(1, 2, 2), (1, 1, 3, 3, 3)),
    ],
)
def test_convolutions_carry_their_kernel(conv, shape):
    (found,) = cut(conv, *shape)
    assert torch.equal(found.kernel, conv.weight)


def test_a_transposed_convolution_is_a_weight_without_a_kernel_of_ours():
    net = nn.ConvTranspose2d(2, 4, 2, stride=2)
    (found,) = cut(net, 1, 2, 3, 3)
    assert found.kind == "weight"
    assert found.kernel is None
    assert torch.equal(found.transposed, net.weight)


def test_names_are_printable_whatever_modules_are_called():
    net = nn.Sequential()
    net.add_module("new\nline", nn.Linear(3, 3))
    net.add_module("\x1b[31mred", nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    for block in cut(net, 1, 3):
        assert block.name.isprintable()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_module_is_in_the_block_of_the_module_around_it():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Tanh()))

        def forward(self, x):
            return self.inner(x)

    found = cut(nn.Sequential(nn.Linear(4, 4), Around()), 1, 4)
    assert kinds(found) == [("weight", "0"), ("opaque", "1")]


def test_a_tensor_written_through_a_view_is_one_opaque_block():
    class Doubled(nn.Module):
        def forward(self, x):
            y = torch.sin(x)
            y[:, :2] *= x[:, 2:]
            return y

    found = cut(nn.Sequential(nn.Linear(4, 4), Doubled()), 1, 4)
    assert kinds(found) == [("weight", "0"), ("opaque", "1")]


def test_a_way_that_cannot_be_followed_is_an_error():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.detach().clone()

        @staticmethod
        def backward(ctx, u):
            return u

    jacobian = Jacobian(lambda x: Square.apply(x), torch.randn(1, 3), self_check=False)
    with jacobian.session():
        tape = record(jacobian)
    with pytest.raises(MeasurementError, match="could not be followed"):
        blocks(tape)


def test_an_identity_has_no_blocks():
    assert cut(nn.Identity(), 1, 3) == ()


@pytest.mark.parametrize(
    "net",
    [
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    ],
)
def test_a_transformer_layer_is_sums_and_norms(net):
    found = cut(net, 1, 3, 8)
    assert {b.kind for b in found} <= {"sum", "normalisation"}
    assert sum(b.kind == "sum" for b in found) == 2
