"""Factors of free products: weights, masks, activations, residual layers."""

from __future__ import annotations

from isometry.laws.factors.diagonal import Diagonal
from isometry.laws.factors.factor import Factor
from isometry.laws.factors.gaussian import Gaussian
from isometry.laws.factors.isometry import Isometry
from isometry.laws.factors.residual import Residual

__all__ = ["Diagonal", "Factor", "Gaussian", "Isometry", "Residual"]
