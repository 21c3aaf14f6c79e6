"""From a Jacobian to its spectrum, one estimator per file."""

from isometry.measure.exact import Measurement, exact
from isometry.measure.linear_map import LambdaOperator, LinearMap
from isometry.measure.method import BUDGET
from isometry.measure.options import Options, Progress
from isometry.measure.quadrature import TOLERANCE, Quadrature, quadrature
from isometry.measure.sample import Sample, sample

__all__ = [
    "BUDGET",
    "TOLERANCE",
    "LambdaOperator",
    "LinearMap",
    "Measurement",
    "Options",
    "Progress",
    "Quadrature",
    "Sample",
    "exact",
    "quadrature",
    "sample",
]
