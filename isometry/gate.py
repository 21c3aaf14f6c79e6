"""Whether a report passes, and the line that says so."""

from __future__ import annotations

from isometry.report import Report


def passes(report: Report, min_score: float | None) -> bool:
    """Whether a report passes the gate; without a score, whatever is not a FAIL does."""
    if min_score is None:
        return report.verdict.status in ("PASS", "WARN")
    return report.trustworthy and report.score.value >= min_score


def outcome(report: Report, min_score: float | None) -> tuple[str, str]:
    """Return the gate's word and the reason: verdict, which may differ, and the first fix."""
    status, reason = report.verdict.status, report.verdict.reason
    if not report.trustworthy:
        return status, reason
    passed = passes(report, min_score)
    if min_score is not None:
        side = "at least" if passed else "below"
        asked = f"score {report.score.value:.4g}, {side} the {min_score:g} asked for"
        verdict = "" if status == "PASS" else f"verdict {status}: "  # two words would confuse
        status, reason = "PASS" if passed else "FAIL", f"{asked}; {verdict}{reason}"
    # A gate above the usual one can fail with findings that are remarks otherwise.
    fix = "" if passed else next((f"; fix: {f.fix}" for f in report.findings), "")
    return status, f"{reason}{fix}"
