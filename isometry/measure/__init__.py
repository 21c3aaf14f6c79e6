"""From a Jacobian to its spectrum, one estimator per file."""

from isometry.measure.exact import Measurement, exact

__all__ = ["Measurement", "exact"]
