"""What is declared is what there is: a package forgotten here is missing from the wheel only."""

import importlib.util
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _packages(folder: str, name: str) -> set[str]:
    files = (p.parent.relative_to(ROOT / folder) for p in (ROOT / folder).rglob("*.py"))
    return {".".join((name, *parent.parts)) for parent in files}


def test_every_folder_with_code_is_in_the_wheel():
    declared = PROJECT["tool"]["setuptools"]["packages"]
    assert len(declared) == len(set(declared))
    assert set(declared) == _packages("isometry", "isometry") | _packages("cli", "isometry_cli")


def test_every_package_says_what_it_is():
    for name in PROJECT["tool"]["setuptools"]["packages"]:
        folder = ROOT / name.replace("isometry_cli", "cli", 1).replace(".", "/")
        assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""')


@pytest.mark.parametrize(("folder", "name"), [("isometry", "isometry"), ("cli", "isometry_cli")])
def test_both_packages_are_typed(folder, name):
    assert (ROOT / folder / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][name]


def test_the_version_is_the_same_everywhere():
    declared = PROJECT["project"]["version"]
    assert version("isometry") == declared
    import isometry

    assert getattr(isometry, "__version__", declared) == declared


def test_what_the_code_imports_is_declared():
    """Each import of another project, lazy ones too, is a dependency of the wheel."""
    wanted = {"pillow": "PIL"}
    declared = {re.match(r"[\w-]+", d)[0] for d in PROJECT["project"]["dependencies"]}
    known = {wanted.get(d, d) for d in declared} | {"isometry", "isometry_cli", "tomllib"}
    known |= {"matplotlib"}  # comes with seaborn, which is built on it
    imported = set()
    for folder in ("isometry", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            imported |= set(re.findall(r"^\s*(?:from|import) (\w+)(?:[. ].*)?$", text, re.M))
    third = {n for n in imported if n not in sys.stdlib_module_names and not n.startswith("_")}
    assert third & {"torch", "click"} == {"torch", "click"}
    assert {n for n in third if importlib.util.find_spec(n)} <= known


def test_the_constraints_pin_every_dependency():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    pinned = set(re.findall(r"^([\w-]+)==", text, re.M))
    extras = PROJECT["project"]["optional-dependencies"]["dev"]
    for dependency in (*PROJECT["project"]["dependencies"], *extras):
        assert re.match(r"[\w-]+", dependency)[0].lower() in pinned
