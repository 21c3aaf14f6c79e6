"""`isometry plot` and `isometry rule`."""

import copy
import io
import json
import sys

import pytest

from isometry.rules import all_rules


@pytest.fixture
def report(isometry, model, place):
    """A report on disk; the model it is about is gone."""
    assert isometry("analyze", model, "--json", "r.json").code == 0
    (place / model).unlink()
    return json.loads((place / "r.json").read_text(encoding="utf-8"))


def test_plot_redraws_without_the_model(isometry, report, place):
    ended = isometry("plot", "r.json", "-o", "f.svg")
    assert (ended.code, ended.out, ended.err) == (0, "", "figure: f.svg\n")
    assert ended.changed == ["f.svg"]
    assert "model.pt: score 1" in (place / "f.svg").read_text(encoding="utf-8")


def test_plot_draws_what_analyze_drew(isometry, model, place):
    isometry("analyze", model, "--json", "r.json", "--figure", "a.svg")
    isometry("plot", "r.json", "-o", "b.svg")
    assert (place / "a.svg").read_bytes() == (place / "b.svg").read_bytes()


def test_plot_reads_a_pipe(isometry, report, place, monkeypatch):
    text = (place / "r.json").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
    ended = isometry("plot", "-", "-o", "f.svg")
    assert (ended.code, ended.changed) == (0, ["f.svg"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not JSON"),
        ("hello\n\x1b[31m", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[1, 2]", "has no schema_version"),
        ("{}", "has no schema_version"),
        (
            '{"schema_version": 1}',
            "schema version 1, this release reads 2: analyse the model again",
        ),
        ('{"schema_version": "2"}', "schema version '2'"),
        ('{"schema_version": 2}', r"the report is damaged: report\.model is missing"),
        ('{"schema_version": 2, "model": []}', r"report\.model should be an object"),
    ],
)
def test_what_is_no_report_is_said_so(text, words, refused, place):
    (place / "r.json").write_text(text)
    words = f"cannot draw 'r.json': .*{words}"
    refused(2, words, "plot", "r.json", "-o", "f.svg", results=False)


def test_a_report_cut_anywhere_is_refused(refused, report, place):
    text = (place / "r.json").read_text(encoding="utf-8")
    for cut in range(1, len(text) - 2, len(text) // 9):
        (place / "r.json").write_text(text[:cut], encoding="utf-8")
        refused(2, "it is not JSON", "plot", "r.json", "-o", "f.svg", results=False)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nope.json", r"cannot read 'nope\.json': No such file or directory"),
        (".", r"cannot read '\.': Is a directory"),
        ("bytes.json", r"cannot read 'bytes\.json': it is not text"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_report_that_cannot_be_read_is_named(source, words, refused, place):
    (place / "bytes.json").write_bytes(b"\x80\x02\xff")
    refused(2, words, "plot", source, "-o", "f.svg", results=False)


def test_a_report_without_end_is_not_read_to_its_end(refused, monkeypatch, place):
    import isometry_cli.commands.plot as plot

    monkeypatch.setattr(plot, "_LIMIT", 1000)
    (place / "r.json").write_text(" " * 2000 + "{}")
    refused(2, "line 1 column 1001", "plot", "r.json", "-o", "f.svg", results=False)
    refused(2, "it is not JSON", "plot", "/dev/zero", "-o", "f.svg", results=False)


def _leaves(value, path=()):
    yield path
    if isinstance(value, dict):
        items = list(value.items())
    else:
        items = list(enumerate(value))[:2] if isinstance(value, list) else []
    for key, inner in items:
        yield from _leaves(inner, (*path, key))


HOSTILE = [
    *(None, -1, 0, 1e308, -1e308, 10**400, "nan", "inf", "$\\b$", "\x1b[31m\n", True),
    *([], {}, [1], [[1, 2]]),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda v: repr(v)[:12])
def test_a_report_changed_anywhere_is_drawn_or_refused(
    hostile, isometry, report, place, monkeypatch
):
    import isometry_cli.commands.plot as plot

    from isometry import figure

    # Drawing is slow: build the axes, but do not render them.
    monkeypatch.setattr(
        plot, "draw", lambda r, path: figure.spectrum(r, figure.new_figure().subplots())
    )
    wrong = []
    for path in [p for p in _leaves(report) if p]:
        changed = copy.deepcopy(report)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = hostile
        (place / "r.json").write_text(json.dumps(changed))
        ended = isometry("plot", "r.json", "-o", "f.svg")
        if ended.code not in (0, 2) or ended.err.count("\n") != 1:
            wrong.append((path, ended.code, ended.err[:160]))
    assert wrong == []


def test_plot_needs_to_know_where_to(refused, report):
    refused(
        2,
        r"Missing option '-o' / '--output' \(see isometry plot --help\)",
        "plot",
        "r.json",
        results=False,
    )
    refused(
        2,
        "the ending says the format, use one of .png, .svg, .pdf",
        "plot",
        "r.json",
        "-o",
        "f.gif",
        results=False,
    )
    refused(2, "the ending says the format", "plot", "r.json", "-o", "-", results=False)
    refused(2, "'nodir' does not exist", "plot", "r.json", "-o", "nodir/f.svg", results=False)


def test_plot_never_replaces_the_report(refused, report, place):
    (place / "r.json").rename(place / "r.svg")
    refused(2, "would replace what is read", "plot", "r.svg", "-o", "./r.svg", results=False)


@pytest.mark.parametrize("code", [r.code for r in all_rules()])
def test_every_code_is_explained(code, isometry):
    ended = isometry("rule", code)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{code}: ")
    assert "What to do: " in ended.out
    assert max(map(len, ended.out.splitlines())) <= 88
    assert isometry("rule", code.lower()).out == ended.out


def test_without_a_code_all_are_listed(isometry):
    ended = isometry("rule")
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == [r.code for r in all_rules()]


@pytest.mark.parametrize("code", ["ISO999", "foo", "", "\x1b[31m"])
def test_an_unknown_code_is_said_so(code, refused):
    refused(2, "no rule is called '.*': (did you mean|known codes)", "rule", code, results=False)
