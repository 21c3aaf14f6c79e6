"""Ways to take products with a Jacobian, one a file, and the ladders they stand on.

With f: ℝⁿ → ℝᵐ (any tensor shapes) at x, a *reverse* route maps a block U of k cotangents
(k, *output) to the rows UᵀJ, a *forward* route a block V of k tangents (k, *input) to the columns
J V. Both are made for one f and one x and hold what they computed there.

`torch.func.linearize` is not among them: it returns wrong products from its second call on for
several architectures, recurrent networks among them.
"""

from isometry.jacobian.routes.batched_gradient import BatchedGradient
from isometry.jacobian.routes.central_difference import CentralDifference
from isometry.jacobian.routes.double_gradient import DoubleGradient
from isometry.jacobian.routes.double_pullback import DoublePullback
from isometry.jacobian.routes.graph_pullback import GraphPullback
from isometry.jacobian.routes.ladder import Ladder
from isometry.jacobian.routes.looped_gradient import LoopedGradient
from isometry.jacobian.routes.pullback import Pullback
from isometry.jacobian.routes.pushforward import Pushforward
from isometry.jacobian.routes.route import Route
from isometry.jacobian.routes.weighted_gradient import WeightedGradient

REVERSE: tuple[type[Route], ...] = (
    Pullback,
    BatchedGradient,
    LoopedGradient,
    WeightedGradient,
)
FORWARD: tuple[type[Route], ...] = (
    Pushforward,
    DoublePullback,
    DoubleGradient,
    CentralDifference,
)

__all__ = [
    "FORWARD",
    "REVERSE",
    "BatchedGradient",
    "CentralDifference",
    "DoubleGradient",
    "DoublePullback",
    "GraphPullback",
    "Ladder",
    "LoopedGradient",
    "Pullback",
    "Pushforward",
    "Route",
    "WeightedGradient",
]
