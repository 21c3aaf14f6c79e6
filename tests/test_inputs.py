"""What is fed to the network, and what a row of data is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry import InputError
from isometry.inputs import gaussian_inputs, infer_shape, single_inputs


class Causal(nn.Module):
    """Attention over unbatched tokens (T, d): token t sees those before it."""

    def __init__(self, causal=True):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.causal = causal

    def forward(self, x):
        if x.ndim == 2:
            mask = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype).triu(1)
            return self.attention(x, x, x, attn_mask=mask if self.causal else None)[0]
        raise ValueError("expected (tokens, features)")


# ------------------------------------------------------------------ Gaussian input


def test_gaussian_input_is_standard_times_its_scale():
    x = gaussian_inputs((50, 40), 20, scale=3.0, seed=1)
    assert x.shape == (20, 50, 40)
    assert x.dtype == torch.float64
    n = x.numel()
    assert abs(float(x.mean())) < 5 * 3 / n**0.5
    assert abs(float(x.std()) / 3 - 1) < 5 / (2 * n) ** 0.5


def test_the_seed_alone_fixes_the_numbers():
    a = gaussian_inputs((5,), 2, seed=7)
    torch.manual_seed(99)
    assert torch.equal(a, gaussian_inputs((5,), 2, seed=7))
    assert not torch.equal(a, gaussian_inputs((5,), 2, seed=8))
    assert torch.equal(a[:1], gaussian_inputs((5,), 1, seed=7))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"samples": -3}, "samples must be at least 1, got -3"),
        ({"shape": (3, 0)}, r"the input shape \(3, 0\) has no elements"),
        ({"shape": (-1,)}, r"the input shape \(-1,\) has no elements"),
        ({"input_scale": 0.0}, "the input scale must be positive and finite, got 0"),
        ({"input_scale": -1.0}, "the input scale must be positive"),
        ({"input_scale": float("nan")}, "the input scale must be positive"),
        ({"input_scale": float("inf")}, "the input scale must be positive"),
        ({"input_scale": "1"}, "the input scale must be positive"),
        ({"samples": 1.5}, r"samples must be a whole number, got 1\.5"),
        ({"samples": "2"}, "samples must be a whole number, got '2'"),
        ({"seed": "a"}, "seed must be a whole number, got 'a'"),
        ({"shape": 1.5}, r"a shape is made of whole numbers, got \(1\.5,\): write"),
        ({"shape": ()}, r"the input shape \(\) is that of a single number.*: give a size"),
        ({"seed": 2**64}, "seed must lie within"),
        ({"memory": "lots"}, "cannot read 'lots' as a memory size"),
        ({"memory": 0}, "cannot read '0' as a memory size"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        isometry.analyze(nn.Linear(3, 3), **options)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((), r"the input shape \(\) is that of a single number"),
        ((-1,), "has no elements: give sizes of at least 1"),
        ((1.5,), "a shape is made of whole numbers"),
        ((10**14,), r"an input of shape \(1, 10{14}\) needs .*: give a smaller shape"),
    ],
)
def test_shapes_of_token_ids_are_looked_at_too(shape, words):
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    with pytest.raises(InputError, match=words):
        isometry.analyze(net, shape=shape)
    assert isometry.analyze(net, shape=(3,)).input.shape == (1, 3, 4)


def test_a_first_layer_without_inputs_is_named():
    net = nn.Linear(2, 4)
    net.in_features = 0
    with pytest.raises(
        InputError, match=r"takes inputs of shape \(0,\), which hold nothing: build"
    ):
        isometry.analyze(net)


def test_an_input_and_a_shape_at_once_are_refused():
    with pytest.raises(InputError, match="an input or a shape, not both"):
        isometry.analyze(nn.Linear(3, 3), torch.ones(1, 3), shape=(3,))


# ------------------------------------------------------------------ the shape from the first layer


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Linear(7, 2), (7,)),
        (nn.Sequential(nn.Tanh(), nn.Linear(5, 2)), (5,)),
        (nn.Sequential(nn.Sequential(nn.LayerNorm((3, 4))), nn.Flatten()), (3, 4)),
        (nn.Sequential(nn.Unflatten(1, (2, 3, 4)), nn.Conv2d(2, 1, 1)), (24,)),
    ],
)
def test_the_first_layer_gives_the_shape(model, shape):
    assert infer_shape(model) == shape
    assert isometry.analyze(model).input.shape == (1, *shape)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Conv2d(3, 8, 3), r"takes inputs of shape \(3, H, W\), so give --shape 3,H,W"),
        (nn.Conv1d(4, 8, 3), r"of shape \(4, W\), so give --shape 4,W"),
        (nn.Conv3d(2, 8, 3), r"of shape \(2, D, H, W\), so give --shape 2,D,H,W"),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)), "the input shape cannot be told"),
        (nn.Tanh(), "the input shape cannot be told"),
        (torch.sin, "the input shape cannot be told from the model: give --shape"),
    ],
)
def test_a_shape_in_doubt_is_asked_for(model, words):
    with pytest.raises(InputError, match=words):
        isometry.analyze(model)


def test_a_given_shape_is_used():
    assert isometry.analyze(nn.Conv2d(1, 2, 3), shape=(1, 5, 4)).input.shape == (1, 1, 5, 4)


# ------------------------------------------------------------------ what a row is


def test_rows_of_a_batch_are_inputs_of_their_own():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    x = torch.randn(5, 4)
    rows, notes = single_inputs(net, x, 3)
    assert [tuple(r.shape) for r in rows] == [(1, 4)] * 3
    assert torch.equal(torch.cat(rows), x[:3])
    assert notes == ["measured 3 inputs; more with samples"]
    assert single_inputs(net, x, 1)[1] == ["measured input 1 of 5; more with samples"]
    assert single_inputs(net, x, 5)[1] == []
    rows, notes = single_inputs(net, x, 9)
    assert len(rows) == 5
    assert notes == ["9 samples asked for, 5 given"]


def test_a_single_row_is_one_input():
    rows, notes = single_inputs(nn.Linear(4, 2), torch.ones(1, 4), 1)
    assert [tuple(r.shape) for r in rows] == [(1, 4)]
    assert notes == []


def test_an_input_without_a_batch_dimension_gets_one():
    rows, _ = single_inputs(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.ones(4), 1)
    assert rows[0].numel() == 4
    assert isometry.analyze(nn.Linear(4, 2), torch.ones(4)).jacobian.shape == (2, 4)


def test_an_image_without_a_batch_dimension_is_one_input():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(18, 4))
    rows, _ = single_inputs(net, torch.randn(3, 5, 5), 1)
    assert [tuple(r.shape) for r in rows] == [(1, 3, 5, 5)]
    grey = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 4))
    rows, _ = single_inputs(grey, torch.randn(5, 5), 1)
    assert [tuple(r.shape) for r in rows] == [(1, 1, 5, 5)]


def test_a_batch_of_images_is_a_batch():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(18, 4))
    rows, _ = single_inputs(net, torch.randn(4, 3, 5, 5), 4)
    assert [tuple(r.shape) for r in rows] == [(1, 3, 5, 5)] * 4


def test_an_image_is_flattened_for_a_first_linear_layer():
    rows, _ = single_inputs(nn.Linear(12, 3), torch.arange(12.0).reshape(4, 3), 1)
    assert torch.equal(rows[0], torch.arange(12.0)[None])


@pytest.mark.parametrize("causal", [True, False])
def test_tokens_that_see_each_other_are_not_a_batch(causal):
    net = Causal(causal)
    x = torch.randn(5, 6)
    rows, _ = single_inputs(net, x, 1)
    assert [tuple(r.shape) for r in rows] == [(5, 6)]
    assert isometry.analyze(net, x).jacobian.shape == (30, 30)


def test_layer_norm_over_the_rows_is_not_a_batch():
    net = nn.LayerNorm((4, 6), elementwise_affine=False)
    rows, _ = single_inputs(net, torch.randn(4, 6), 1)
    assert rows[0].shape[-2:] == (4, 6)
    assert isometry.analyze(net, torch.randn(4, 6)).jacobian.shape == (24, 24)


def test_batch_norm_in_training_is_still_a_batch():
    rows, _ = single_inputs(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.randn(6, 4), 6)
    assert len(rows) == 6


@pytest.mark.parametrize(
    "data",
    [[[1.0, 2.0, 3.0]], np.ones((1, 3)), np.ones((1, 3), np.float16), np.ones((1, 3), np.float32)],
)
def test_arrays_and_lists_are_taken(data):
    assert isometry.analyze(nn.Linear(3, 3), data).input.shape == (1, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3.0, "a single number"),
        (torch.tensor(3.0), "a single number"),
        (["a"], "an array of numbers, got list"),
        ({1}, "an array of numbers, got set"),
        (torch.ones(2, 4), r"the first layer takes inputs of shape \(3,\)"),
        (torch.full((1, 3), float("nan")), "3 NaN or infinite values of 3"),
        (torch.tensor([[1.0, float("inf"), 0.0]]), "1 NaN or infinite values of 3"),
        (torch.ones(1, 3, dtype=torch.int64), "int64, expected floating point: convert"),
        (np.ones((1, 3), dtype=np.uint8), "uint8, expected floating point"),
        (np.zeros((0, 3)), "has no elements"),
        (np.zeros((1, 0)), "has no elements"),
        (torch.ones(1, 3, dtype=torch.complex64), "complex64, expected floating point"),
        (torch.ones(1, 3).to_sparse(), "the input is sparse or nested"),
        ({"input": torch.ones(1, 3).to_sparse()}, "the input is sparse or nested"),
        (torch.ones(1, 3, device="meta"), "meta tensor, which has no values"),
    ],
)
def test_unusable_data_are_refused_with_words(data, words):
    with pytest.raises(InputError, match=words):
        isometry.analyze(nn.Linear(3, 3), data)


def test_a_wrong_shape_for_a_convolution_is_answered_with_the_right_one():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    words = (
        r"the first layer takes inputs of shape \(3, H, W\): give such an input, or --shape 3,H,W"
    )
    for options in ({"x": torch.ones(1, 1, 8, 8)}, {"shape": (1, 8, 8)}):
        with pytest.raises(InputError, match=words):
            isometry.analyze(net, **options)


def test_options_of_numpy_are_numbers_too():
    options = {"samples": np.int64(2), "seed": np.int32(3), "input_scale": np.float32(1)}
    report = isometry.analyze(nn.Linear(3, 3), **options)
    assert (report.input.samples, report.provenance.seed) == (2, 3)
    assert isometry.Report.from_json(report.to_json()) == report


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_refused_with_data_too(samples):
    with pytest.raises(InputError, match=f"samples must be at least 1, got {samples}"):
        isometry.analyze(nn.Linear(3, 3), torch.ones(1, 3), samples=samples)


def test_an_output_without_elements_is_refused():
    class Nothing(nn.Module):
        def forward(self, x):
            return x[:, :0]

    with pytest.raises(InputError, match="the output has no elements"):
        isometry.analyze(Nothing(), torch.ones(2, 3))


def test_a_batch_given_to_a_chaotic_network_is_a_batch():
    torch.manual_seed(0)
    layers = [layer for _ in range(50) for layer in (nn.Linear(64, 64, bias=False), nn.Tanh())]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=2.5 / 8)
    found, _ = single_inputs(nn.Sequential(*layers), torch.randn(40, 64), 3)
    assert [tuple(x.shape) for x in found] == [(1, 64)] * 3
