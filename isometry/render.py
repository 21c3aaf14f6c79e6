"""A report as text for the terminal, and as HTML for a notebook: the same sections, twice."""

from __future__ import annotations

import html as markup
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from isometry.ensemble import Ensemble, Statistic
from isometry.histogram import bin_edges, heights
from isometry.report import COLOURS, Finding, Prediction, Report, percent, power
from isometry.spectrum import Spectrum
from isometry.uncertainty import Range, Uncertainty

_WIDTH = 96
_KEY = 12  # columns of a terminal before the values of a table
_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_CELL = "text-align:left;vertical-align:top;padding:0 1em 0 0"
_WRAP = "white-space:pre-wrap"


@dataclass(frozen=True)
class _Headline:
    status: str
    reason: str

    def text(self) -> str:
        return f"{self.status}  {self.reason}"

    def html(self) -> str:
        status = f"<b style='color:{COLOURS[self.status]}'>{_safe(self.status)}</b>"
        return f"<p>{status} {_safe(self.reason)}</p>"


@dataclass(frozen=True)
class _Table:
    rows: Sequence[tuple[str, str]]

    def text(self) -> str:
        return "\n".join(line for row in self.rows for line in _wrapped(*row))

    def html(self) -> str:
        cells = [[f"<td style='{_CELL}'>{_safe(cell)}</td>" for cell in row] for row in self.rows]
        return f"<table>{''.join(f'<tr>{name}{value}</tr>' for name, value in cells)}</table>"


@dataclass(frozen=True)
class _Drawing:
    """Characters in columns."""

    characters: str

    def text(self) -> str:
        return self.characters

    def html(self) -> str:
        return f"<pre>{_safe(self.characters)}</pre>"


@dataclass(frozen=True)
class _Findings:
    """All findings; a fix that mends several is written once."""

    findings: Sequence[Finding]

    def text(self) -> str:
        return "\n".join(map(finding, self._written()))

    def html(self) -> str:
        items = [
            f"<li><b>{_safe(f'{f.severity}[{f.code}]')}</b> {_safe(f.where)}: {_safe(f.message)}"
            f"<br>fix: <code style='{_WRAP}'>{_safe(f.fix)}</code></li>"
            for f in self._written()
        ]
        return f"<ul>{''.join(items)}</ul>"

    def _written(self) -> Iterator[Finding]:
        first: dict[str, str] = {}
        for f in self.findings:
            code = first.setdefault(f.fix, f.code)
            yield f if code == f.code else replace(f, fix=f"as for {code}")


@dataclass(frozen=True)
class _Notes:
    notes: Sequence[str]

    def text(self) -> str:
        return "\n".join(f"note: {n}" for n in self.notes)

    def html(self) -> str:
        return f"<ul>{''.join(f'<li>note: {_safe(n)}</li>' for n in self.notes)}</ul>"


_Section = _Headline | _Table | _Drawing | _Findings | _Notes


def text(report: Report) -> str:
    """Return the whole report for a terminal, the verdict first."""
    return "\n\n".join(p for p in (results(report), notes(report)) if p)


def notes(report: Report) -> str:
    """Return the notes, one a line."""
    return _Notes(report.notes).text()


def results(report: Report) -> str:
    """Return the report without its notes."""
    return "\n\n".join(section.text() for section in _results(report))


def html(report: Report) -> str:
    """Return the whole report as HTML that needs nothing else, every string of it escaped."""
    sections = [*_results(report), *([_Notes(report.notes)] if report.notes else [])]
    return f"<div>{''.join(section.html() for section in sections)}</div>"


def finding(f: Finding) -> str:
    """Return one finding: code, message, and the fix on a line of its own, ready to copy."""
    return f"{f.severity}[{f.code}] {f.where}: {f.message}\n  fix: {f.fix}"


def _results(report: Report) -> list[_Section]:
    sections: list[_Section] = [
        _Headline(report.verdict.status, report.headline),
        _Table(_facts(report)),
        _Drawing(histogram(report.spectrum)),
        _Table(_numbers(report)),
    ]
    if report.theory:
        sections.append(_Table([("theory", _predicted(p)) for p in report.theory]))
    if report.findings:
        sections.append(_Findings(report.findings))
    return sections


def histogram(spectrum: Spectrum, rows: int = 12) -> str:
    """Return a histogram of log σ in characters, dead and unresolved mass as rows of their own."""
    edges = bin_edges(spectrum, bins=rows)
    shares = heights(spectrum, edges) * (edges[1] - edges[0])
    digits = 3 if edges[-1] - edges[0] < 1 else 2
    names = [f"{centre:+.{digits}f}" for centre in (edges[:-1] + edges[1:]) / 2]
    lost = "floor" if math.isfinite(spectrum.log_floor) else "lost"
    zeros = [(n, m) for n, m in (("dead", spectrum.dead), (lost, spectrum.unresolved)) if m > 0]
    bars = [*zeros, *zip(names, shares, strict=True)]
    largest = max(mass for _, mass in bars)
    width = max(8, *map(len, names))
    lines = [f"{name:>{width}} ┤{_bar(mass, largest)}{_percent(mass)}" for name, mass in bars]
    return "\n".join([f"{'log σ':>{width}}  share of the directions", *lines])


def _facts(report: Report) -> list[tuple[str, str]]:
    model, given, jacobian = report.model, report.input, report.jacobian
    m, n = jacobian.shape
    count = f", {given.samples} of them" if given.samples > 1 else ""
    return [
        ("model", f"{model.name} ({model.kind}, {model.parameters:,} parameters)"),
        ("input", f"{given.source}, shape {given.shape}{count}, rms {given.rms:.3g}"),
        ("jacobian", f"{m} × {n}, {jacobian.dtype} on {jacobian.device}"),
        ("self-check", _checked(report)),
    ]


def _checked(report: Report) -> str:
    check = report.jacobian.self_check
    if check is None:
        return "switched off"
    if check.passed and check.difference_error is None:
        return "passed, as far as it can tell (finite differences cannot)"
    return "passed" if check.passed else "FAILED"


def _numbers(report: Report) -> list[tuple[str, str]]:
    s = report.score
    quantiles = "  ".join(f"{p:.0%}: {_quantile(report, v)}" for p, v in s.log_quantiles)
    sure = report.uncertainty
    gain = power(s.log_gain, 4)
    rows = [
        ("score", f"{s.value:.4g}{_range(sure.score if sure else None)}  (1 is an isometry)"),
        ("drift", f"{s.drift:+.4g}{_range(sure.drift if sure else None)}  mean of log σ"),
        (
            "spread",
            f"{s.spread:.4g}{_range(sure.spread if sure else None)}  standard deviation of log σ",
        ),
        ("gain", f"{gain}{_range(sure.gain if sure else None)}  root mean square σ"),
        ("dead", f"{s.dead:.1%}  of {report.jacobian.rank} directions"),
        ("condition", f"{_condition(report)}  σ_max / σ_min"),
        ("quantiles", quantiles),
    ]
    if sure is not None:
        rows.append(("largest σ", f"{sure.largest.low:.6g}{_range(sure.largest, 6)}"))
        rows.append(("method", _estimated(sure)))
    several = (("inputs", report.inputs), ("seeds", report.seeds), ("twins", report.band))
    return [*rows, *((name, _scatter(among)) for name, among in several if among is not None)]


def _scatter(among: Ensemble) -> str:
    s = among.score
    return (
        f"scores {min(s.each):.3g} … {max(s.each):.3g}; score {_statistic(s)}, drift "
        f"{_statistic(among.drift)}, spread {_statistic(among.spread)} (mean ± standard deviation "
        f"of {len(s.each)})"
    )


def _statistic(of: Statistic) -> str:
    return f"{of.mean:.3g} ± {of.deviation:.2g}"


def _range(interval: Range | None, digits: int = 4) -> str:
    if interval is None:
        return ""
    return f" ({interval.low:.{digits}g} … {interval.high:.{digits}g})"


def _estimated(sure: Uncertainty) -> str:
    return (
        f"estimated from {sure.products} products with {sure.probes} random probes, intervals of "
        f"{sure.confidence:.0%}; it resolves {sure.resolution}"
    )


def _quantile(report: Report, log_sigma: float) -> str:
    """Return σ_p, or what is known of it within the dead and unresolved mass."""
    s = report.spectrum
    if log_sigma > -math.inf or not s.unresolved:
        return power(log_sigma)
    return f"<{power(s.log_floor, 2)}" if math.isfinite(s.log_floor) else "lost"


def _condition(report: Report) -> str:
    """Return σ_max / σ_min, or what it exceeds where the smallest lies below the floor."""
    s = report.spectrum
    if s.unresolved and not s.dead and len(s.log_sigma):
        lowest = s.log_floor if math.isfinite(s.log_floor) else float(s.log_sigma[-1])
        return f"> {power(float(s.log_sigma[0]) - lowest)}"
    return power(report.score.log_condition)


def _predicted(p: Prediction) -> str:
    atoms = "".join(f", atom {mass:.3g} at σ = {sigma:.3g}" for sigma, mass in p.atoms)
    return (
        f"{p.name} ({p.law}): score {p.score:.3g}, drift {p.mean_log_sigma:+.3g}, "
        f"spread {p.std_log_sigma:.3g}{atoms}; distance (KS) {p.ks:.3f}{_judged(p)}"
    )


def _judged(p: Prediction) -> str:
    far = "".join(
        f"; {d.name} {d.value:+.2g} off, up to {d.allowed:.2g} is chance"
        for d in p.differences
        if not d.is_chance
    )
    return (f": {p.judgement.word} ({p.judgement.reason})" if p.judgement else "") + far


def _wrapped(name: str, value: str) -> list[str]:
    """Return a row of a table as lines; a word longer than a line stays whole."""
    lines = textwrap.wrap(value, _WIDTH - _KEY, break_long_words=False, break_on_hyphens=False) or [
        ""
    ]
    names = [name, *[""] * (len(lines) - 1)]
    return [f"{n:<{_KEY}}{v}".rstrip() for n, v in zip(names, lines, strict=True)]


def _safe(value: str) -> str:
    return markup.escape(value)


def _bar(share: float, largest: float) -> str:
    eighths = round(8 * _BAR * share / largest) if largest > 0 else 0
    # Something there must be seen, however little.
    eighths = max(eighths, 1) if share > 0 else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _percent(share: float) -> str:
    return f" {percent(share)}" if share else ""
