"""Initialisers: weights whose Jacobian is isometric, or as near to it as the layer allows.

As in `torch.nn.init`, a function whose name ends in an underscore fills a tensor in place, without
recording it for autograd, and returns it. `sigma_w` means the same everywhere: inputs of mean
square q give outputs of mean square σ_w² q, for layers that widen or narrow, too.
"""

from __future__ import annotations

from isometry.init.delta_orthogonal import delta_orthogonal_
from isometry.init.gain import gain, stem_gain
from isometry.init.independent import biases_, gaussian_, uniform_
from isometry.init.layout import layout
from isometry.init.looks_linear import looks_linear_
from isometry.init.lsuv import lsuv_
from isometry.init.orthogonal import orthogonal_
from isometry.init.orthogonal_conv import orthogonal_conv_
from isometry.init.residual import depth_scaled_, fixup_, skip_init_

__all__ = [
    # how large
    "gain",
    "stem_gain",
    # weights with equal singular values
    "orthogonal_",
    "delta_orthogonal_",
    "orthogonal_conv_",
    "looks_linear_",
    "layout",
    # independent entries
    "gaussian_",
    "uniform_",
    "biases_",
    # scales from data, or from the depth
    "lsuv_",
    "depth_scaled_",
    "fixup_",
    "skip_init_",
]
