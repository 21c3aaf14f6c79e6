"""Will this network train? Measure the singular values of its input-output Jacobian.

A network is dynamically isometric when the singular values of its end-to-end Jacobian are
all near one: signals and gradients then keep their size at any depth.

    report = isometry.analyze(model, x)      # verdict, score, spectrum, theory, findings
    isometry.check(model, x, min_score=0.1)  # raises NotIsometricError when it fails
    isometry.spectrum(model, x)              # the singular values alone
    isometry.sweep(build, {"depth": [5, 50]})  # a report for each of many networks
    isometry.layers(model, x)                # block by block: which one is to blame
    isometry.Jacobian(model, x)              # J @ V, J.T @ U, dense()
"""

from importlib import import_module
from typing import TYPE_CHECKING

from isometry.depth import DepthProfile
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
from isometry.report import Report
from isometry.spectrum import Spectrum
from isometry.sweep import Sweep, sweep

if TYPE_CHECKING:
    from isometry.analysis import analyze, check, spectrum
    from isometry.coverage import check_architecture
    from isometry.jacobian import Jacobian
    from isometry.profile import layers
else:
    # What needs torch waits until it is asked for: torch takes seconds, reports and rules do not.
    _LAZY = {
        "analyze": "isometry.analysis",
        "check": "isometry.analysis",
        "spectrum": "isometry.analysis",
        "layers": "isometry.profile",
        "check_architecture": "isometry.coverage",
        "Jacobian": "isometry.jacobian",
    }
    # Importing the module isometry.spectrum bound its name, which is that of the function.
    del globals()["spectrum"]

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(_LAZY[name]), name)
        return value


__all__ = [
    "analyze",
    "check",
    "spectrum",
    "sweep",
    "layers",
    "check_architecture",
    "Jacobian",
    "Report",
    "DepthProfile",
    "Spectrum",
    "Sweep",
    "IsometryError",
    "InputError",
    "MemoryBudgetError",
    "LoadError",
    "RefusedError",
    "MeasurementError",
    "TheoryError",
    "NotIsometricError",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
