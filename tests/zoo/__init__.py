"""Every configuration of a network that the coverage table speaks about."""

from itertools import chain

from tests.zoo import (
    architectures,
    functions,
    hub,
    layers,
    losses,
    operations,
    quantised,
    sequences,
    signatures,
    silent,
    vision,
    wrapped,
)
from tests.zoo.case import Case

CASES: tuple[Case, ...] = tuple(
    chain(
        *layers.FAMILIES,
        *sequences.FAMILIES,
        losses.CASES,
        silent.CASES,
        functions.CASES,
        operations.CASES,
        architectures.CASES,
        wrapped.CASES,
        quantised.CASES,
        signatures.CASES,
        hub.CASES,
        *vision.FAMILIES,
    )
)


def by_name(name: str) -> Case:
    """Return the case of that name."""
    (found,) = (c for c in CASES if c.name == name)
    return found
