"""From the numbers to a verdict, and to findings with the way to mend each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isometry import remedy
from isometry.anatomy import Anatomy
from isometry.jacobian.selfcheck import SelfCheck
from isometry.report import Finding, Verdict
from isometry.rules import rule
from isometry.score import Score
from isometry.spectrum import Spectrum

#: Scores at or above this pass, below `FAIL_BELOW` they fail; between them they warn.
PASS_FROM = 0.1
FAIL_BELOW = 0.02

# |drift| or spread at which sech(2·) has fallen to a half: the score is then mostly lost to it.
_NOTABLE = 0.5 * math.acosh(2)
_MANY_DEAD = 0.75  # a ReLU layer kills about half; beyond this it is more than its nature
_DISAGREEING = 0.15  # standard deviation of the score between inputs
_WHOLE = "input → output"


@dataclass(frozen=True)
class Evidence:
    """All that a diagnosis rests on."""

    spectrum: Spectrum
    score: Score
    anatomy: Anatomy
    rank: int  # r
    input_variance: float
    self_check: SelfCheck | None


def diagnose(evidence: Evidence) -> tuple[Verdict, tuple[Finding, ...]]:
    """Return the verdict and the findings, the gravest first."""
    findings = [
        *_untrustworthy(evidence),
        *_drift(evidence),
        *_spread(evidence),
        *_dead(evidence),
        *_remarks(evidence),
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda f: order[f.severity])
    return _verdict(evidence, findings), tuple(findings)


def _verdict(e: Evidence, findings: list[Finding]) -> Verdict:
    if e.self_check is not None and not e.self_check.passed:
        return Verdict("WITHHELD", f"the self-check failed: {rule(findings[0].code).title}")
    value = e.score.value
    status = "PASS" if value >= PASS_FROM else "WARN" if value >= FAIL_BELOW else "FAIL"
    causes = [rule(f.code).title for f in findings if f.severity != "note"]
    if status == "PASS":
        mean = "a random direction keeps its size to within a factor of"
        width = math.exp(abs(e.score.drift) + e.score.spread)
        reason = f"{mean} {_factor(width)} (score {value:.3f})"
    else:
        reason = f"{' and '.join(causes) or 'far from isometric'} (score {value:.2g})"
    return Verdict(status, reason)


def _drift(e: Evidence) -> list[Finding]:
    drift, layers = e.score.drift, len(e.anatomy.kinds)
    if not abs(drift) > _NOTABLE:
        return []
    code = "ISO101" if drift < 0 else "ISO102"
    verb = "shrinks" if drift < 0 else "grows"
    rate = f", {_factor(math.exp(abs(drift) / layers))} per weight layer" if layers else ""
    message = (
        f"a direction {verb} by {_factor(math.exp(abs(drift)))} from input to output{rate} "
        f"(mean log σ = {drift:+.3g})"
    )
    fix = remedy.reinitialise(e.anatomy, e.input_variance)
    return [_finding(code, _severity(e), message, fix or _rescale(e))]


def _spread(e: Evidence) -> list[Finding]:
    spread = e.score.spread
    if not spread > _NOTABLE:
        return []
    lo, hi = e.score.quantiles[0][1], e.score.quantiles[-1][1]
    message = (
        f"singular values differ by a factor of {_factor(math.exp(spread))} (one standard "
        f"deviation of log σ = {spread:.3g}; 5 % to 95 %: {lo:.3g} … {hi:.3g})"
    )
    fix = remedy.reinitialise(e.anatomy, e.input_variance)
    return [_finding("ISO103", _severity(e), message, fix or rule("ISO103").remedy)]


def _dead(e: Evidence) -> list[Finding]:
    if not e.score.dead > 0:
        return []
    names = ", ".join(e.anatomy.activations) or "an activation"
    message = f"{e.score.dead:.0%} of the {e.rank} directions are blocked by {names} (σ = 0)"
    severity = _severity(e) if e.score.dead > _MANY_DEAD else "note"
    return [_finding("ISO104", severity, message, rule("ISO104").remedy)]


def _remarks(e: Evidence) -> list[Finding]:
    found = []
    if e.spectrum.unresolved > 0:
        message = (
            f"{e.spectrum.unresolved:.0%} of the directions are below the floor of "
            f"{e.spectrum.floor:.2g}"
        )
        found.append(_finding("ISO105", "note", message, rule("ISO105").remedy))
    if e.score.spread_between_inputs > _DISAGREEING:
        lo, hi = min(e.score.per_input), max(e.score.per_input)
        message = f"the score runs from {lo:.3g} to {hi:.3g} between inputs"
        found.append(_finding("ISO106", "warning", message, rule("ISO106").remedy))
    if e.rank == 1:
        message = "the score is about one direction only (r = 1)"
        found.append(_finding("ISO107", "warning", message, rule("ISO107").remedy))
    if e.self_check is not None and e.self_check.kink:
        message = "the network is not differentiable at this very input"
        found.append(_finding("ISO201", "note", message, rule("ISO201").remedy))
    return found


def _untrustworthy(e: Evidence) -> list[Finding]:
    if e.self_check is None:
        return []
    numbers = {
        "ISO301": "two forward passes differ",
        "ISO302": f"relative error {_worst(e.self_check):.2g} between the two modes",
        "ISO303": f"relative error {e.self_check.difference_error or 0:.2g}",
    }
    return [
        _finding(code, "error", f"{rule(code).title}: {numbers[code]}", rule(code).remedy)
        for code in e.self_check.failures
    ]


def _worst(check: SelfCheck) -> float:
    return max(check.adjoint_error or 0.0, check.dense_error or 0.0)


def _rescale(e: Evidence) -> str:
    return remedy.rescale(e.anatomy, e.score.drift) if e.anatomy.kinds else rule("ISO101").remedy


def _severity(e: Evidence) -> str:
    """A cause is an error when the network fails, a warning when it warns, else a remark."""
    value = e.score.value
    return "error" if value < FAIL_BELOW else "warning" if value < PASS_FROM else "note"


def _finding(code: str, severity: str, message: str, fix: str) -> Finding:
    return Finding(code=code, severity=severity, message=message, where=_WHOLE, fix=fix)


def _factor(value: float) -> str:
    return f"{value:.3g}" if value < 1e4 else f"{value:.1e}"
