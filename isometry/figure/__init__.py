"""Reports and predictions as pictures, drawn on axes of the caller's or on new ones."""

from isometry.figure.spectrum import spectrum
from isometry.figure.style import new_figure

__all__ = ["new_figure", "spectrum"]
