"""The predictions of a network, and what is said where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry.part import Part
from isometry.spectrum import Spectrum
from isometry.theory.free_product import measured, squares


def told(net, *shape):
    """The words of all judgements, by name, and the notes."""
    torch.manual_seed(0)
    report = isometry.analyze(net, torch.randn(shape), check_itself=False)
    return {p.name: p.judgement.word for p in report.theory}, " | ".join(report.notes)


def fresh(*layers):
    torch.manual_seed(0)
    net = nn.Sequential(*(layer() for layer in layers))
    return net.eval()


def test_a_single_block_is_said_to_be_one():
    words, notes = told(nn.GRU(8, 8), 4, 1, 8)
    assert words == {}
    assert "no mean field: no theory for gru, because it is neither a weight" in notes
    assert "no free product: gru is the only block" in notes


def test_a_network_that_does_nothing_has_no_theory_and_no_excuse():
    words, notes = told(nn.Identity(), 1, 4)
    assert words == {}
    assert "mean field" not in notes
    assert "free product" not in notes


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Conv2d(16, 16, 3, padding=1, groups=4), (1, 16, 5, 5)),
        (lambda: nn.Conv2d(16, 16, 3, padding=1, groups=16), (1, 16, 5, 5)),
        (lambda: nn.ConvTranspose2d(12, 12, 3, padding=1), (1, 12, 5, 5)),
    ],
)
def test_grouped_and_transposed_convolutions_agree_with_their_free_product(layer, shape):
    words, notes = told(fresh(layer, nn.Tanh, layer, nn.Tanh), *shape)
    assert words == {"free product": "agrees"}
    assert "not one matrix (it has groups, or is transposed); measured as a block instead" in notes


def test_a_network_that_narrows_is_judged_by_its_narrowest_part():
    def conv():
        return nn.Conv2d(8, 8, 3, padding=1)

    net = fresh(conv, nn.Tanh, conv, nn.Tanh, nn.Flatten, lambda: nn.Linear(200, 20))
    report = isometry.analyze(net, torch.randn(1, 8, 5, 5), check_itself=False)
    free = next(p for p in report.theory if p.name == "free product")
    assert free.judgement.allowed == pytest.approx(4.5 / 20)


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_kernels_enter_the_mean_field_by_their_spectrum_where_the_padding_is_zero(padding):
    def conv():
        return nn.Conv2d(16, 16, 3, padding=1, padding_mode=padding)

    words, notes = told(fresh(conv, nn.Tanh, conv, nn.Tanh), 1, 16, 6, 6)
    assert words["mean field"] == "agrees"
    said = "0, 2, because its stride or padding gives a kernel a spectrum of its own" in notes
    assert said is (padding == "zeros")
    assert "1, 3" not in notes  # signals are Gaussian behind either


def test_normalised_signals_keep_their_mean_field():
    normed = (lambda: nn.Linear(64, 64), lambda: nn.LayerNorm(64), nn.Tanh)
    words, notes = told(fresh(*normed, *normed), 1, 64)
    assert words["mean field"] == "agrees"
    assert "because it is a normalisation; measured as a block instead" in notes
    assert notes.count("because") == 1


def test_biases_off_centre_end_the_mean_field():
    net = fresh(lambda: nn.Linear(64, 64), nn.Tanh)
    nn.init.constant_(net[0].bias, -0.5)
    words, notes = told(net, 1, 64)
    assert "mean field" not in words
    assert "0, because its biases are not centred" in notes
    assert "1, because what it is given is not the output of a random weight" in notes


def test_maxima_are_no_function_of_every_entry():
    words, notes = told(
        fresh(lambda: nn.Conv2d(8, 8, 3, padding=1), nn.ReLU, lambda: nn.MaxPool2d(2)), 1, 8, 6, 6
    )
    assert words["free product"] == "agrees"
    assert "because it selects entries" in notes


def spectrum(floor, unresolved):
    kept = np.full(4, (1 - unresolved) / 4)
    return Spectrum(np.zeros(4), kept, math.log(floor), unresolved=unresolved, dead=0.0)


def test_what_probes_leave_unresolved_is_spread_up_to_their_floor():
    values, weights = squares(spectrum(0.1, 0.2))
    below = np.sort(np.sqrt(values[values < 0.5]))
    assert weights.sum() == pytest.approx(1)
    assert weights[values < 0.5].sum() == pytest.approx(0.2)
    assert np.diff(below) == pytest.approx(np.diff(below)[0])
    assert below.mean() == pytest.approx(0.05)
    assert type(measured(Part("p", "opaque", (4, 4), spectrum(0.1, 0.2)))).__name__ == "Diagonal"


def test_what_rounding_hides_is_zero():
    values, weights = squares(spectrum(1e-14, 0.2))
    assert weights[values == 0].sum() == pytest.approx(0.2)
    assert (values[values > 0] == 1).all()


def test_an_estimated_spectrum_is_allowed_what_it_leaves_open():
    torch.manual_seed(0)
    net = nn.Sequential(*(m for _ in range(3) for m in (nn.Linear(150, 150), nn.Tanh())))
    report = isometry.analyze(
        net, torch.randn(1, 150), method="quadrature", probes=8, steps=8, check_itself=False
    )
    free = next(p for p in report.theory if p.name == "free product")
    assert free.ks > 4.5 / 150  # by far, for the probes resolve nothing small
    assert free.judgement.word == "agrees"
    assert "the estimate leaves open" in free.judgement.reason
