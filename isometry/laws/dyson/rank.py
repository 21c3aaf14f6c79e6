"""The rank and the exact eigenspaces of a network of Gaussian weights, by counting paths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.laws.dyson.network import Neurons, Node, by_neurons, paths, source_of

#: masses below this are rounding of exact zeros
_ROUNDING = 1e-10

Chosen = NDArray[np.bool_]
Places = NDArray[np.intp]


def shape_rank(output: Node) -> float:
    """The rank that the widths allow: the bottleneck between the input and the output."""
    return _flow(output, masked=False)


def rank(output: Node) -> float:
    """The rank of J for generic weights, n at the output wide.

    It is the largest number of paths from the inputs to the outputs of which no two share a
    neuron (Menger; Lindström, Gessel and Viennot for the minors of J), unless elementwise
    paths of one neuron cancel exactly.
    """
    return _flow(output)


def skipped(output: Node) -> dict[float, float]:
    """Eigenvalues x = a² > 0 of J Jᵀ that Gaussian weights do not move, and their multiplicities.

    Neurons that no weight reads pass their input to their own output, times a. On the
    inputs v of such neurons J v = a v, and so JᵀJ v = a² v where nothing that the other
    neurons write on their outputs is correlated with v: the multiplicity is their number less
    the rank of what is written. Likewise, with J transposed, for neurons that no weight
    writes to before the output.
    """
    nodes, source = output.ancestors(), source_of(output)
    if source.neurons is not output.neurons or output is source:
        return {}
    members = by_neurons(nodes)[output.neurons]
    read = {s for node in nodes for s, _ in node.weights}
    reads = [k for k, node in enumerate(members) if node in read]
    drives = [k for k, node in enumerate(members) if node.weights]
    first, last = members.index(source), members.index(output)
    transfer = paths(members)
    direct = transfer[:, last, first]
    unread = ~np.any(transfer[:, reads, first], axis=1) & (direct != 0)
    unwritten = ~np.any(transfer[:, last, drives], axis=1) & (direct != 0)
    fractions = np.asarray(output.neurons.fractions)
    found: dict[float, float] = {}
    for a in np.unique(np.abs(direct[unread | unwritten])):
        kept, largest = np.abs(direct) == a, 0.0
        for chosen, starts in ((unread & kept, False), (unwritten & kept, True)):
            number = output.neurons.width * float(fractions[chosen].sum())
            if number > 0:
                largest = max(largest, number - _flow(output, chosen=chosen, chosen_start=starts))
        if largest > _ROUNDING * output.neurons.width:
            found[float(a) ** 2] = largest
    return found


def _flow(
    output: Node, *, masked: bool = True, chosen: Chosen | None = None, chosen_start: bool = True
) -> float:
    """The largest flow from the input to the output, every neuron of every node carrying 1.

    Parameters
    ----------
    output
        Its network.
    masked
        Whether elementwise maps stop where their coefficient is 0.
    chosen, chosen_start
        Types of the outer neurons: the flow starts at those and ends at the others, or
        the other way round. None: it starts and ends at all.
    """
    nodes, source = output.ancestors(), source_of(output)
    flow = _Flow()
    vertices = {node: flow.add(_capacities(node.neurons)) for node in nodes}
    for node in nodes:
        for parent, d in node.coefficients():
            alive = (d != 0) | (not masked)
            flow.join(vertices[parent][alive], vertices[node][alive])
        for parent, _ in node.weights:
            middle = flow.add(np.array([np.inf]))
            flow.join(vertices[parent], middle)
            flow.join(middle, vertices[node])
    starts, ends = vertices[source], vertices[output]
    if chosen is not None:
        starts, ends = starts[chosen == chosen_start], ends[chosen != chosen_start]
    return flow.largest(starts, ends)


def _capacities(neurons: Neurons) -> Array:
    return neurons.width * np.asarray(neurons.fractions, dtype=float)


class _Flow:
    """A directed graph whose vertices have capacities, and its largest flow."""

    def __init__(self) -> None:
        self.capacities: list[Array] = []
        self.tails: list[Places] = []
        self.heads: list[Places] = []

    def add(self, capacities: Array) -> Places:
        """New vertices; what names them."""
        first = sum(c.size for c in self.capacities)
        self.capacities.append(capacities)
        return np.arange(first, first + capacities.size)

    def join(self, tails: Places, heads: Places) -> None:
        """Arcs from tails to heads, pairwise or from one to many or from many to one."""
        pairs = np.broadcast_arrays(tails, heads)
        self.tails.append(pairs[0])
        self.heads.append(pairs[1])

    def largest(self, starts: Places, ends: Places) -> float:
        """A linear program: what enters a vertex leaves it and fits into it."""
        capacity = np.concatenate(self.capacities)
        outside = np.full(1, capacity.size)  # the arcs from and to it close the flow
        tails = np.concatenate([*self.tails, np.broadcast_to(outside, starts.shape), ends])
        heads = np.concatenate([*self.heads, starts, np.broadcast_to(outside, ends.shape)])
        arcs = np.arange(tails.size)
        shape = capacity.size + 1, arcs.size
        into = coo_array((np.ones(arcs.size), (heads, arcs)), shape=shape).tocsr()
        out = coo_array((np.ones(arcs.size), (tails, arcs)), shape=shape).tocsr()
        limited = np.flatnonzero(np.isfinite(capacity))
        unit = float(np.max(capacity[limited]))
        found = linprog(
            np.where(tails == capacity.size, -1.0, 0.0),
            A_ub=into[limited],
            b_ub=capacity[limited] / unit,
            A_eq=(into - out)[: capacity.size],
            b_eq=np.zeros(capacity.size),
            method="highs",
        )
        if not found.success:
            raise TheoryError(f"the rank of the network could not be found: {found.message}")
        return -unit * float(found.fun)
