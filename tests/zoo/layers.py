"""torch.nn: activations, linear and convolutional layers, pooling, norms, padding, the rest."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.case import CUT, RANDOM, SHAPELESS, Family, Use

ACTIVATIONS = Family("torch.nn: activations")
CONVOLUTIONS = Family("torch.nn: linear and convolution")
POOLING = Family("torch.nn: pooling")
NORMS = Family("torch.nn: normalisation")
SHAPES = Family("torch.nn: padding, folding, resizing")
OTHERS = Family("torch.nn: dropout, distances, containers")
LAZY = Family("torch.nn: lazy layers")

_LINE, _PLANE, _SPACE = (1, 2, 8), (1, 2, 6, 6), (1, 2, 4, 4, 4)
_BY_DIM = {1: _LINE, 2: _PLANE, 3: _SPACE}


def _of(name: str, *dims: int):
    """``nn.<name>1d`` and so on, with the shape that each takes."""
    return [(f"{name}{d}d", getattr(nn, f"{name}{d}d"), _BY_DIM[d]) for d in dims or (1, 2, 3)]


for _layer in (
    nn.ELU(), nn.Hardshrink(), nn.Hardsigmoid(), nn.Hardtanh(), nn.Hardswish(), nn.LeakyReLU(),
    nn.LogSigmoid(), nn.PReLU(), nn.ReLU(), nn.ReLU6(), nn.RReLU(), nn.SELU(), nn.CELU(),
    nn.GELU(), nn.GELU("tanh"), nn.Sigmoid(), nn.SiLU(), nn.Mish(), nn.Softplus(),
    nn.Softshrink(), nn.Softsign(), nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, 20.0),
    nn.GLU(), nn.Softmin(-1), nn.Softmax(-1), nn.LogSoftmax(-1),
):  # fmt: skip
    _how = "(tanh)" if getattr(_layer, "approximate", "") == "tanh" else ""
    ACTIVATIONS.add(
        f"nn.{type(_layer).__name__}{_how}",
        # Made anew each time: the one in the list would be shared by all who build the case.
        lambda layer=_layer: type(layer)(**_arguments(layer)),
        (2, 12),
    )


def _arguments(layer: nn.Module) -> dict:
    known = ("approximate", "threshold", "value", "dim")
    return {k: getattr(layer, k) for k in known if hasattr(layer, k)}


ACTIVATIONS.add("nn.PReLU, one slope a channel", lambda: nn.PReLU(12), (2, 12))
ACTIVATIONS.add("nn.RReLU, train mode", nn.RReLU, (2, 12), train_mode=True, own_mask=True)
ACTIVATIONS.add("nn.ReLU(inplace=True)", lambda: nn.ReLU(inplace=True), (2, 12))
ACTIVATIONS.add("nn.Softmax2d", nn.Softmax2d, (1, 4, 3, 3))
ACTIVATIONS.add(
    "nn.AdaptiveLogSoftmaxWithLoss",
    lambda: Use(
        nn.AdaptiveLogSoftmaxWithLoss(6, 12, [4, 8], div_value=2.0),
        lambda f, x, y: f(x, y),
        torch.tensor([1, 9]),
    ),
    (2, 6),
    output="loss",
)
ACTIVATIONS.add(
    "nn.AdaptiveLogSoftmaxWithLoss.log_prob",
    lambda: Use(
        nn.AdaptiveLogSoftmaxWithLoss(6, 12, [4, 8], div_value=2.0), lambda f, x: f.log_prob(x)
    ),
    (2, 6),
)

CONVOLUTIONS.add("nn.Linear", lambda: nn.Linear(6, 5), (2, 6))
CONVOLUTIONS.add("nn.Linear without bias", lambda: nn.Linear(6, 5, bias=False), (6,))
CONVOLUTIONS.add(
    "nn.Bilinear", lambda: nn.Bilinear(4, 5, 6), lambda: (torch.randn(2, 4), torch.randn(2, 5)),
    wrt="input1",
)  # fmt: skip
CONVOLUTIONS.add(
    "nn.Bilinear, both inputs the same", lambda: Use(nn.Bilinear(4, 4, 6), lambda f, x: f(x, x)),
    (2, 4),
)  # fmt: skip

for _name, _conv, _shape in [*_of("Conv"), *_of("ConvTranspose")]:
    _transposed = "Transpose" in _name
    _variants = {
        "": {},
        ", stride 2": {"stride": 2, "padding": 1},
        ", grouped": {"groups": 2},
        ", dilated": {"dilation": 2, "padding": 2},
    }
    if not _transposed:
        _variants[", circular"] = {"padding": 1, "padding_mode": "circular"}
        _variants[", reflect"] = {"padding": "same", "padding_mode": "reflect"}
    for _how, _options in _variants.items():
        CONVOLUTIONS.add(
            f"nn.{_name}{_how}",
            lambda conv=_conv, options=_options: conv(2, 4, 3, **options),
            _shape,
        )
CONVOLUTIONS.add(
    "nn.Conv2d, depthwise separable",
    lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1)),
    (1, 4, 5, 5),
)
CONVOLUTIONS.add(
    "nn.Conv2d, channels_last",
    lambda: nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last),
    lambda: torch.randn(_PLANE).to(memory_format=torch.channels_last),
)

for _name, _pool, _shape in [*_of("MaxPool"), *_of("AvgPool")]:
    POOLING.add(f"nn.{_name}", lambda pool=_pool: pool(2), _shape)
    POOLING.add(f"nn.{_name}, overlapping", lambda pool=_pool: pool(3, stride=1, padding=1), _shape)
for _name, _pool, _shape in _of("LPPool"):
    # Odd powers of negative means have no root: positive numbers only.
    POOLING.add(f"nn.{_name}", lambda pool=_pool: pool(2.0, 2), _shape)
for _name, _pool, _shape in [*_of("AdaptiveAvgPool"), *_of("AdaptiveMaxPool")]:
    POOLING.add(f"nn.{_name}", lambda pool=_pool: pool(3), _shape)


def _given_places(pool: type[nn.Module], dims: int) -> nn.Module:
    return pool(2, output_size=2, _random_samples=torch.rand(1, 2, dims))


def _unpooled(dims: int) -> nn.Module:
    pool = getattr(nn, f"MaxPool{dims}d")(2, return_indices=True)
    unpool = getattr(nn, f"MaxUnpool{dims}d")(2)
    return nn.Sequential(pool, Use(unpool, lambda f, pair: f(*pair)))


for _dims, _pool in {2: nn.FractionalMaxPool2d, 3: nn.FractionalMaxPool3d}.items():
    POOLING.add(
        f"nn.{_pool.__name__}, given places",
        lambda pool=_pool, dims=_dims: _given_places(pool, dims),
        _BY_DIM[_dims],
    )
    POOLING.add(
        f"nn.{_pool.__name__}, random places",
        lambda pool=_pool: pool(2, output_size=3),
        (1, 2, *[9] * _dims),
        refused=RANDOM,
        why="draws its places in eval mode too",
    )
for _dims, _shape in _BY_DIM.items():
    POOLING.add(f"nn.MaxUnpool{_dims}d", lambda dims=_dims: _unpooled(dims), _shape)
POOLING.add("nn.MaxPool2d, return_indices", lambda: nn.MaxPool2d(2, return_indices=True), _PLANE)

for _name, _norm, _shape in _of("BatchNorm"):
    for _batch in (1, 2):
        _given = (_batch, *_shape[1:])
        NORMS.add(f"nn.{_name}, batch of {_batch}", lambda norm=_norm: norm(2), _given)
        NORMS.add(
            f"nn.{_name}, batch of {_batch}, train mode",
            lambda norm=_norm: norm(2),
            _given,
            train_mode=True,
        )
    NORMS.add(
        f"nn.{_name} without running statistics",
        lambda norm=_norm: norm(2, track_running_stats=False),
        _shape,
    )
for _name, _norm, _shape in _of("InstanceNorm"):
    for _batch in (1, 2):
        NORMS.add(
            f"nn.{_name}, batch of {_batch}",
            lambda norm=_norm: norm(2, affine=True),
            (_batch, *_shape[1:]),
        )
    NORMS.add(
        f"nn.{_name} with running statistics, train mode",
        lambda norm=_norm: norm(2, track_running_stats=True),
        _shape,
        train_mode=True,
    )
NORMS.add("nn.BatchNorm1d, features", lambda: nn.BatchNorm1d(6), (2, 6))
NORMS.add(
    "nn.BatchNorm1d, features, train mode", lambda: nn.BatchNorm1d(6), (3, 6), train_mode=True
)
NORMS.add(
    "nn.BatchNorm2d, momentum=None, train mode",
    lambda: nn.BatchNorm2d(2, momentum=None),
    _PLANE,
    train_mode=True,
)
NORMS.add("nn.SyncBatchNorm", lambda: nn.SyncBatchNorm(2), _PLANE)
NORMS.add("nn.LayerNorm", lambda: nn.LayerNorm(6), (2, 6))
NORMS.add("nn.LayerNorm, two dimensions", lambda: nn.LayerNorm((4, 6), bias=False), (1, 4, 6))
NORMS.add("nn.RMSNorm", lambda: nn.RMSNorm(6), (2, 6))
NORMS.add("nn.GroupNorm", lambda: nn.GroupNorm(2, 4), (1, 4, 5))
NORMS.add("nn.LocalResponseNorm", lambda: nn.LocalResponseNorm(2, alpha=0.5), (1, 4, 3, 3))
for _name, _size in {"nn.CrossMapLRN2d": 3, "nn.CrossMapLRN2d, even size": 2}.items():
    NORMS.add(
        _name,
        lambda size=_size: nn.CrossMapLRN2d(size, alpha=0.5),
        (1, 4, 3, 3),
        refused=CUT,
        why="PyTorch's own backward takes another window than its forward",
    )

for _kind in ("Reflection", "Replication", "Circular", "Zero", "Constant"):
    for _name, _pad, _shape in _of(f"{_kind}Pad"):
        _rest = (0.5,) if _kind == "Constant" else ()
        SHAPES.add(f"nn.{_name}", lambda pad=_pad, rest=_rest: pad(1, *rest), _shape)
for _mode, _shape in {
    "nearest": _PLANE,
    "linear": _LINE,
    "bilinear": _PLANE,
    "bicubic": _PLANE,
    "trilinear": (1, 1, 3, 3, 3),
}.items():
    SHAPES.add(
        f"nn.Upsample({_mode})",
        lambda mode=_mode: nn.Upsample(scale_factor=1.5, mode=mode),
        (1, 1, *_shape[2:]),
    )
SHAPES.add("nn.UpsamplingNearest2d", lambda: nn.UpsamplingNearest2d(scale_factor=2), (1, 1, 4, 4))
SHAPES.add("nn.UpsamplingBilinear2d", lambda: nn.UpsamplingBilinear2d(scale_factor=2), (1, 1, 4, 4))
SHAPES.add("nn.PixelShuffle", lambda: nn.PixelShuffle(2), (1, 4, 3, 3))
SHAPES.add("nn.PixelUnshuffle", lambda: nn.PixelUnshuffle(2), (1, 1, 6, 6))
SHAPES.add("nn.ChannelShuffle", lambda: nn.ChannelShuffle(2), (1, 4, 3, 3))
SHAPES.add("nn.Unfold", lambda: nn.Unfold(3, padding=1), (1, 2, 5, 5))
SHAPES.add("nn.Fold", lambda: nn.Fold((5, 5), 3), (1, 18, 9))
SHAPES.add("nn.Flatten", nn.Flatten, _PLANE)
SHAPES.add("nn.Unflatten", lambda: nn.Unflatten(1, (2, 3)), (1, 6))

for _dropout, _shape in {
    nn.Dropout: (2, 12),
    nn.AlphaDropout: (2, 12),
    nn.FeatureAlphaDropout: (1, 8, 2, 3),
    nn.Dropout1d: (1, 8, 4),
    nn.Dropout2d: (1, 8, 2, 3),
    nn.Dropout3d: (1, 8, 2, 2, 2),
}.items():
    OTHERS.add(f"nn.{_dropout.__name__}", _dropout, _shape)
    OTHERS.add(f"nn.{_dropout.__name__}, train mode", _dropout, _shape, train_mode=True)

for _distance in (nn.CosineSimilarity, nn.PairwiseDistance):
    OTHERS.add(
        f"nn.{_distance.__name__}",
        _distance,
        lambda: (torch.randn(3, 6), torch.randn(3, 6)),
        wrt="x1",
    )


class Listed(nn.Module):
    """Layers and weights in every kind of list and dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.named = nn.ModuleDict({"act": nn.Tanh(), "last": nn.Linear(6, 5)})
        self.scales = nn.ParameterList([torch.rand(6), torch.rand(6)])
        self.shifts = nn.ParameterDict({"a": torch.randn(6)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, scale in zip(self.layers, self.scales, strict=True):
            x = self.named["act"](layer(x) * scale)
        return self.named["last"](x + self.shifts["a"])


OTHERS.add("nn.ModuleList, ModuleDict, ParameterList, ParameterDict", Listed, (1, 6))
OTHERS.add("nn.Sequential", lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh()), (1, 6))
OTHERS.add("nn.Sequential, empty", nn.Sequential, (1, 6))
OTHERS.add("nn.Identity", nn.Identity, (1, 6))

_FIRST_SHAPE = {"Linear": (1, 6), "1d": (2, 2, 8), "2d": (2, 2, 6, 6), "3d": (2, 2, 4, 4, 4)}
for _name in sorted(n for n in vars(nn) if n.startswith("Lazy")):
    _shape = next(s for end, s in _FIRST_SHAPE.items() if _name.endswith(end))
    _options = (3, 3) if "Conv" in _name else (3,) if "Linear" in _name else ()

    def _lazy(name=_name, options=_options) -> nn.Module:
        return getattr(nn, name)(*options)

    def _called(name=_name, options=_options, shape=_shape) -> nn.Module:
        layer = getattr(nn, name)(*options)
        layer(torch.randn(shape))
        return layer

    LAZY.add(f"nn.{_name}", _lazy, _shape, refused=SHAPELESS, why="the weights have no shape yet")
    LAZY.add(f"nn.{_name}, called once", _called, _shape)

FAMILIES = (ACTIVATIONS, CONVOLUTIONS, POOLING, NORMS, SHAPES, OTHERS, LAZY)
