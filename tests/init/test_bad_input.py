"""What cannot be filled is refused in a line, and left as it was; seeds and devices."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from isometry.errors import InputError
from isometry.init import (
    biases_,
    delta_orthogonal_,
    gaussian_,
    layout,
    looks_linear_,
    orthogonal_,
    orthogonal_conv_,
    uniform_,
)

EVERY = [orthogonal_, delta_orthogonal_, orthogonal_conv_, looks_linear_, gaussian_, uniform_]
GROUPED = [f for f in EVERY if f is not looks_linear_]
everyone = pytest.mark.parametrize("fill", EVERY, ids=lambda f: f.__name__)


def refused(words, call, *tensors):
    before = [t.detach().clone() for t in tensors]
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    for t, old in zip(tensors, before, strict=True):
        assert torch.equal(t, old)


@everyone
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_other_kinds_of_numbers(fill, dtype):
    w = torch.ones(4, 4, 3).to(dtype)
    refused(rf"a dense tensor of {dtype}; expected .* before quantising", lambda: fill(w), w)


@everyone
@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.* are deprecated")
def test_quantised_and_sparse_weights(fill):
    w = torch.quantize_per_tensor(torch.ones(4, 4, 3), 0.1, 0, torch.qint8)
    with pytest.raises(InputError, match=r"a quantised tensor of torch.qint8"):
        fill(w)
    assert torch.equal(w.dequantize(), torch.ones(4, 4, 3))
    with pytest.raises(InputError, match=r"a sparse tensor of torch.float32"):
        fill(torch.ones(4, 4).to_sparse())


@everyone
@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (4, 4, 0)])
def test_no_channels(fill, shape):
    refused("expected at least one entry a dimension", lambda: fill(torch.empty(shape)))


@everyone
@pytest.mark.parametrize("shape", [(), (4,)])
def test_vectors(fill, shape):
    w = torch.ones(shape)
    refused("expected at least 2 dimensions", lambda: fill(w), w)


@everyone
def test_what_is_no_tensor(fill):
    refused("a Linear; expected a tensor, such as layer.weight", lambda: fill(nn.Linear(2, 2)))
    refused("is lazy and has no shape yet", lambda: fill(nn.LazyLinear(2).weight))


@everyone
def test_weights_that_are_computed_or_share_memory(fill):
    layer = weight_norm(nn.Conv1d(4, 4, 3))
    refused("computed from other parameters", lambda: fill(layer.weight), layer.weight)
    w = torch.ones(4, 1, 3).expand(4, 4, 3)
    refused("its entries share memory", lambda: fill(w), w)
    with torch.inference_mode():
        w = torch.ones(4, 4, 3)
    refused("made in inference mode", lambda: fill(w), w)


@everyone
@pytest.mark.parametrize("sigma_w", [-1.0, float("nan"), float("inf"), "2", None, True])
def test_a_deviation_that_is_none(fill, sigma_w):
    w = torch.ones(4, 4, 3)
    refused("sigma_w is .*; expected a", lambda: fill(w, sigma_w), w)


@everyone
def test_numbers_that_do_not_fit(fill):
    w = torch.ones(4, 4, 3, dtype=torch.float16)
    refused("do not fit into torch.float16; try a smaller scale", lambda: fill(w, 1e9), w)


@everyone
def test_a_seed_in_place_of_a_generator(fill):
    w = torch.ones(4, 4, 3)
    refused("generator is 3; expected a torch.Generator", lambda: fill(w, generator=3), w)


@pytest.mark.parametrize("fill", GROUPED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("groups", [0, 3, 1.5, -1])
def test_groups_that_do_not_divide(fill, groups):
    w = torch.ones(4, 4, 3)
    refused(f"groups is {groups}", lambda: fill(w, groups=groups), w)


def test_what_a_scheme_cannot_serve():
    matrix, kernel = torch.ones(4, 4), torch.ones(3, 4, 3)
    refused("use orthogonal_", lambda: orthogonal_conv_(matrix), matrix)
    refused("even number of channels on dimension 0", lambda: looks_linear_(kernel), kernel)
    refused("stride is .1, 2.", lambda: gaussian_(kernel, transposed=True, stride=(1, 2)), kernel)
    refused("stride is 0", lambda: uniform_(kernel, transposed=True, stride=0), kernel)
    refused('"variance" or "norm"', lambda: orthogonal_(matrix, preserve="mean"), matrix)
    refused("a ReLU; expected a Linear", lambda: layout(nn.ReLU()))
    refused("sigma_b is -0.1", lambda: biases_(matrix[0], -0.1), matrix)


@everyone
def test_the_same_seed_gives_the_same_numbers_and_no_other_generator_moves(fill, seeded):
    state = torch.get_rng_state()
    one, same, other = (fill(torch.empty(6, 6, 3), generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    first = fill(torch.empty(6, 6, 3))
    torch.manual_seed(5)
    assert torch.equal(first, fill(torch.empty(6, 6, 3)))
    assert not torch.equal(first, fill(torch.empty(6, 6, 3)))


@everyone
def test_on_the_meta_device_nothing_happens(fill, seeded):
    w, g = torch.empty(6, 4, 3, device="meta"), seeded()
    states = torch.get_rng_state(), g.get_state()
    assert fill(w) is w
    assert fill(w, generator=g) is w
    assert w.is_meta
    assert w.shape == (6, 4, 3)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(g.get_state(), states[1])
    with pytest.raises(InputError):
        fill(w, -1.0)


@everyone
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_single_precision_rounded(fill, dtype, seeded):
    half = fill(torch.empty(6, 4, 3, dtype=dtype), generator=seeded())
    assert half.dtype is dtype
    single = fill(torch.empty(6, 4, 3), generator=seeded())
    assert torch.equal(half, single.to(dtype))


@everyone
def test_memory_in_any_order_is_filled_alike(fill, seeded):
    plain = fill(torch.empty(4, 6, 3, 3), generator=seeded())
    last = torch.empty(4, 6, 3, 3).to(memory_format=torch.channels_last)
    turned = torch.empty(6, 4, 3, 3).transpose(0, 1)
    assert torch.equal(fill(last, generator=seeded()), plain)
    assert torch.equal(fill(turned, generator=seeded()), plain)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_a_part_of_a_parameter_can_be_filled():
    attention = nn.MultiheadAttention(4, 2)
    before = attention.in_proj_weight.detach().clone()
    queries = orthogonal_(attention.in_proj_weight[:4])
    torch.testing.assert_close(queries @ queries.T, torch.eye(4))
    assert torch.equal(attention.in_proj_weight[:4], queries)
    assert torch.equal(attention.in_proj_weight[4:], before[4:])


def test_zero_is_a_deviation():
    assert not gaussian_(torch.ones(4, 4), 0.0).any()


@pytest.mark.parametrize(("fill", "fourth"), [(gaussian_, 3.0), (uniform_, 1.8)])
def test_independent_entries_have_their_law(fill, fourth, seeded):
    w = fill(torch.empty(400, 50, 3, dtype=torch.float64), 2.0, generator=seeded())
    z = w * (150**0.5 / 2.0)
    assert abs(float(z.mean())) < 0.02
    assert float((z**2).mean()) == pytest.approx(1.0, rel=0.02)
    assert float((z**4).mean()) == pytest.approx(fourth, rel=0.03)
    if fill is uniform_:
        assert float(z.abs().max()) <= 3**0.5


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(2, 3), {"groups": 1, "transposed": False}),
        (nn.Conv2d(4, 4, 3, groups=2), {"groups": 2, "transposed": False}),
        (nn.ConvTranspose3d(4, 4, 3, groups=4), {"groups": 4, "transposed": True}),
    ],
)
def test_a_layer_says_how_it_stores_its_weight(layer, expected):
    assert layout(layer) == expected
