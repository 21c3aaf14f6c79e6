"""What `import isometry` offers is what its list says."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import isometry


def imported_names():
    """The names that the reader of isometry/__init__.py sees imported from the library."""
    tree = ast.parse(Path(isometry.__file__).read_text(encoding="utf-8"))
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    return [a.asname or a.name for n in found if n.module.startswith("isometry") for a in n.names]


def in_a_new_process(code):
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_all_lists_exactly_the_imported_names():
    assert sorted(isometry.__all__) == sorted(imported_names())
    assert len(set(isometry.__all__)) == len(isometry.__all__)


def test_the_functions_of_the_first_release_are_there():
    assert {"analyze", "check", "spectrum", "Jacobian", "Report"} <= set(isometry.__all__)


def test_spectrum_is_the_function_although_a_module_has_its_name():
    assert inspect.isfunction(isometry.spectrum)
    assert isometry.Spectrum.__module__ == "isometry.spectrum"


def test_every_public_name_and_method_has_a_docstring():
    for name in isometry.__all__:
        thing = getattr(isometry, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for attribute, value in vars(thing).items():
                if not attribute.startswith("_") and (
                    callable(value) or isinstance(value, (property, classmethod))
                ):
                    assert inspect.getdoc(value), f"{name}.{attribute}"


def test_every_public_function_documents_its_parameters():
    for function in (isometry.analyze, isometry.check, isometry.spectrum):
        text = inspect.getdoc(function)
        for parameter in inspect.signature(function).parameters:
            assert parameter in text or "as for `analyze`" in text, parameter


def test_options_are_keyword_only():
    for function in (isometry.analyze, isometry.check, isometry.spectrum):
        positional = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        assert positional == ["model", "x"]


def test_every_error_is_an_isometry_error():
    errors = [getattr(isometry, n) for n in isometry.__all__ if n.endswith("Error")]
    assert len(errors) == 8
    assert all(issubclass(e, isometry.IsometryError) for e in errors)
    assert issubclass(isometry.InputError, ValueError)


@pytest.mark.parametrize(
    "first",
    [
        "import isometry.spectrum",
        "import isometry.report, isometry.analysis",
        "from isometry import Spectrum",
        "from isometry.spectrum import Spectrum",
        "from isometry import *",
        "import isometry; isometry.Jacobian",
    ],
)
def test_functions_are_functions_whatever_is_imported_first(first):
    in_a_new_process(
        f"import inspect\n{first}\nimport isometry\nfrom isometry import analyze, spectrum\n"
        "assert inspect.isfunction(analyze) and inspect.isfunction(spectrum)\n"
        "assert isometry.spectrum is spectrum and isometry.analyze is analyze\n"
        "import isometry.spectrum\n"
        "assert isometry.spectrum is spectrum\n"
    )


def test_dir_shows_every_public_name_before_it_is_imported():
    in_a_new_process(
        "import isometry, sys\n"
        "assert set(isometry.__all__) <= set(dir(isometry))\n"
        "assert 'torch' not in sys.modules\n"
        "assert all(hasattr(isometry, name) for name in isometry.__all__)\n"
    )


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'isometry' has no attribute 'analyse'"):
        isometry.analyse  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'analyse'"):
        exec("from isometry import analyse")


def test_the_record_of_a_report_needs_no_torch():
    in_a_new_process(
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import isometry, isometry.rules, isometry.render, isometry.figure, isometry.laws\n"
        "isometry.Report, isometry.Spectrum\n"
    )
