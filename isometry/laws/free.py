"""The law of a free product, whichever class it is of."""

from __future__ import annotations

import math

from isometry.domain import finite
from isometry.laws.atomic import AtomicLaw
from isometry.laws.chain import Factors, chained, interfaces, title
from isometry.laws.law import Law
from isometry.laws.point_masses import places, point_masses
from isometry.laws.product import FreeProduct
from isometry.laws.support import PURELY_ATOMIC
from isometry.laws.transform import Transform


def free_product(factors: Factors, *, log_scale: float = 0.0, name: str | None = None) -> Law:
    """The law of a product of free factors, whichever class it is of.

    `AtomicLaw` where all mass is in the meetings of eigenspaces, as with orthogonal weights and
    a single mask or activation; `FreeProduct` elsewhere.

    Parameters
    ----------
    factors, log_scale, name
        As for `FreeProduct`.

    Raises
    ------
    TheoryError
        When there is no factor, dimensions do not chain, or a power is not a whole number >= 1.

    Examples
    --------
    >>> from isometry.laws.factors import Isometry
    >>> free_product([Isometry(300, 784), Isometry.mask(300, 0.5)]).atoms
    (Atom(sigma=0.0, mass=0.5), Atom(sigma=1.0, mass=0.5))
    """
    chain = chained(factors)
    transform = Transform(chain, interfaces(chain))
    points = point_masses(transform)
    if transform.rank - sum(p.mass for p in points) > PURELY_ATOMIC:
        return FreeProduct(chain, log_scale=log_scale, name=name)
    shift = finite("log_scale", log_scale) + 0.5 * transform.log_scale
    zero = 1.0 - transform.rank
    dead = [(-math.inf, zero)] if zero > 0 else []
    return AtomicLaw.located([*dead, *places(points, shift)], name or title(chain))
