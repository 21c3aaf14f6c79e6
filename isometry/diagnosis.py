"""From the numbers to a verdict, and to findings with the way to mend each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from isometry import remedy
from isometry.anatomy import Anatomy
from isometry.report import Finding, InputInfo, JacobianInfo, Verdict, percent, power
from isometry.rules import rule
from isometry.score import Score
from isometry.spectrum import Spectrum
from isometry.trust import SelfCheck

#: Scores at or above this pass, below `FAIL_BELOW` they fail; between them they warn.
#: Read off `examples/pilot_thresholds.py`: of 240 networks trained on the digits, 106 of the
#: 119 at or above 0.05 learnt within the budget, 6 of the 29 between, 14 of the 92 below 0.02.
PASS_FROM = 0.05
FAIL_BELOW = 0.02
#: A gain from here on fails whatever the score: a spectrum spread over many decades keeps some
#: directions near one while signals explode.
EXPLODES_FROM = 100.0
#: Up to so many weight layers a FAIL says little about training: of the pilot's networks below
#: 0.02, 7 of the 11 of at most ten layers learnt, and 7 of the 81 deeper ones.
SHALLOW = 10

# |log gain| or spread at which sech(2·) has fallen to a half: the score is mostly lost to it.
_NOTABLE = 0.5 * math.acosh(2)
_MANY_DEAD = 0.75  # a ReLU layer kills about half; beyond this it is more than its nature
_DISAGREEING = 0.15  # standard deviation of the score between inputs
_BEST_ALREADY = (
    "the weights already have the best initialisation known for this chain: use fewer layers, a "
    "leaky or smooth activation, or skip connections with branches scaled by 1/√L"
)
_SOFTMAX = (
    "a softmax shrinks signals whatever the weights: measure up to its input, the logits (--stop)"
)
_HIGH_FLOOR = 0.01  # below it the hidden directions could not add 0.0002 to the score


@dataclass(frozen=True)
class Evidence:
    """All that a diagnosis rests on."""

    spectrum: Spectrum
    score: Score
    jacobian: JacobianInfo
    input: InputInfo
    anatomy: Anatomy
    ends: tuple[str, str] = ("input", "output")  # between which layers
    whole: bool = True  # all of the output by all of the input, in evaluation mode
    untouched: bool = False  # normalises by running statistics that have seen no batch
    odd: tuple[Finding, ...] = ()  # what theory finds odd about its weights

    @cached_property
    def status(self) -> str:
        """The verdict that the numbers give, if they may be relied on."""
        if self.score.value < FAIL_BELOW or self.score.gain >= EXPLODES_FROM:
            return "FAIL"
        return "PASS" if self.score.value >= PASS_FROM else "WARN"

    @property
    def severity(self) -> str:
        """A cause is an error when the network fails, a warning when it warns, else a remark."""
        return {"FAIL": "error", "WARN": "warning", "PASS": "note"}[self.status]

    @property
    def layers(self) -> int:
        """Weight layers between the ends; 0 where they are not counted."""
        return len(self.anatomy.kinds) if self.whole else 0

    @property
    def input_variance(self) -> float:
        """Mean square of the input's entries."""
        return self.input.rms**2


def diagnose(evidence: Evidence) -> tuple[Verdict, tuple[Finding, ...]]:
    """Return the verdict and the findings, the gravest first."""
    findings = [
        *_untrustworthy(evidence),
        *_gain(evidence),
        *_spread(evidence),
        *_dead(evidence),
        *evidence.odd,
        *_remarks(evidence),
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda f: order[f.severity])
    return _verdict(evidence, findings), tuple(findings)


def _verdict(e: Evidence, findings: list[Finding]) -> Verdict:
    check = e.jacobian.self_check
    if check is not None and not check.passed:
        return Verdict("WITHHELD", f"the self-check failed: {rule(findings[0].code).title}")
    if e.status == "PASS":
        spread = f"singular values spread by a factor of {_factor(e.score.spread)}"
        reason = f"gain {power(e.score.log_gain)}, {spread} at one standard deviation{_zeros(e)}"
        return Verdict("PASS", reason)
    untouched = rule("ISO108")
    causes = [rule(f.code) for f in findings if f.severity != "note"]
    titles = [cause.title for cause in causes if cause != untouched]
    reason = " and ".join(titles) or "few singular values are near one"
    if e.untouched:
        reason += f" in evaluation mode, where {untouched.title}"
    if e.status == "FAIL":
        reason = f"not isometric: {reason}"
        if 0 < e.layers <= SHALLOW:
            reason += "; so shallow a network may train anyway, with a tuned learning rate"
    return Verdict(e.status, reason)


def _zeros(e: Evidence) -> str:
    """Say which part of the directions the spread is not about."""
    masses = ((e.score.dead, "dead"), (e.spectrum.unresolved, "unresolved"))
    return "".join(f", {percent(mass)} of the directions {name}" for mass, name in masses if mass)


def _gain(e: Evidence) -> list[Finding]:
    """Judge the gain, not the drift: mean log σ can be negative in a network that explodes."""
    log_gain = e.score.log_gain
    if not _NOTABLE < abs(log_gain) < math.inf:
        return []
    code, verb = ("ISO101", "shrink") if log_gain < 0 else ("ISO102", "grow")
    size = abs(log_gain)
    rate = f", {_per_layer(size / e.layers)} per weight layer" if e.layers else ""
    message = (
        f"signals {verb} by a factor of {_factor(size)} from {' to '.join(e.ends)}{rate} "
        f"(root mean square σ; mean log σ = {e.score.drift:+.3g})"
    )
    return [_finding(e, code, e.severity, message, _recipe(e, code))]


def _spread(e: Evidence) -> list[Finding]:
    spread = e.score.spread
    if not spread > _NOTABLE:
        return []
    (_, lo), *_, (_, hi) = e.score.log_quantiles
    lowest = power(lo)
    if e.spectrum.unresolved and lo == -math.inf:
        lowest = f"below {_floor(e)}" if math.isfinite(e.spectrum.log_floor) else "lost"
    message = (
        "singular values, and gradients of different directions with them, differ by a factor of "
        f"{_factor(spread)} (one standard deviation of log σ = {spread:.3g}; 5 % to 95 %: "
        f"{lowest} … {power(hi)})"
    )
    return [_finding(e, "ISO103", e.severity, message, _recipe(e, "ISO103"))]


def _recipe(e: Evidence, code: str) -> str:
    """Return code to paste for a whole network in trouble; words for one that is well."""
    if e.untouched:
        return rule("ISO108").remedy
    if code == "ISO101" and e.anatomy.softmax:
        return _SOFTMAX
    if e.severity == "note" or not e.whole:
        return rule(code).remedy
    if remedy.is_at_its_best(e.anatomy, e.input_variance):
        return _BEST_ALREADY
    code_to_paste = remedy.reinitialise(e.anatomy, e.input_variance)
    if code_to_paste is None and code != "ISO103":
        code_to_paste = remedy.rescale(e.anatomy, e.score.log_gain)
    return code_to_paste or rule(code).remedy


def _dead(e: Evidence) -> list[Finding]:
    if not e.score.dead > 0:
        return []
    names = ", ".join(e.anatomy.activations) or "an activation"
    share = f"{percent(e.score.dead)} of the {e.jacobian.rank} directions"
    message = f"{share} are blocked by {names} (σ = 0)"
    severity = e.severity if e.score.dead > _MANY_DEAD else "note"
    return [_finding(e, "ISO104", severity, message, rule("ISO104").remedy)]


def _remarks(e: Evidence) -> list[Finding]:
    found = []
    if e.spectrum.unresolved > 0:
        message = f"{percent(e.spectrum.unresolved)} of the directions are "
        if math.isfinite(e.spectrum.log_floor):
            message += f"below the floor of {_floor(e)}"
        else:
            message += "lost in a layer that is singular to machine precision"
        if e.spectrum.floor > _HIGH_FLOOR:
            message += ", high enough to hide healthy ones: the score is a lower bound"
        found.append(_finding(e, "ISO105", "note", message, rule("ISO105").remedy))
    if e.score.spread_between_inputs > _DISAGREEING:
        lo, hi = min(e.score.per_input), max(e.score.per_input)
        message = f"the score runs from {lo:.3g} to {hi:.3g} between inputs"
        found.append(_finding(e, "ISO106", "warning", message, rule("ISO106").remedy))
    if e.jacobian.rank == 1:
        outputs, inputs = e.jacobian.shape
        by = "output" if outputs == 1 else "input" if inputs == 1 else "unit in a layer"
        message = f"the score is about one direction only: one {by} (r = 1)"
        found.append(_finding(e, "ISO107", "warning", message, rule("ISO107").remedy))
    if e.untouched:
        message = f"{rule('ISO108').title}: in evaluation mode normalisation does nothing yet"
        found.append(_finding(e, "ISO108", "warning", message, rule("ISO108").remedy))
    if e.jacobian.self_check is not None and e.jacobian.self_check.kink:
        message = "the network is not differentiable at this very input"
        found.append(_finding(e, "ISO201", "note", message, rule("ISO201").remedy))
    return found


def _untrustworthy(e: Evidence) -> list[Finding]:
    check = e.jacobian.self_check
    if check is None:
        return []
    errors = _errors(check)
    failed = [rule(code) for code in check.failures]
    return [
        _finding(e, r.code, "error", f"{r.title}: {r.evidence.format(**errors)}", r.remedy)
        for r in failed
    ]


def _errors(check: SelfCheck) -> dict[str, float]:
    """Return the errors by the names that the rules know them by."""
    return {
        "modes": max(check.adjoint_error or 0.0, check.dense_error or 0.0),
        "difference": check.difference_error or 0.0,
        "loop": check.loop_error or 0.0,
    }


def _finding(e: Evidence, code: str, severity: str, message: str, fix: str) -> Finding:
    where = " → ".join(e.ends)
    return Finding(code=code, severity=severity, message=message, where=where, fix=fix)


def _factor(logarithm: float) -> str:
    """Write e^logarithm, also where it leaves the range of floating point."""
    return power(logarithm, 3 if logarithm < math.log(1e4) else 2)


def _per_layer(logarithm: float) -> str:
    """Write e^logarithm in so many digits that a deep network's is not 1."""
    return power(logarithm, 6) if logarithm < 0.01 else _factor(logarithm)


def _floor(e: Evidence) -> str:
    return power(e.spectrum.log_floor, 2)
