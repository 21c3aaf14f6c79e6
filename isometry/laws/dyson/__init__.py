"""Networks of Gaussian weights, skips and joint masks included: the matrix Dyson equation."""

from __future__ import annotations

from isometry.laws.dyson.law import DysonLaw
from isometry.laws.dyson.network import Neurons, Node
from isometry.laws.dyson.types import NeuronTypes

__all__ = ["DysonLaw", "NeuronTypes", "Neurons", "Node"]
