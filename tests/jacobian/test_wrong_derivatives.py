"""Where PyTorch returns a wrong derivative without a word (docs/wrong-derivatives.md).

Each case twice: the bare route is wrong, so that a release which mends it is noticed, and
isometry is right or refuses. Truth is the central difference in float64.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.func import jacfwd, jacrev, jvp, linearize, vjp

from isometry import Jacobian, MeasurementError

pytestmark = [
    # PyTorch's own: at its first forward product, at every linearize, and in RReLU under vmap.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
]


def relative(a, b):
    return float((a - b).norm() / b.norm())


def assert_still_wrong(case, by_pytorch, truth, factor=0.05):
    assert relative(by_pytorch, truth) > factor, (
        f"PyTorch has mended {case}: say so in docs/wrong-derivatives.md and the CHANGELOG"
    )


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def pulled(f, x, u):
    """Jᵀu by the plain pullback."""
    return vjp(f, x)[1](u)[0].detach().flatten()


# ------------------------------------------------------------------ S1


class FirstOutput(nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x):
        return self.recurrent(x)[0]


@pytest.fixture(params=[nn.LSTM, nn.GRU, nn.RNN])
def recurrent(request):
    net = FirstOutput(request.param(4, 4)).double().requires_grad_(False)
    return net, random(3, 1, 4)


def test_s1_linearize_is_wrong_from_the_second_product_on(recurrent, central_differences):
    net, x = recurrent
    v = random(3, 1, 4)
    truth = central_differences(net, x) @ v.flatten()
    _, product = linearize(net, x)
    assert relative(product(v).flatten(), truth) < 1e-6
    assert_still_wrong("S1", product(v).flatten(), truth)


def test_s1_every_product_of_isometry_is_right(recurrent, central_differences):
    net, x = recurrent
    truth = central_differences(net, x)
    J = Jacobian(net, x)
    v, u = random(12), random(12)
    for _ in range(3):
        assert relative(J @ v, truth @ v) < 1e-6
        assert relative(J.T @ u, truth.T @ u) < 1e-6
    assert relative(J.dense(), truth) < 1e-6


# ------------------------------------------------------------------ S2


def tokens_of(norm):
    norm = norm(4).double().requires_grad_(False).eval()
    return nn.Sequential(norm, Tokens())


class Tokens(nn.Module):
    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


NORMS = {
    "BatchNorm2d": (nn.BatchNorm2d, (1, 4, 2, 3)),
    "BatchNorm3d": (nn.BatchNorm3d, (1, 4, 2, 3, 1)),
    "InstanceNorm2d": (nn.InstanceNorm2d, (1, 4, 2, 3)),
}


@pytest.mark.parametrize("name", NORMS)
def test_s2_plain_reverse_mode_is_wrong_through_a_norm_made_into_tokens(name, central_differences):
    norm, shape = NORMS[name]
    net, x, u = tokens_of(norm), random(*shape), random(1, 6, 4)
    truth = central_differences(net, x).T @ u.flatten()
    point = x.clone().requires_grad_()
    by_autograd = torch.autograd.grad(net(point), point, u)[0].flatten()
    assert_still_wrong(f"S2 in autograd.grad ({name})", by_autograd, truth)
    assert_still_wrong(f"S2 in vjp ({name})", pulled(net, x, u), truth)


@pytest.mark.parametrize("name", NORMS)
def test_s2_isometry_is_right(name, central_differences):
    norm, shape = NORMS[name]
    net, x, u = tokens_of(norm), random(*shape), random(24)
    truth = central_differences(net, x)
    J = Jacobian(net, x)
    assert relative(J.dense(), truth) < 1e-6
    assert relative(J.T @ u, truth.T @ u) < 1e-6


# ------------------------------------------------------------------ S3


def distances(p):
    centres = random(3, 2)
    return lambda x: torch.cdist(x, centres, p=p)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_s3_batched_reverse_mode_is_wrong_through_cdist(p, central_differences):
    f, x = distances(p), random(4, 2)
    truth = central_differences(f, x)
    assert relative(jacrev(f, chunk_size=1)(x).reshape(12, 8), truth) < 1e-6
    assert_still_wrong("S3", jacrev(f)(x).reshape(12, 8), truth)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_s3_isometry_is_right(p, central_differences):
    f, x = distances(p), random(4, 2)
    truth = central_differences(f, x)
    J = Jacobian(f, x)
    U, V = random(12, 3), random(8, 3)
    assert relative(J.dense(), truth) < 1e-6
    # Of a wrong batch the first product is right: the last one counts.
    assert relative(J.T @ U, truth.T @ U) < 1e-6
    assert relative(J @ V, truth @ V) < 1e-6


# ------------------------------------------------------------------ S4


def test_s4_linearize_returns_zero_in_inference_mode(central_differences):
    x, v = random(4), random(4)
    truth = central_differences(torch.sin, x) @ v
    with torch.inference_mode():
        by_linearize = linearize(torch.sin, x)[1](v)
    assert_still_wrong("S4", by_linearize.expand(4).clone(), truth)


def test_s4_isometry_is_right_in_inference_mode(central_differences):
    x, v = random(4), random(4)
    truth = central_differences(torch.sin, x)
    with torch.inference_mode():
        J = Jacobian(torch.sin, x.clone())
        dense, product = J.dense(), J @ v
    assert relative(dense, truth) < 1e-6
    assert relative(product, truth @ v) < 1e-6


# ------------------------------------------------------------------ S5


@pytest.fixture(params=[lambda: nn.Dropout(0.5), nn.RReLU], ids=["dropout", "RReLU"])
def noisy(request):
    net = nn.Sequential(nn.Linear(20, 20), request.param()).double().requires_grad_(False)
    return net, random(1, 20)


def test_s5_two_products_use_two_masks(noisy, central_differences):
    net, x = noisy
    u = random(1, 20)

    def one_function(x):
        torch.manual_seed(3)
        return net(x)

    truth = central_differences(one_function, x).T @ u.flatten()
    assert relative(pulled(one_function, x, u), truth) < 1e-6
    # The mask after that of seed 3.
    assert_still_wrong("S5", pulled(net, x, u), truth)


def test_s5_in_training_mode_isometry_keeps_one_mask(noisy, central_differences):
    net, x = noisy
    J = Jacobian(net, x, train_mode=True)
    with J.session() as s:
        truth = central_differences(s.f, s.x)
    v, u = random(20), random(20)
    assert relative(J.dense(), truth) < 1e-6
    assert relative(J @ v, truth @ v) < 1e-6
    assert relative(J.T @ u, truth.T @ u) < 1e-6
    # It is the noise of training: each unit has a slope of its own, and not that of evaluation.
    slopes = J.dense() @ net[0].weight.pinverse()
    assert (slopes - slopes.diagonal().diag()).abs().max() < 1e-6
    assert relative(J.dense(), Jacobian(net, x).dense()) > 0.01


# ------------------------------------------------------------------ S6


def under_no_grad(x):
    with torch.no_grad():
        scale = x.square().sum()
    return x * scale


def detached(x):
    return x * x.detach().square().sum()


def by_item(x):
    return x * x.square().sum().item()


HIDDEN = [under_no_grad, detached, by_item]


@pytest.mark.parametrize("f", HIDDEN)
def test_s6_a_hidden_term_is_missing(f, central_differences):
    x = random(5)
    truth = central_differences(f, x)
    assert_still_wrong("S6 in reverse mode", jacrev(f, chunk_size=1)(x), truth)
    by_forward = torch.stack([jvp(f, (x,), (e,))[1] for e in torch.eye(5).double()], dim=1)
    if f is under_no_grad:  # forward mode does not heed no_grad
        assert relative(by_forward, truth) < 1e-6
    else:
        assert_still_wrong("S6 in forward mode", by_forward, truth)


PRODUCTS = {
    "dense": lambda J: J.dense(),
    "forward": lambda J: J @ random(5),
    "backward": lambda J: J.T @ random(5),
}


@pytest.mark.parametrize("f", HIDDEN)
@pytest.mark.parametrize("product", PRODUCTS)
def test_s6_isometry_refuses_at_the_first_product(f, product):
    J = Jacobian(f, random(5))
    with pytest.raises(MeasurementError, match="self-check"):
        PRODUCTS[product](J)


# ------------------------------------------------------------------ S7


@pytest.fixture
def iterating():
    """(network whose every forward pass in training changes it, as it stood, input)."""
    net = nn.utils.spectral_norm(nn.Linear(32, 32)).double()
    start = copy.deepcopy(net)
    return net, lambda x: copy.deepcopy(start)(x).detach(), random(1, 32)


def test_s7_every_product_belongs_to_another_network(iterating, central_differences):
    net, as_it_stood, x = iterating
    u = random(1, 32)
    truth = central_differences(as_it_stood, x).T @ u.flatten()
    assert relative(pulled(net, x, u), truth) < 1e-6
    assert_still_wrong("S7", pulled(net, x, u), truth)


def test_s7_in_training_mode_isometry_holds_the_buffers(iterating, central_differences):
    net, as_it_stood, x = iterating
    truth = central_differences(as_it_stood, x)
    J = Jacobian(net, x, train_mode=True)
    v, u = random(32), random(32)
    for _ in range(2):
        assert relative(J @ v, truth @ v) < 1e-6
        assert relative(J.T @ u, truth.T @ u) < 1e-6
    assert relative(J.dense(), truth) < 1e-6


# ------------------------------------------------------------------ S8


@pytest.mark.parametrize("size", [2, 3])
def test_s8_a_layer_whose_own_backward_is_wrong_is_refused(size, central_differences):
    net, x = nn.CrossMapLRN2d(size, alpha=1.0, k=1.0), random(1, 4, 3, 3)
    truth = central_differences(net, x)
    point = x.clone().requires_grad_()
    u = random(36)
    by_pytorch = torch.autograd.grad(net(point).flatten(), point, u)[0].flatten()
    assert_still_wrong("S8", by_pytorch, truth.T @ u)
    with pytest.raises(MeasurementError, match=r"self-check failed.*ISO303"):
        Jacobian(net, x).dense()


# ------------------------------------------------------------------ S9


@pytest.fixture(params=[F.layer_norm, F.instance_norm, F.batch_norm, F.group_norm])
def slope(request):
    """(J w of a norm as a function of x, x, whether its derivative is wrong)."""
    norm = {
        F.layer_norm: lambda x: F.layer_norm(x, (6,)),
        F.batch_norm: lambda x: F.batch_norm(x, None, None, training=True),
        F.group_norm: lambda x: F.group_norm(x, 2),
    }.get(request.param, request.param)
    shape = (1, 2, 6) if request.param is F.instance_norm else (2, 6)
    w = random(*shape)
    return lambda x: jvp(norm, (x,), (w,))[1], random(*shape), request.param is not F.group_norm


def test_s9_the_derivative_of_a_forward_product_misses_a_term(slope, central_differences):
    f, x, wrong = slope
    truth = central_differences(f, x)
    for route in (jacrev, jacfwd):
        found = route(f)(x).reshape(truth.shape)
        if wrong:
            assert_still_wrong("S9", found, truth)
        else:
            assert relative(found, truth) < 1e-6


def test_s9_isometry_refuses(slope):
    f, x, wrong = slope
    if wrong:
        with pytest.raises(MeasurementError, match=r"self-check failed.*ISO303"):
            Jacobian(f, x).dense()
    else:
        assert Jacobian(f, x).verify().passed


def test_forward_and_reverse_agree_where_nothing_is_wrong(central_differences):
    # The negative control: what is asserted above is no fault of the yardstick.
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double().requires_grad_(False), random(4)
    truth = central_differences(net, x)
    for J in (jacrev(net)(x), jacfwd(net)(x), Jacobian(net, x).dense()):
        assert relative(J, truth) < 1e-6
    with pytest.raises(AssertionError, match="PyTorch has mended S0: say so"):
        assert_still_wrong("S0", jacrev(net)(x), truth)
