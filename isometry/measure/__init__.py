"""From a Jacobian to its spectrum, one estimator per file."""

from isometry.measure.exact import Measurement, exact
from isometry.measure.options import Options, Progress
from isometry.measure.sample import Sample, sample

__all__ = ["Measurement", "Options", "Progress", "Sample", "exact", "sample"]
