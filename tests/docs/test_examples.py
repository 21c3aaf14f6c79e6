import doctest
import importlib
import pkgutil
import re
import shlex
import shutil
from pathlib import Path

import pytest
from isometry_cli.main import run

import isometry
from isometry.rules import all_rules

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?")

OUTPUT = re.compile(
    r"```python\n((?:(?!```).)*)\n```\n\n<!-- output -->\n```text\n(.*?)\n```", re.DOTALL
)


def their_warnings_ignored(test):
    """Let pass what PyTorch says of itself at a first forward product and in `linearize`."""
    for message in (".*torch.jit.script. is deprecated", "Attempted to insert a get_attr Node"):
        test = pytest.mark.filterwarnings(f"ignore:{message}")(test)
    return test


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)\n```", page.read_text(encoding="utf-8"), re.DOTALL)


def modules():
    found = [m.name for m in pkgutil.walk_packages(isometry.__path__, "isometry.")]
    return ["isometry", *found]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    for folder in ("data", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@their_warnings_ignored
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_python_block_runs(page, clone):
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_runs_and_succeeds(page, clone, capsys):
    for line in "\n".join(blocks(page, "bash")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "isometry", f"a block of commands in {page.name} has {line!r}"
        assert run(arguments) == 0, f"{line}\n{capsys.readouterr().err}"


def test_the_readme_has_commands_code_and_output():
    readme = ROOT / "README.md"
    assert blocks(readme, "bash")
    assert blocks(readme, "python")
    assert blocks(readme, "text")


def test_the_output_in_the_readme_is_what_the_command_prints(clone, capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"<!-- output: isometry (.+?) -->\n```text\n(.*?)\n```", readme, re.DOTALL)
    assert shown
    for arguments, expected in shown:
        assert run(shlex.split(arguments)) == 0
        assert_same_output(capsys.readouterr().out, expected)


def assert_same_output(printed, expected):
    printed, expected = (re.sub(r"[█▏▎▍▌▋▊▉]", "", t).strip() for t in (printed, expected))
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
    for a, b in zip(NUMBER.findall(printed), NUMBER.findall(expected), strict=True):
        # Other processors round differently: three per cent, one for whole per cents.
        assert float(a) == pytest.approx(float(b), rel=0.03, abs=a.isdigit() * 1.0)


@their_warnings_ignored
@pytest.mark.parametrize(
    "page", [p for p in PAGES if "<!-- output -->" in p.read_text("utf-8")], ids=lambda p: p.name
)
def test_the_output_below_a_snippet_is_what_it_prints(page, capsys):
    text = page.read_text(encoding="utf-8")
    shown = OUTPUT.findall(text)
    assert len(shown) == text.count("<!-- output -->")
    for code, expected in shown:
        exec(compile(code, page.name, "exec"), {})
        assert_same_output(capsys.readouterr().out, expected)


def test_pictures_and_links_in_the_pages_exist():
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)\)", prose):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_rules_page_is_up_to_date():
    page = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    for rule in all_rules():
        assert f"## {rule.code}: {rule.title}\n\n{rule.explanation}\n" in page
        assert rule.remedy in page


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert failed == 0


def test_some_docstrings_have_examples():
    finder = doctest.DocTestFinder()
    assert sum(len(t.examples) for t in finder.find(importlib.import_module("isometry.analysis")))


def test_the_report_page_names_every_key():
    page = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    report = isometry.analyze(isometry_identity(), shape=(4,)).to_dict()
    keys = set(report)
    for part in report.values():
        keys |= set(part) if isinstance(part, dict) else set()
    assert all(f"`{key}`" in page for key in keys), keys


def isometry_identity():
    import torch

    return torch.nn.Identity()
