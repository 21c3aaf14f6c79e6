"""Build the wheel, install it where there is no checkout, and use it as a user would.

Run from anywhere with a Python that has the ``build`` package: ``make wheel``. The sources are
built from a copy, so that nothing is left in the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("isometry", "cli", "pyproject.toml", "README.md", "LICENSE")


def main() -> None:
    """Raise unless the installed wheel works."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="isometry-wheel-") as temporary:
        place = Path(temporary).resolve()
        wheel = _build(place)
        _check_content(wheel)
        scripts = _install(wheel, place)
        _use(scripts, place)
    print(f"wheel: {wheel.name} works outside the checkout ({time.perf_counter() - start:.0f} s)")


def _build(place: Path) -> Path:
    copy = place / "source"
    copy.mkdir()
    for name in SOURCES:
        if not (ROOT / name).exists():
            raise SystemExit(f"wheel: {name} is missing from {ROOT}")
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy)
    out = place / "dist"
    _run([sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(copy)], place)
    (wheel,) = out.glob("*.whl")
    return wheel


def _check_content(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    _expect(tops == {"isometry", "isometry_cli"}, f"the wheel installs {sorted(tops)}")
    for typed in ("isometry/py.typed", "isometry_cli/py.typed"):
        _expect(typed in names, f"the wheel lacks {typed}")
    _expect(any(n.endswith("LICENSE") for n in names), "the wheel lacks its licence")


def _install(wheel: Path, place: Path) -> Path:
    environment = place / "environment"
    _run([sys.executable, "-m", "venv", str(environment)], place)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(scripts / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    _run([*pip, "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)], place)
    return scripts


def _use(scripts: Path, place: Path) -> None:
    empty = place / "empty"
    empty.mkdir()
    shutil.copy(ROOT / "data" / "models" / "tanh_critical.pt", place)
    shutil.copy(ROOT / "data" / "digit.npy", place)
    program = str(scripts / "isometry")
    _expect("analyze" in _run([program, "--help"], empty), "--help names no command")
    measure = [program, "analyze", "../tanh_critical.pt", "--input", "../digit.npy"]
    shown = _run([*measure, "--json", "r.json", "--figure", "f.svg"], empty)
    _expect(shown.startswith("PASS"), f"the verdict is {shown[:60]!r}")
    _expect((empty / "f.svg").read_text(encoding="utf-8").endswith("</svg>\n"), "no figure")
    python = str(scripts / "python")
    code = (
        "import isometry, isometry_cli, importlib.util, pathlib, sys; "
        "r = isometry.Report.from_json(pathlib.Path('r.json').read_text(encoding='utf-8')); "
        "assert r.verdict.status == 'PASS', r.verdict; "
        "assert importlib.util.find_spec('cli') is None, 'cli can be imported'; "
        "assert isometry.__file__.startswith(sys.prefix), isometry.__file__"
    )
    _run([python, "-c", code], empty)
    failed = subprocess.run([python, "-c", "import cli"], cwd=empty, capture_output=True)
    _expect(failed.returncode != 0, "import cli succeeds")
    left = sorted(p.name for p in empty.iterdir())
    _expect(left == ["f.svg", "r.json"], f"the run left {left}")


def _run(command: list[str], where: Path) -> str:
    # What leads back to the checkout is taken away.
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(
        command, cwd=where, env=environment, capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-3000:]
        raise SystemExit(f"wheel: {' '.join(command)} ended with {done.returncode}\n{said}")
    return done.stdout


def _expect(truth: bool, otherwise: str) -> None:
    if not truth:
        raise SystemExit(f"wheel: {otherwise}")


if __name__ == "__main__":
    main()
