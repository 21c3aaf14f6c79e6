"""Networks of Gaussian weights as tangents flow through them: what a Dyson equation is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isometry.domain import Array, finite, whole
from isometry.errors import TheoryError

#: how far the fractions of neuron types may add up to something other than 1
_FRACTION_ERROR = 1e-9


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons that share an index, sorted into types.

    A type is what all its neurons have in common: the coefficients of the elementwise maps
    along the whole depth of a skip connection, taken jointly.

    Attributes
    ----------
    width : int
        n, the number of neurons. Only ratios of widths matter to the law.
    fractions : sequence of float
        p_τ > 0, the fraction of the neurons that is of type τ; they add up to 1.
    """

    width: int
    fractions: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        """Check the width and the fractions."""
        whole("the width of a layer", self.width, 1)
        p = np.asarray(self.fractions, dtype=float)
        if p.ndim != 1 or not np.all(p > 0) or abs(p.sum() - 1.0) > _FRACTION_ERROR:
            raise TheoryError(
                f"the fractions of the neuron types are {self.fractions!r}; "
                "expected positive numbers that add up to 1"
            )


@dataclass(frozen=True, eq=False)
class Node:
    """A tangent vector x_c = Σ_p d_p ∘ x_p + Σ_p W_p x_p, one entry for each neuron.

    Nodes are made from the input to the output, so a network cannot run in circles. The
    input is the node without terms.

    Attributes
    ----------
    neurons : Neurons
        Whose tangent it is.
    elementwise : sequence of (Node, coefficient)
        Skips and activations: d is one number or one for each type. The nodes named here
        belong to the same `neurons`.
    weights : sequence of (Node, float)
        Gaussian weights, independent of all others: the number is σ_w² > 0, the variance
        of an entry times the width of the node that is read (the fan-in).
    """

    neurons: Neurons
    elementwise: Sequence[tuple[Node, ArrayLike]] = ()
    weights: Sequence[tuple[Node, float]] = ()

    def __post_init__(self) -> None:
        """Check that the terms fit."""
        for source, coefficient in self.elementwise:
            if source.neurons is not self.neurons:
                raise TheoryError(
                    "an elementwise map joins two sets of neurons; expected nodes of one "
                    "Neurons object: use a weight between different layers"
                )
            self._per_type(coefficient)
        for _, variance in self.weights:
            if finite("the variance of a weight", variance) <= 0:
                raise TheoryError(f"the variance of a weight is {variance!r}; expected more than 0")

    def coefficients(self) -> list[tuple[Node, Array]]:
        """The elementwise terms, with one number for each type."""
        return [(source, self._per_type(d)) for source, d in self.elementwise]

    def ancestors(self) -> list[Node]:
        """This node and every node that it depends on, sources first."""
        order: list[Node] = []
        seen: set[Node] = set()
        stack = [(self, False)]
        while stack:
            node, finished = stack.pop()
            if finished:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend((source, False) for source, _ in (*node.elementwise, *node.weights))
        return order

    def _per_type(self, coefficient: ArrayLike) -> Array:
        types = len(self.neurons.fractions)
        d = np.asarray(coefficient, dtype=float)
        if d.shape not in ((), (types,)) or not np.all(np.isfinite(d)):
            raise TheoryError(
                f"the coefficients of an elementwise map have shape {d.shape}; expected one finite "
                f"number, or one for each of the {types} neuron types"
            )
        return np.broadcast_to(d, (types,))


def residual_network(
    neurons: Neurons,
    slopes: Sequence[ArrayLike],
    variances: Sequence[float],
    skip: float,
    *,
    activation_first: bool,
) -> Node:
    """The output of x_l = a x_{l-1} + W_l D_l x_{l-1}, or of a x_{l-1} + D_l W_l x_{l-1}.

    Parameters
    ----------
    neurons
        Of the skip.
    slopes
        For each layer, D_l of each type.
    variances
        For each layer, σ_w² of its weight.
    skip
        a.
    activation_first
        Whether D_l stands before W_l.
    """
    x = Node(neurons)
    for d, variance in zip(slopes, variances, strict=True):
        if activation_first:
            x = Node(neurons, [(x, skip)], [(Node(neurons, [(x, d)]), variance)])
        else:
            x = Node(neurons, [(x, skip), (Node(neurons, weights=[(x, variance)]), d)])
    return x


def source_of(output: Node) -> Node:
    """The one node without terms that `output` depends on."""
    sources = [n for n in output.ancestors() if not n.elementwise and not n.weights]
    if len(sources) != 1:
        raise TheoryError(f"the network has {len(sources)} input nodes; expected one")
    return sources[0]


def by_neurons(nodes: Sequence[Node]) -> dict[Neurons, list[Node]]:
    """The nodes of each set of neurons, in the same order."""
    groups: dict[Neurons, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.neurons, []).append(node)
    return groups


def paths(nodes: Sequence[Node]) -> Array:
    """Sums over elementwise paths between nodes of the same neurons, shape (types, to, from)."""
    place = {node: k for k, node in enumerate(nodes)}
    total = np.zeros((len(nodes[0].neurons.fractions), len(nodes), len(nodes)))
    for k, node in enumerate(nodes):
        total[:, k, k] = 1.0
        for source, d in node.coefficients():
            total[:, k] += d[:, None] * total[:, place[source]]
    return total
