"""Will this network train? Measure the singular values of its input-output Jacobian.

A network is dynamically isometric when the singular values of its end-to-end Jacobian are
all near one: signals and gradients then keep their size at any depth.

    report = isometry.analyze(model, x)      # verdict, score, spectrum, theory, findings
    isometry.check(model, x, min_score=0.1)  # raises NotIsometricError when it fails
    isometry.spectrum(model, x)              # the singular values alone
    isometry.Jacobian(model, x)              # J @ V, J.T @ U, dense()
"""

from isometry.analysis import analyze, check, spectrum
from isometry.errors import (
    InputError,
    IsometryError,
    LoadError,
    MeasurementError,
    MemoryBudgetError,
    NotIsometricError,
    RefusedError,
    TheoryError,
)
from isometry.jacobian import Jacobian
from isometry.report import Report
from isometry.spectrum import Spectrum

__all__ = [
    "analyze",
    "check",
    "spectrum",
    "Jacobian",
    "Report",
    "Spectrum",
    "IsometryError",
    "InputError",
    "MemoryBudgetError",
    "LoadError",
    "RefusedError",
    "MeasurementError",
    "TheoryError",
    "NotIsometricError",
]
