"""Files: a path to a torch module, a path to an input array; the only reader of both."""

from isometry.load.arrays import load_array
from isometry.load.factory import build_model
from isometry.load.model import Loaded, load_model
from isometry.load.sniff import Format, sniff

__all__ = ["Format", "Loaded", "build_model", "load_array", "load_model", "sniff"]
