"""torch.nn: losses, each a scalar function of the prediction."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.case import Family, Use, quiet

CASES = Family("torch.nn: losses")

_N, _K = 3, 5


def _classes():
    return torch.tensor([0, 3, 1])


def _signs(*shape: int):
    return torch.randn(shape).sign()


def _loss(name: str, make, call, shape, *targets) -> None:
    """Targets are functions, so that they are drawn in the precision of the case."""
    CASES.add(name, lambda: Use(make(), call, *(t() for t in targets)), shape)


def _pair(f, x, y):
    return f(x, y)


for _name, _make, _target in (
    ("L1Loss", nn.L1Loss, lambda: torch.randn(_N, _K)),
    ("MSELoss", nn.MSELoss, lambda: torch.randn(_N, _K)),
    ("HuberLoss", nn.HuberLoss, lambda: torch.randn(_N, _K)),
    ("SmoothL1Loss", nn.SmoothL1Loss, lambda: torch.randn(_N, _K)),
    ("CrossEntropyLoss", nn.CrossEntropyLoss, _classes),
    ("NLLLoss", nn.NLLLoss, _classes),
    ("PoissonNLLLoss", nn.PoissonNLLLoss, lambda: torch.rand(_N, _K)),
    ("HingeEmbeddingLoss", nn.HingeEmbeddingLoss, lambda: _signs(_N, _K)),
    ("SoftMarginLoss", nn.SoftMarginLoss, lambda: _signs(_N, _K)),
    ("MultiMarginLoss", nn.MultiMarginLoss, _classes),
    ("MultiLabelSoftMarginLoss", nn.MultiLabelSoftMarginLoss, lambda: _signs(_N, _K).relu()),
    ("BCEWithLogitsLoss", nn.BCEWithLogitsLoss, lambda: torch.rand(_N, _K)),
):
    _loss(f"nn.{_name}", _make, _pair, (_N, _K), _target)

_loss("nn.MSELoss, reduction none", lambda: nn.MSELoss(reduction="none"), _pair, (_N, _K),
      lambda: torch.randn(_N, _K))  # fmt: skip
_loss("nn.CrossEntropyLoss, label smoothing", lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
      _pair, (_N, _K), _classes)  # fmt: skip
_loss("nn.BCELoss", nn.BCELoss, lambda f, x, y: f(torch.sigmoid(x), y), (_N, _K),
      lambda: torch.rand(_N, _K))  # fmt: skip
_loss("nn.KLDivLoss", lambda: nn.KLDivLoss(reduction="batchmean"),
      lambda f, x, y: f(x.log_softmax(-1), y.softmax(-1)), (_N, _K),
      lambda: torch.randn(_N, _K))  # fmt: skip
_loss("nn.GaussianNLLLoss", nn.GaussianNLLLoss, lambda f, x, y, var: f(x, y, var), (_N, _K),
      lambda: torch.randn(_N, _K), lambda: torch.rand(_N, _K) + 0.5)  # fmt: skip
_loss("nn.MarginRankingLoss", nn.MarginRankingLoss, lambda f, x, y, s: f(x, y, s), (_N,),
      lambda: torch.randn(_N), lambda: _signs(_N))  # fmt: skip
_loss("nn.CosineEmbeddingLoss", nn.CosineEmbeddingLoss, lambda f, x, y, s: f(x, y, s), (_N, _K),
      lambda: torch.randn(_N, _K), lambda: torch.ones(_N))  # fmt: skip
_loss("nn.MultiLabelMarginLoss", nn.MultiLabelMarginLoss, _pair, (1, 4),
      lambda: torch.tensor([[3, 0, -1, 1]]))  # fmt: skip
for _triplet in (nn.TripletMarginLoss, nn.TripletMarginWithDistanceLoss):
    _loss(f"nn.{_triplet.__name__}", _triplet, lambda f, x, y, z: f(x, y, z), (_N, _K),
          lambda: torch.randn(_N, _K), lambda: torch.randn(_N, _K))  # fmt: skip
_loss("nn.CTCLoss", nn.CTCLoss,
      lambda f, x, y: f(x.log_softmax(-1), y, torch.tensor([6]), torch.tensor([2])), (6, 1, 4),
      lambda: torch.tensor([[1, 2]]))  # fmt: skip
_loss("nn.LinearCrossEntropyLoss", lambda: nn.LinearCrossEntropyLoss(6, _K), _pair, (_N, 6),
      _classes)  # fmt: skip


def _nll2d() -> nn.Module:
    with quiet("`NLLLoss2d` has been deprecated", FutureWarning):
        return nn.NLLLoss2d()


_loss("nn.NLLLoss2d", _nll2d, _pair, (1, 3, 2, 2), lambda: torch.tensor([[[0, 1], [2, 1]]]))
