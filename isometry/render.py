"""A report as text for the terminal, and as HTML for a notebook."""

from __future__ import annotations

import html as markup
import textwrap
from dataclasses import replace

from isometry.histogram import bin_edges, heights
from isometry.report import Finding, Report, percent
from isometry.spectrum import Spectrum

_WIDTH = 96
_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_COLOURS = {"PASS": "#2e7d32", "WARN": "#b26a00", "FAIL": "#c62828", "WITHHELD": "#616161"}


def text(report: Report) -> str:
    """Return the whole report for a terminal, the verdict first."""
    return "\n\n".join(p for p in (results(report), notes(report)) if p)


def notes(report: Report) -> str:
    """Return the notes, one a line."""
    return "\n".join(f"note: {n}" for n in report.notes)


def results(report: Report) -> str:
    """Return the report without its notes."""
    parts = [
        f"{report.verdict.status}  {report.verdict.reason}",
        _facts(report),
        histogram(report.spectrum),
        _numbers(report),
        _theory(report),
        _findings(report.findings),
    ]
    return "\n\n".join(p for p in parts if p)


def line(report: Report) -> str:
    """Return the verdict in one line."""
    return f"{report.verdict.status} {report.model.name}: {report.verdict.reason}"


def finding(f: Finding) -> str:
    """Return one finding: code, message, and the fix on a line of its own, ready to copy."""
    return f"{f.severity}[{f.code}] {f.where}: {f.message}\n  fix: {f.fix}"


def _findings(findings: tuple[Finding, ...]) -> str:
    """Return all findings; a fix that mends several is written once."""
    lines: list[str] = []
    first: dict[str, str] = {}
    for f in findings:
        code = first.setdefault(f.fix, f.code)
        lines.append(finding(f if code == f.code else replace(f, fix=f"as for {code}")))
    return "\n".join(lines)


def histogram(spectrum: Spectrum, rows: int = 12) -> str:
    """Return a histogram of log σ in characters, dead and unresolved mass as rows of their own."""
    lines = [f"{'log σ':>8}  share of the directions"]
    edges = bin_edges(spectrum, bins=rows)
    shares = heights(spectrum, edges) * (edges[1] - edges[0])
    largest = max([*shares, spectrum.dead, spectrum.unresolved])
    for name, mass in (("dead", spectrum.dead), ("floor", spectrum.unresolved)):
        if mass > 0:
            lines.append(f"{name:>8} ┤{_bar(mass, largest)}{_percent(mass)}")
    digits = 3 if edges[-1] - edges[0] < 1 else 2
    for centre, share in zip((edges[:-1] + edges[1:]) / 2, shares, strict=True):
        lines.append(f"{centre:>+8.{digits}f} ┤{_bar(share, largest)}{_percent(share)}")
    return "\n".join(lines)


def html(report: Report) -> str:
    """Return the report as HTML; every string from the model or its file is escaped."""
    colour = _COLOURS.get(report.verdict.status, "#000")
    rows = "".join(
        f"<tr><td>{name}</td><td style='text-align:right'>{markup.escape(value)}</td></tr>"
        for name, value in _score_rows(report)
    )
    findings = "".join(
        f"<li><b>{markup.escape(f.code)}</b> {markup.escape(f.message)}<br>"
        f"<code>{markup.escape(f.fix)}</code></li>"
        for f in report.findings
    )
    return (
        f"<div><p><b style='color:{colour}'>{markup.escape(report.verdict.status)}</b> "
        f"{markup.escape(report.model.name)}: {markup.escape(report.verdict.reason)}</p>"
        f"<table>{rows}</table><pre>{markup.escape(histogram(report.spectrum))}</pre>"
        f"<ul>{findings}</ul></div>"
    )


def _facts(report: Report) -> str:
    m, n = report.jacobian.shape
    check = report.jacobian.self_check
    checked = "switched off" if check is None else "passed" if check.passed else "FAILED"
    if check is not None and check.passed and check.difference_error is None:
        checked = "passed, as far as it can tell (finite differences cannot)"
    count = f", {report.input.samples} of them" if report.input.samples > 1 else ""
    rows = [
        (
            "model",
            f"{report.model.name} ({report.model.kind}, {report.model.parameters:,} parameters)",
        ),
        (
            "input",
            f"{report.input.source}, shape {report.input.shape}{count}, rms {report.input.rms:.3g}",
        ),
        ("jacobian", f"{m} × {n}, {report.jacobian.dtype} on {report.jacobian.device}"),
        ("self-check", checked),
    ]
    return _table(rows)


def _numbers(report: Report) -> str:
    return _table(_score_rows(report))


def _score_rows(report: Report) -> list[tuple[str, str]]:
    s = report.score
    below = f"<{report.spectrum.floor:.2g}" if report.spectrum.unresolved else "0"
    quantiles = "  ".join(f"{p:.0%}: {f'{v:.3g}' if v else below}" for p, v in s.quantiles)
    rows = [
        ("score", f"{s.value:.4g}  (1 is an isometry)"),
        ("drift", f"{s.drift:+.4g}  mean of log σ"),
        ("spread", f"{s.spread:.4g}  standard deviation of log σ"),
        ("gain", f"{s.gain:.4g}  root mean square σ"),
        ("dead", f"{s.dead:.1%}  of {report.jacobian.rank} directions"),
        ("condition", f"{_condition(report)}  σ_max / σ_min"),
        ("quantiles", quantiles),
    ]
    if len(s.per_input) > 1:
        lo, hi = min(s.per_input), max(s.per_input)
        between = f"{lo:.3g} … {hi:.3g}, standard deviation {s.spread_between_inputs:.2g}"
        rows.append(("inputs", f"scores {between}"))
    return rows


def _condition(report: Report) -> str:
    """Return σ_max / σ_min, or what it exceeds where the smallest lies below the floor."""
    s = report.spectrum
    if s.unresolved and not s.dead and len(s.singular_values):
        return f"> {s.singular_values[0] / s.floor:.3g}"
    return f"{report.score.condition:.3g}"


def _theory(report: Report) -> str:
    lines = []
    for p in report.theory:
        atoms = "".join(f", atom {mass:.3g} at σ = {sigma:.3g}" for sigma, mass in p.atoms)
        law = (
            f"{p.law}: score {p.score:.3g}, drift {p.mean_log_sigma:+.3g}, "
            f"spread {p.std_log_sigma:.3g}{atoms}; distance (KS) {p.ks:.3f}"
        )
        wrapped = textwrap.wrap(law, _WIDTH - 12)
        lines.append(_table([("theory", wrapped[0]), *(("", w) for w in wrapped[1:])]))
    return "\n".join(lines)


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<11} {value}".rstrip() for name, value in rows)


def _bar(share: float, largest: float) -> str:
    eighths = round(8 * _BAR * share / largest) if largest > 0 else 0
    # Something there must be seen, however little.
    eighths = max(eighths, 1) if share > 0 else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _percent(share: float) -> str:
    return f" {percent(share)}" if share else ""
