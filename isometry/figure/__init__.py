"""Reports and predictions as pictures, drawn on axes of the caller's or on new ones."""

from isometry.figure.depth import DEPTH_PANELS, depth
from isometry.figure.law import law
from isometry.figure.phase import phase
from isometry.figure.spectrum import spectrum
from isometry.figure.style import new_figure

__all__ = ["DEPTH_PANELS", "depth", "law", "new_figure", "phase", "spectrum"]
