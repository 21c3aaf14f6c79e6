"""Whether a measurement may be relied on."""

from __future__ import annotations

from dataclasses import dataclass

from isometry.rules import rule


@dataclass(frozen=True)
class SelfCheck:
    """Outcome of the self-check; errors are relative, None where a test could not run.

    Attributes
    ----------
    repeatable : bool
        Two forward passes at the same input gave the same output, to within 20 √eps.
    adjoint_error : float or None
        |⟨u, J v⟩ − ⟨Jᵀu, v⟩| over its typical size ‖J v‖‖u‖/√m, J v by forward mode and
        Jᵀu by reverse mode, for Gaussian u and v.
    dense_error : float or None
        Relative distance between the dense Jacobian's product with a Gaussian vector and the
        same product taken by the other mode of differentiation.
    difference_error : float or None
        Relative distance between J v and a central difference in float64; None when no
        difference can tell, because J v is below its rounding noise or none converges.
    kink : bool
        The central difference disagrees at the input but agrees beside it: the input sits on
        a kink of the network, where the derivative is one of several.
    failures : tuple of str
        Codes of the tests that failed (`isometry rule CODE` explains); empty when all passed.
    loop_error : float or None
        Relative distance between a row taken in a block and the same row taken by itself. It
        counts as a failure only where the central difference cannot tell which is right.
    """

    repeatable: bool
    adjoint_error: float | None
    dense_error: float | None
    difference_error: float | None
    kink: bool
    failures: tuple[str, ...]
    loop_error: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the measurement may be relied on."""
        return not self.failures

    @property
    def reason(self) -> str:
        """What failed and what to do, in words; empty when nothing did."""
        failed = map(rule, self.failures)
        return "; ".join(f"{r.title} ({r.code}; {r.remedy.rstrip('.')})" for r in failed)
