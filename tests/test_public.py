"""What `import isometry` offers is what its list says."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import isometry


def imported_names():
    """The names that the reader of isometry/__init__.py sees imported."""
    tree = ast.parse(Path(isometry.__file__).read_text(encoding="utf-8"))
    found = [n for node in tree.body if isinstance(node, ast.ImportFrom) for n in node.names]
    return [name.asname or name.name for name in found]


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


def test_the_record_of_a_report_needs_no_torch():
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'torch': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import types, pathlib, importlib.util\n"
        "root = pathlib.Path(importlib.util.find_spec('isometry').origin).parent\n"
        "package = types.ModuleType('isometry'); package.__path__ = [str(root)]\n"
        "sys.modules['isometry'] = package\n"
        "import isometry.report, isometry.render, isometry.figure, isometry.laws\n"
        "assert 'torch' not in sys.modules\n"
    )  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
