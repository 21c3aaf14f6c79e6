"""How far is far."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import isometry
from isometry.init import delta_orthogonal_
from isometry.part import Interface
from isometry.report import Difference
from isometry.theory import judgement


def test_the_word_for_the_free_product_follows_n_times_ks():
    assert judgement.of_parts(4.0 / 256, 256, 5).word == "agrees"
    assert judgement.of_parts(5.0 / 256, 256, 5).word == "departs"
    assert judgement.of_parts(5.0 / 256, 256, 50).word == "agrees"
    assert judgement.of_parts(5.0 / 256, 256, 5, uncertainty=0.01).word == "agrees"


def test_positions_average_and_pooled_slopes_do_not():
    assert judgement.of_parts(12 / 512, 512, 5, positions=16).word == "agrees"
    assert judgement.of_parts(30 / 512, 512, 5, positions=16).word == "departs"
    assert judgement.of_parts(30 / 512, 512, 5, positions=16, apart=16).word == "agrees"
    assert judgement.of_parts(5 / 512, 512, 5, positions=1, apart=1).word == "departs"


def test_two_values_outside_of_a_law_are_no_chance_and_one_may_be():
    assert judgement.of_parts(1.0, 2, 5).word == "departs"
    assert judgement.of_parts(0.9, 2, 5).word == "finite-width effect"
    assert judgement.of_parts(1.0, 1, 5).word == "finite-width effect"
    assert judgement.of_limit(1.0, 2, 5).word == "departs"


def test_of_few_units_little_agrees_and_the_reason_says_so():
    few = judgement.of_parts(0.3, 10, 5)
    assert few.word == "finite-width effect"
    assert "too few units to judge" in few.reason
    assert judgement.of_parts(0.2, 10, 5).word == "agrees"
    assert judgement.of_parts(0.5, 10, 5).word == "departs"
    assert "too few" not in judgement.of_parts(0.01, 256, 5).reason
    assert judgement.of_limit(0.3, 9, 2).word == "finite-width effect"
    assert "too few units to judge" in judgement.of_limit(0.3, 9, 2).reason


@pytest.mark.parametrize(("width", "word"), [(0.1, "departs"), (0.8, "finite-width effect")])
def test_numbers_beyond_chance_veto_agreement(width, word):
    agrees = judgement.of_parts(0.01, 256, 5)
    fine = [Difference("wasserstein", 0.1, 0.2), Difference("score", -0.1, 0.2)]
    assert judgement.beside(agrees, fine, width) == agrees
    for at in range(2):
        off = [replace(d, value=-0.3) if i == at else d for i, d in enumerate(fine)]
        vetoed = judgement.beside(agrees, off, width)
        assert vetoed.word == word
        assert off[at].name in vetoed.reason
    hidden = [Difference("score", -0.3, 0.2)]  # a bound, where probes resolve not all
    assert judgement.beside(agrees, hidden, width) == agrees
    departs = judgement.of_parts(0.1, 256, 5)
    assert judgement.beside(departs, off, width) == departs


def test_a_few_input_channels_do_not_agree_by_generosity():
    torch.manual_seed(0)
    layers = list[nn.Module]()
    for channels in (3, 16, 16, 16, 16):
        conv = nn.Conv2d(channels, 16, 3, padding=1, padding_mode="circular")
        delta_orthogonal_(conv.weight)
        nn.init.zeros_(conv.bias)
        layers += [conv, nn.Tanh()]
    far = judged(nn.Sequential(*layers), torch.randn(1, 3, 6, 6))
    assert far.word == "finite-width effect"
    assert "too few units to judge" in far.reason


def test_what_an_estimate_leaves_open_is_allowed_and_told():
    judged = judgement.of_parts(0.3, 1000, 5, uncertainty=0.3)
    assert judged.word == "agrees"
    assert "of which 300.0 the estimate leaves open" in judged.reason
    assert judgement.of_parts(0.31, 1000, 5, uncertainty=0.3).word == "departs"
    assert "leaves 0.300 open" in judgement.of_limit(0.3, 1000, 5, uncertainty=0.3).reason


def test_the_interface_furthest_from_free_is_named():
    near, far = Interface("0", "2", 1.0, 0.01), Interface("2", "4", -6.0, 0.01)
    judged = judgement.of_parts(0.001, 256, 5, interfaces=[near, far])
    assert judged.word == "departs"
    assert "z = -6.0 at the interface 2 → 4" in judged.reason
    assert judgement.of_parts(0.001, 256, 5, interfaces=[near]).word == "agrees"


@pytest.mark.parametrize("peak", [0.001, 0.05, 0.3, 1.0])
def test_chance_is_what_it_says(peak):
    # z = Σ λ_k (g_k² − 1) with equal λ_k, 2 Σ λ_k² = 1 and largest √2 λ = peak.
    count = round(1 / peak**2)
    rng = np.random.default_rng(0)
    z = (rng.chisquare(count, 200_000) - count) / (2 * count) ** 0.5
    bound = judgement.chance(Interface("a", "b", 0.0, peak), 1)
    # Of one interface: 1 in 400 on either side. Its count has a deviation of 22.
    assert np.sum(z > bound) < 500 + 3 * 22
    if peak < 0.01:
        assert np.sum(z > bound) > 500 - 4 * 22  # and no more generous than it says


def test_more_interfaces_are_allowed_more():
    i = Interface("a", "b", 0.0, 0.05)
    assert judgement.chance(i, 1) < judgement.chance(i, 10) < judgement.chance(i, 1000) < 9


def test_mean_field_is_judged_by_sampling_and_width():
    assert judgement.of_limit(0.05, 256, 5).word == "agrees"
    assert judgement.of_limit(0.07, 256, 5).word == "finite-width effect"
    assert judgement.of_limit(0.2, 256, 5).word == "departs"
    assert judgement.of_limit(0.2, 256, 5, positions=16).word == "agrees"


def judged(net, x):
    report = isometry.analyze(net, x, check_itself=False)
    return next(p.judgement for p in report.theory if p.name == "free product")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_fresh_chains_agree_with_their_free_product(activation, seed):
    torch.manual_seed(seed)
    net = nn.Sequential(*(m for _ in range(3) for m in (nn.Linear(150, 150), activation())))
    assert judged(net, torch.randn(1, 150)).word == "agrees"


@pytest.mark.parametrize("padding", ["zeros", "circular"])
@pytest.mark.parametrize("delta", [False, True])
def test_fresh_convolutions_agree_with_their_free_product(padding, delta):
    torch.manual_seed(0)
    convs = [nn.Conv2d(16, 16, 3, padding=1, padding_mode=padding) for _ in range(3)]
    for conv in convs if delta else ():
        nn.init.zeros_(conv.weight)
        nn.init.orthogonal_(conv.weight.data[:, :, 1, 1])
    net = nn.Sequential(*(m for conv in convs for m in (conv, nn.ReLU())))
    assert judged(net, torch.randn(1, 16, 4, 4)).word == "agrees"


def test_what_one_layer_makes_large_and_the_next_again_departs():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 128))
    net[1].weight.data = net[0].weight.data.T.clone()
    assert judged(net, torch.randn(1, 128)).word == "departs"


def test_layers_that_are_copies_depart():
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, norm_first=True)
    net = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    x = torch.randn(1, 1, 64)
    assert judged(net, x).word == "departs"
    for each in net.layers:
        nn.init.xavier_uniform_(each.self_attn.in_proj_weight)
        for linear in (each.self_attn.out_proj, each.linear1, each.linear2):
            linear.reset_parameters()
    assert judged(net, x).word == "agrees"


def test_atoms_closer_to_each_other_than_rounding_are_not_run_together():
    # One rotation and one set of slopes: the law is the slopes themselves, an atom each.
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 300))
    for layer in net[::2]:
        nn.init.orthogonal_(layer.weight, 0.3)
        nn.init.zeros_(layer.bias)
    report = isometry.analyze(net, torch.randn(1, 300), check_itself=False)
    free = next(p for p in report.theory if p.name == "free product")
    assert 300 * free.ks < 2
