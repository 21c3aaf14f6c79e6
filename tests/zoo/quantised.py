"""Integer weights and activations: staircases, whose slope is zero almost everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.ao import quantization

from tests.zoo.case import CUT, Family, Use, quiet, settled

CASES = Family("quantised networks")
_SHAPE = (1, 6)
_DEPRECATED = "torch.ao.quantization is deprecated"


def _mlp() -> nn.Sequential:
    return settled(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)))


def _dynamic() -> nn.Module:
    with quiet(_DEPRECATED), quiet("torch.quantize_per_tensor"):
        return quantization.quantize_dynamic(_mlp().float(), {nn.Linear}, dtype=torch.qint8)


def _float32() -> Tensor:
    return torch.randn(_SHAPE).float()


CASES.add(
    "dynamically quantised Linear",
    _dynamic,
    _float32,
    refused=f"quanti|{CUT}",
    why="activations are rounded on the way in",
)


def _prepared() -> nn.Module:
    torch.set_default_dtype(torch.float32)  # the observers' own; `build` puts it back
    net = nn.Sequential(quantization.QuantStub(), *_mlp(), quantization.DeQuantStub())
    net = net.float().train()
    with quiet(_DEPRECATED), quiet("Please use quant_min and quant_max"):
        net.qconfig = quantization.get_default_qat_qconfig("x86")
        prepared = quantization.prepare_qat(net)
    for _ in range(3):
        prepared(torch.randn(8, 6).float())
    prepared.apply(quantization.disable_observer)
    return prepared.eval()


CASES.add(
    "quantisation-aware training, fake quantisation",
    _prepared,
    _float32,
    refused=f"quanti|{CUT}",
    why="a staircase with straight-through derivatives",
)


def _weights_only(layer: nn.Module, x: Tensor, q: Tensor, scale: Tensor) -> Tensor:
    return layer(nn.functional.linear(x, q.to(x.dtype) * scale[:, None]))


def _quantised_weight() -> nn.Module:
    w = torch.randn(8, 6)
    scale = w.abs().amax(1) / 127
    return Use(_mlp()[1:], _weights_only, (w / scale[:, None]).round().to(torch.int8), scale)


CASES.add("weight-only int8", _quantised_weight, _SHAPE)
