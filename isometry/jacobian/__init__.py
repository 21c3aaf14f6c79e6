"""The matrix-free input-output Jacobian of a network, and the proof that it is right."""

from isometry.jacobian.operator import Jacobian
from isometry.jacobian.selection import Selection
from isometry.jacobian.selfcheck import self_check

__all__ = ["Jacobian", "Selection", "self_check"]
