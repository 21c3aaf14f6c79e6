"""Image models of timm and torchvision, without weights, on the smallest images they take."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import Family, Use
from tests.zoo.shim import torchvision_without_operators

TIMM = Family("timm", requires="timm", quick=False)
TORCHVISION = Family("torchvision", requires="torchvision", quick=False)


def _calibrated(net: nn.Module, size: int, channels: int, floor: float = 5e-3) -> nn.Module:
    """Take the norms' statistics from noise: at made-up ones the signal dies with depth.

    The floor keeps a channel that noise leaves all but constant from making it explode.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return net
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(4, channels, size, size))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        # By the second moment: the variance of images this small all but vanishes with depth.
        m.running_var.addcmul_(m.running_mean, m.running_mean).clamp_(min=floor)
        m.running_mean.mul_(0.5)
    return net


def _timm(name: str, **options: Any) -> nn.Module:
    torchvision_without_operators()
    timm = importlib.import_module("timm")
    return timm.create_model(name, pretrained=False, num_classes=5, in_chans=1, **options)


def _mixer(block: str, **options: Any) -> nn.Module:
    torchvision_without_operators()
    room = importlib.import_module("timm.models.mlp_mixer")
    return room.MlpMixer(
        num_classes=5, img_size=16, in_chans=1, patch_size=8, embed_dim=16, num_blocks=2,
        block_layer=getattr(room, block), **options,
    )  # fmt: skip


def _torchvision(path: str, **options: Any) -> nn.Module:
    torchvision_without_operators()
    room, _, name = path.rpartition(".")
    models = importlib.import_module(f"torchvision.models{'.' * bool(room)}{room}")
    net = getattr(models, name)(weights=None, num_classes=5, **options)
    return net


def _as_colour(net: nn.Module, x: Tensor) -> Any:
    """One grey channel seen three times keeps the Jacobian small."""
    return net(x.expand(-1, 3, *x.shape[2:]))


def _own(room: str, name: str, **options: Any) -> nn.Module:
    """A class of torchvision, in a size that its ready-made builders do not offer."""
    torchvision_without_operators()
    built = getattr(importlib.import_module(f"torchvision.models.{room}"), name)
    return Use(_calibrated(built(num_classes=5, **options), 16, 3), _as_colour)


_VIT = {
    "image_size": 16, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16,
    "mlp_dim": 24,
}  # fmt: skip
_MAXVIT = {
    "input_size": (16, 16), "stem_channels": 8, "partition_size": 2, "block_channels": [8, 8],
    "block_layers": [1, 1], "head_dim": 4, "stochastic_depth_prob": 0.0,
}  # fmt: skip


for _name, _size, _options in (
    ("resnet18", 16, {}),
    ("resnet50", 16, {}),
    ("vit_tiny_patch16_224", 16, {"img_size": 16, "patch_size": 8, "depth": 2}),
    ("deit_tiny_patch16_224", 16, {"img_size": 16, "patch_size": 8, "depth": 2}),
    ("beit_base_patch16_224", 16, {
        "img_size": 16, "patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2,
    }),
    ("eva02_tiny_patch14_224", 16, {"img_size": 16, "patch_size": 8, "depth": 2}),
    ("swin_tiny_patch4_window7_224", 32, {
        "img_size": 32, "window_size": 2, "embed_dim": 12, "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 2, 4),
    }),
    ("convnext_atto", 32, {}),
    ("regnetx_002", 16, {}),
    ("nf_resnet50", 16, {}),
    ("dm_nfnet_f0", 16, {}),
    ("densenet121", 32, {}),
    ("repvgg_a0", 16, {}),
    ("efficientnet_b0", 16, {}),
    ("mobilenetv3_small_100", 16, {}),
    ("ghostnet_100", 16, {}),
    ("levit_128s", 32, {"img_size": 32}),
    ("xcit_nano_12_p16_224", 32, {}),
    ("coat_tiny", 32, {"img_size": 32}),
    ("maxvit_rmlp_pico_rw_256", 32, {"img_size": 32}),
    ("poolformer_s12", 16, {}),
    ("caformer_s18", 16, {}),
    ("volo_d1_224", 32, {"img_size": 32}),
    ("inception_v3", 80, {}),
):  # fmt: skip
    TIMM.add(
        f"timm {_name}",
        lambda name=_name, size=_size, options=_options: _calibrated(
            _timm(name, **options), size, 1, floor=0.05
        ),
        (1, 1, _size, _size),
        quick=_name == "vit_tiny_patch16_224",
    )

TIMM.add("timm MLP-Mixer", lambda: _mixer("MixerBlock"), (1, 1, 16, 16))
TIMM.add("timm ResMLP", lambda: _mixer("ResBlock", mlp_ratio=2), (1, 1, 16, 16))
TIMM.add(
    "timm resnet18, features", lambda: _timm("resnet18", features_only=True), (1, 1, 16, 16),
    output=-1,
)  # fmt: skip

for _name, _size, _options, _rest in (
    ("resnet18", 16, {}, {}),
    ("resnet18", 33, {}, {"train_mode": True}),
    ("alexnet", 64, {}, {}),
    ("vgg11_bn", 32, {}, {}),
    ("squeezenet1_1", 32, {}, {}),
    ("googlenet", 16, {"aux_logits": False, "init_weights": False}, {}),
    ("shufflenet_v2_x0_5", 16, {}, {}),
    ("mobilenet_v2", 16, {}, {}),
    ("mnasnet0_5", 16, {}, {}),
    ("efficientnet_b0", 16, {}, {}),
    ("regnet_y_400mf", 16, {}, {}),
    ("convnext_tiny", 32, {}, {}),
    ("densenet121", 32, {}, {}),
    ("swin_t", 16, {}, {}),
    ("swin_v2_t", 16, {}, {}),
    ("segmentation.fcn_resnet50", 16, {"weights_backbone": None}, {"output": "out"}),
    (
        "segmentation.deeplabv3_mobilenet_v3_large", 16, {"weights_backbone": None},
        {"output": "out"},
    ),
):  # fmt: skip
    TORCHVISION.add(
        f"torchvision {_name.rpartition('.')[2]}" + ", train mode" * ("train_mode" in _rest),
        lambda name=_name, size=_size, options=_options: Use(
            _calibrated(_torchvision(name, **options), size, 3), _as_colour
        ),
        (2 if "train_mode" in _rest else 1, 1, _size, _size),
        **_rest,
    )
TORCHVISION.add(
    "torchvision VisionTransformer",
    lambda: _own("vision_transformer", "VisionTransformer", **_VIT),
    (1, 1, 16, 16),
)
TORCHVISION.add("torchvision MaxVit", lambda: _own("maxvit", "MaxVit", **_MAXVIT), (1, 1, 16, 16))
TORCHVISION.add(
    "torchvision r3d_18", lambda: Use(_torchvision("video.r3d_18"), _as_colour), (1, 1, 2, 16, 16)
)

FAMILIES = (TIMM, TORCHVISION)
