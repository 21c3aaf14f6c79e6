"""Whether a report passes, and the line that says so."""

from __future__ import annotations

from isometry.report import Report


def passes(report: Report, min_score: float | None) -> bool:
    """Whether a report passes the gate; without a score, whatever is not a FAIL does."""
    if min_score is None:
        return report.verdict.status in ("PASS", "WARN")
    return report.trustworthy and report.score.value >= min_score


def line(report: Report, min_score: float | None) -> str:
    """Return the outcome in one line that names the network."""
    word, why = outcome(report, min_score)
    return f"{word} {report.model.name}: {why}"


def outcome(report: Report, min_score: float | None) -> tuple[str, str]:
    """Return the gate's word and the reason: verdict, which may differ, and the first fix."""
    status, reason = report.verdict.status, report.headline
    if not report.trustworthy:
        return status, reason
    passed = passes(report, min_score)
    if min_score is not None:
        verdict = "" if status == "PASS" else f"verdict {status}: "  # two words would confuse
        reason = f"{compared(report, min_score)}; {verdict}{report.verdict.reason}"
        status = "PASS" if passed else "FAIL"
    # A gate above the usual one can fail with findings that are remarks otherwise.
    fix = "" if passed else next((f"; fix: {f.fix}" for f in report.findings), "")
    return status, f"{reason}{fix}"


def compared(report: Report, min_score: float) -> str:
    """Say on which side of the score asked for a report is."""
    side = "at least" if passes(report, min_score) else "below"
    return f"score {_written(report.score.value, min_score)}, {side} the {min_score:.12g} asked for"


def _written(value: float, bound: float) -> str:
    """Write a number in four digits, or in all where four put it on the bound's other side."""
    text = f"{value:.4g}"
    return text if (float(text) >= bound) == (value >= bound) else repr(value)
