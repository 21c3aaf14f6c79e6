"""Does the operator tell the truth about an architecture? Checks to run on one's own."""

from isometry.coverage.architecture import check_architecture
from isometry.coverage.record import Check, Coverage

__all__ = ["Check", "Coverage", "check_architecture"]
