"""The matrix Dyson equation of a network of Gaussian weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from isometry.domain import Array
from isometry.errors import TheoryError
from isometry.laws.dyson.hub import Hub, Numbers
from isometry.laws.dyson.network import Node, by_neurons, paths, source_of

_EPS = float(np.finfo(float).eps)


class Linearised(NamedTuple):
    """u - f(q, u) to first order."""

    residual: Numbers  # (points, ports)
    jacobian: Numbers  # (points, ports, ports), in u
    by_log_q: Numbers  # (points, ports)
    rounding: Array  # (points,), bound on the rounding error of f, relative


@dataclass(frozen=True)
class DysonEquation:
    r"""Self-consistent equations for the law of J, width → ∞, as a function of q = -1/z.

    With y_j the variance that reaches the drive j, x_i that which leaves the read i,
    R the transfer matrix of a neuron and ⟨·⟩ the average over the neuron types of a hub,

        γ_i = ⟨[(1 + q R y Rᵀ x)⁻¹ R y Rᵀ]_ii⟩,    y_j = [j input] + Σ σ_w² γ_i
        γ̂_j = ⟨[(1 + q Rᵀ x R y)⁻¹ Rᵀ x R]_jj⟩,    x_i = [i output] + Σ σ_w² (n_j/n_i) γ̂_j

    the sums running over the weights that go from i to j. These are the diagonal blocks of
    the averaged resolvent of the Hermitian pencil of the network, divided by √q, in which
    every matrix has the size of the ports of one hub. At q = 0 they are the variances of
    forward and backward signals. Then

        Tr x/(z-x)     = -q n γ at the output
        Tr log(1-x/z)  = Σ_hubs n ⟨log det(1 + q R y Rᵀ x)⟩ - q Σ_weights σ_w² n_j γ̂_j γ_i

    The second is the free energy of the equation: stationary in γ and γ̂, so its derivative in
    log z is the first. For Re √q > 0 there is one solution with Re √q γ, Re √q γ̂ > 0.

    References
    ----------
    Helton, Rashidi Far and Speicher, Operator-valued semicircular elements: solving a
    quadratic matrix equation with positivity constraints, 2007 (existence and uniqueness).
    Ajanki, Erdős and Krüger, Stability of the matrix Dyson equation and random matrices with
    correlations, 2019.
    """

    hubs: tuple[Hub, ...]
    forward: Array  # (drives, reads): y = [input] + forward γ
    backward: Array  # (reads, drives): x = [output] + backward γ̂
    input: int  # among the drives
    output: int  # among the reads
    width: float  # n of the output

    @classmethod
    def of(cls, output: Node) -> DysonEquation:
        """The equation of the network that ends in `output`."""
        nodes, source = output.ancestors(), source_of(output)
        read = {s for node in nodes for s, _ in node.weights} | {output}
        hubs: list[Hub] = []
        reads: dict[Node, int] = {}
        drives: dict[Node, int] = {}
        for neurons, members in by_neurons(nodes).items():
            out = [k for k, node in enumerate(members) if node in read]
            into = [k for k, node in enumerate(members) if node.weights or node is source]
            transfer = paths(members)[:, out][:, :, into]
            places = (
                slice(len(reads), len(reads) + len(out)),
                slice(len(drives), len(drives) + len(into)),
            )
            hubs.append(Hub(transfer, np.asarray(neurons.fractions), neurons.width, *places))
            reads.update((members[k], places[0].start + i) for i, k in enumerate(out))
            drives.update((members[k], places[1].start + j) for j, k in enumerate(into))
        forward, backward = np.zeros((len(drives), len(reads))), np.zeros((len(reads), len(drives)))
        for node in nodes:
            for origin, variance in node.weights:
                j, i = drives[node], reads[origin]
                forward[j, i] += variance
                backward[i, j] += variance * node.neurons.width / origin.neurons.width
        ends = drives[source], reads[output]
        return cls(tuple(hubs), forward, backward, *ends, output.neurons.width)._alive()

    @property
    def ports(self) -> int:
        """Number of unknowns: the reads, then the drives."""
        return sum(self.forward.shape)

    def variances(self) -> Array:
        """The solution at q = 0, shape (1, ports): signals are added up along the network."""
        u = np.zeros((1, self.ports))
        for _ in range(self.ports):  # no path is longer
            x, y = self._leaving_and_reaching(u)
            u = np.zeros_like(u)
            for hub, (i, j) in zip(self.hubs, self._places(), strict=True):
                u[:, i] = y[:, hub.drives] @ hub.gain.T
                u[:, j] = x[:, hub.reads] @ hub.gain
        return u

    def linearise(self, q: Numbers, u: Numbers) -> Linearised:
        """The equation near u, for q of shape (points,), not 0, and u of shape (points, ports).

        It is solved as one for q x γ and q y γ̂, in which nothing cancels, however small or large
        q is.
        """
        x, y = self._leaving_and_reaching(u)
        h, reads = np.sqrt(q)[:, None], x.shape[1]
        f, amplified = np.empty_like(u), np.zeros(q.shape)
        # derivatives of q x γ and q y γ̂ in log x and log y
        slope = np.zeros((*u.shape, self.ports), dtype=u.dtype)
        for hub, (i, j) in zip(self.hubs, self._places(), strict=True):
            found = hub.response(h * x[:, hub.reads], h * y[:, hub.drives])
            f[:, i], f[:, j] = found.reads, found.drives
            slope[:, i, i], slope[:, j, j] = -found.within_reads, -found.within_drives
            slope[:, i, j], slope[:, j, i] = found.across, np.swapaxes(found.across, 1, 2)
            amplified = np.maximum(amplified, found.amplified)
        scale = np.concatenate([x, y], axis=1) * q[:, None]
        f /= scale
        slope /= scale[:, :, None]
        by_x, by_y = slope[:, :, :reads], slope[:, :, reads:]
        jacobian = np.eye(self.ports) - np.concatenate(
            [(by_y / y[:, None]) @ self.forward, (by_x / x[:, None]) @ self.backward], axis=2
        )
        # q stands only beside x in γ and beside y in γ̂
        by_log_q = np.concatenate(
            [by_x[:, :reads].sum(axis=2), by_y[:, reads:].sum(axis=2)], axis=1
        )
        return Linearised(u - f, jacobian, -by_log_q, 16.0 * _EPS * (1.0 + amplified))

    def trace(self, q: Numbers, u: Numbers) -> Numbers:
        """Tr x / (z - x)."""
        return -self.width * q * u[:, self.output]

    def log_determinant(self, q: Numbers, u: Numbers) -> Numbers:
        """Tr log(1 - x/z), continued from the negative axis to the upper half plane of z."""
        x, y = self._leaving_and_reaching(u)
        h, reads = np.sqrt(q)[:, None], x.shape[1]
        exchanged = (u[:, :reads] @ self.forward.T) * u[:, reads:]
        total = np.zeros(q.shape, dtype=u.dtype)
        for hub in self.hubs:
            value = hub.log_determinant(h * x[:, hub.reads], h * y[:, hub.drives])
            total = total + hub.width * (value - q * exchanged[:, hub.drives].sum(axis=1))
        return total

    def _leaving_and_reaching(self, u: Numbers) -> tuple[Numbers, Numbers]:
        """x at the reads and y at the drives."""
        reads = self.forward.shape[1]
        x = u[:, reads:] @ self.backward.T
        y = u[:, :reads] @ self.forward.T
        x[:, self.output] += 1.0
        y[:, self.input] += 1.0
        return x, y

    def _places(self) -> list[tuple[slice, slice]]:
        """Where the reads and the drives of each hub stand among the unknowns."""
        reads = self.forward.shape[1]
        return [
            (hub.reads, slice(reads + hub.drives.start, reads + hub.drives.stop))
            for hub in self.hubs
        ]

    def _alive(self) -> DysonEquation:
        """The same equation without ports that no signal reaches or that reach no output."""
        u = self.variances()
        x, y = self._leaving_and_reaching(u)
        reads = x.shape[1]
        read, drive = (u[0, :reads] > 0) & (x[0] > 0), (u[0, reads:] > 0) & (y[0] > 0)
        forward, backward = self.forward[np.ix_(drive, read)], self.backward[np.ix_(read, drive)]
        if not (read[self.output] and np.any(forward > 0)):
            raise TheoryError(
                "no Gaussian weight lies between the input and the output, or every signal is "
                "masked; expected at least one that carries a signal: use AtomicLaw"
            )
        hubs = []
        for hub in self.hubs:
            transfer = hub.transfer[:, read[hub.reads]][:, :, drive[hub.drives]]
            if transfer.size:
                places = _renumbered(hub.reads, read), _renumbered(hub.drives, drive)
                hubs.append(Hub(transfer, hub.fractions, hub.width, *places))
        ends = int(drive[: self.input].sum()), int(read[: self.output].sum())
        return DysonEquation(tuple(hubs), forward, backward, *ends, self.width)


def _renumbered(places: slice, alive: Array) -> slice:
    """The same places where only those alive are counted."""
    return slice(int(alive[: places.start].sum()), int(alive[: places.stop].sum()))
