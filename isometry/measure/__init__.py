"""From a Jacobian to its spectrum, one estimator per file."""

from isometry.measure.bidiagonal import Ritz
from isometry.measure.chain import ChainSpectrum, chain
from isometry.measure.exact import Measurement, exact
from isometry.measure.graded import GradedProduct
from isometry.measure.largest import Largest, largest
from isometry.measure.linear_map import LambdaOperator, LinearMap
from isometry.measure.method import BUDGET
from isometry.measure.moments import Moments, moments
from isometry.measure.options import Checkpoint, Options, Progress
from isometry.measure.quadrature import TOLERANCE, Quadrature, Run, quadrature
from isometry.measure.ranks import Ranks, torchrun
from isometry.measure.sample import Sample, sample
from isometry.measure.stages import Stage, stages

__all__ = [
    "BUDGET",
    "TOLERANCE",
    "ChainSpectrum",
    "Checkpoint",
    "GradedProduct",
    "LambdaOperator",
    "Largest",
    "LinearMap",
    "Measurement",
    "Moments",
    "Options",
    "Progress",
    "Quadrature",
    "Ranks",
    "Ritz",
    "Run",
    "Sample",
    "Stage",
    "chain",
    "exact",
    "largest",
    "moments",
    "quadrature",
    "sample",
    "stages",
    "torchrun",
]
