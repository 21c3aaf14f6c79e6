"""Mean-field theory of signals in wide networks: fixed points, stability, depth scales.

At infinite width the pre-activations of a layer are independent Gaussians, and a network is
described by a few numbers: their variance q, the correlation c of two inputs, and averages
of φ and φ' over a Gaussian. NumPy and SciPy only.
"""

from __future__ import annotations

from isometry.meanfield.activation import Activation, ClosedForm
from isometry.meanfield.catalogue import NAMES, celu, elu, leaky_relu, prelu
from isometry.meanfield.convolution import covariance_map
from isometry.meanfield.critical import critical_point
from isometry.meanfield.custom import activation
from isometry.meanfield.depth_scale import depth_scale, gradient_scale, trainable_depth
from isometry.meanfield.dropout import DropoutPoint, dropout_point
from isometry.meanfield.fixed_points import FixedPoint, fixed_points
from isometry.meanfield.moments import slope_law, slope_moment
from isometry.meanfield.normalisation import batch_norm_growth, layer_norm_gain
from isometry.meanfield.operating_point import OperatingPoint, operating_point
from isometry.meanfield.phase import PhaseDiagram, phase_diagram
from isometry.meanfield.profile import (
    fourier_modes,
    mode_depth_scales,
    retained_variance,
    variance_profile,
)
from isometry.meanfield.residual import (
    BranchStrength,
    ResidualProfile,
    branch_strength,
    residual_profile,
)
from isometry.meanfield.signal import c_map, chi_1, chi_c, chi_q, q_map, q_profile

__all__ = [
    # activations
    "NAMES",
    "Activation",
    "ClosedForm",
    "activation",
    "celu",
    "elu",
    "leaky_relu",
    "prelu",
    "slope_law",
    "slope_moment",
    # maps from layer to layer
    "q_map",
    "q_profile",
    "c_map",
    "chi_1",
    "chi_q",
    "chi_c",
    # where they settle
    "FixedPoint",
    "OperatingPoint",
    "PhaseDiagram",
    "fixed_points",
    "operating_point",
    "critical_point",
    "phase_diagram",
    "depth_scale",
    "gradient_scale",
    "trainable_depth",
    # other architectures
    "BranchStrength",
    "DropoutPoint",
    "ResidualProfile",
    "batch_norm_growth",
    "branch_strength",
    "covariance_map",
    "dropout_point",
    "fourier_modes",
    "layer_norm_gain",
    "mode_depth_scales",
    "residual_profile",
    "retained_variance",
    "variance_profile",
]
