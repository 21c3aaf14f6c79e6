"""Files are written whole or not at all, and never over what should stay."""

import json
import os
import shlex
import stat
import subprocess
import sys
import threading

import pytest
from isometry_cli.output import results_only

from isometry import Report

RESULTS = [("--json", "r.json"), ("--figure", "f.svg"), ("--figure", "f.png")]


@pytest.mark.parametrize("command", ["analyze", "check"])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nodir/{}", "'nodir' does not exist"),
        ("model.pt/{}", r"'model\.pt' is not a folder"),
        ("folder.svg", "it is a folder"),
        ("/proc/{}", "cannot write '/proc/"),
        ("{:x>300}", "File name too long"),
    ],
)
@pytest.mark.parametrize("option", ["--json", "--figure"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    option, target, words, command, refused, model, place, monkeypatch
):
    import isometry as library

    def worked(*_arguments, **_options):
        raise AssertionError("the work was begun")

    monkeypatch.setattr(library, "analyze", worked)
    (place / "folder.svg").mkdir()
    target = target.format("r.svg")
    other = ("--figure", "o.svg") if option == "--json" else ("--json", "o.json")
    refused(2, words, command, model, option, target, *other, results=False)


@pytest.mark.parametrize("target", ["f.gif", "f", ".svg", "f.svg.zip", "-", ""])
def test_the_ending_of_a_figure_says_its_format(target, refused, model):
    words = r"cannot draw .*: the ending says the format, use one of \.png, \.svg, \.pdf"
    refused(2, words, "analyze", model, "--figure", target, results=False)


def test_a_result_never_replaces_what_is_read(refused, model, array, place):
    words = "it would replace what is read"
    x = array([1.0] * 8)
    refused(2, words, "analyze", model, "--json", model, results=False)
    refused(2, words, "analyze", model, "--json", f"./{model}", results=False)
    refused(2, words, "analyze", model, "--input", x, "--json", x, results=False)
    os.symlink(model, place / "link.svg")
    os.link(place / model, place / "hard.json")
    refused(2, words, "analyze", model, "--figure", "link.svg", results=False)
    refused(2, words, "analyze", model, "--json", "hard.json", results=False)


@pytest.mark.parametrize("old", [b"old", b"{}", b"[1]", b"\xff\x00", b"[" * 99_999])
@pytest.mark.parametrize("command", ["analyze", "check", "inspect"])
def test_json_never_replaces_what_is_no_result(command, old, refused, model, place):
    (place / "r.json").write_bytes(old)
    words = "cannot write 'r.json': it exists and is no report: give another name"
    refused(2, words, command, model, "--json", "r.json", results=False)


def test_json_never_replaces_the_code_that_it_is_about(refused):
    words = "it exists and is no report"
    refused(
        2, words, "analyze", "--model", "cli_nets:linear", "--json", "cli_nets.py", results=False
    )


def test_of_a_link_the_folder_that_is_missing_is_named(refused, model, place):
    (place / "link.json").symlink_to(place / "gone" / "r.json")
    refused(2, "gone' does not exist", "analyze", model, "--json", "link.json", results=False)


def test_two_results_never_share_a_file(refused, model, place):
    words = "cannot write .* twice: --json and --figure name it"
    refused(2, words, "analyze", model, "--json", "a.svg", "--figure", "./a.svg", results=False)
    (place / "sub").symlink_to(".")
    refused(2, words, "check", model, "--json", "a.svg", "--figure", "sub/a.svg", results=False)


@pytest.mark.parametrize("old", [None, b'{"schema_version": 0}'])
@pytest.mark.parametrize("failing", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("option", RESULTS)
def test_a_write_that_fails_leaves_what_was_there(
    option, failing, old, refused, model, place, monkeypatch
):
    if old is not None:
        (place / option[1]).write_bytes(old)

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    words = f"cannot write '{option[1]}': No space left on device"
    refused(2, words, "analyze", model, *option, results=False)


def test_an_interrupted_write_leaves_what_was_there(isometry, model, place, monkeypatch):
    (place / "r.json").write_bytes(b'{"schema_version": 0}')

    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    ended = isometry("analyze", model, "--json", "r.json")
    assert (ended.code, ended.out, ended.changed) == (130, "", [])
    assert ended.err.strip() == "interrupted: no file was left half-written"


def test_a_figure_that_cannot_be_drawn_leaves_nothing(isometry, model, monkeypatch):
    from isometry import figure

    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "spectrum", interrupt)
    ended = isometry("analyze", model, "--figure", "f.svg")
    assert (ended.code, ended.changed) == (130, [])


def test_an_old_result_is_replaced_and_keeps_its_permissions(isometry, model, place):
    (place / "r.json").write_text('{"schema_version": 0}' + " " * 9999)
    (place / "r.json").chmod(0o600)
    assert isometry("analyze", model, "--json", "r.json").changed == ["r.json"]
    Report.from_json((place / "r.json").read_text(encoding="utf-8"))
    assert stat.S_IMODE((place / "r.json").stat().st_mode) == 0o600


def test_a_new_result_is_as_readable_as_any_other_file(isometry, model, place):
    mask = os.umask(0o027)
    try:
        isometry("analyze", model, "--json", "r.json")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((place / "r.json").stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(isometry, model, place):
    (place / "real.json").write_text("")
    (place / "link.json").symlink_to("real.json")
    assert isometry("analyze", model, "--json", "link.json").code == 0
    assert (place / "link.json").is_symlink()
    Report.from_json((place / "real.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_written_into_and_not_replaced(isometry, model, place, tmp_path_factory):
    # As root, replacing would also work on /dev/null, for every program of the machine.
    pipe = tmp_path_factory.mktemp("pipes") / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(
        target=lambda: read.append(pipe.read_text(encoding="utf-8")), daemon=True
    )
    reader.start()
    assert isometry("analyze", model, "--json", pipe).code == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join(timeout=10)
    Report.from_json(read[0])


def test_the_null_device_survives(isometry, model):
    if os.geteuid() == 0 and not stat.S_ISCHR(os.stat("/dev/null").st_mode):
        pytest.skip("it is gone already")
    from isometry_cli import output

    # Looked at, not written to: a failure would hurt the machine that runs the tests.
    assert output._is_stream("/dev/null")


# ------------------------------------------------------------------ stdout is for results alone

NOISY = """
import contextlib, ctypes, io, os, sys
from isometry_cli.output import results_only
printf = ctypes.CDLL(None).printf
print("before")
with results_only():
    print("python")
    if sys.__stdout__:
        print("saved stream", file=sys.__stdout__)
    os.write(1, b"descriptor\\n")
    os.system("echo subprocess")
    printf(b"C library\\n")
print("after")
"""
NOISE = {"python", "saved stream", "descriptor", "subprocess", "C library"}
posix = pytest.mark.skipif(os.name != "posix", reason="speaks to the C library by POSIX means")


def _python(code, shell="exec {}"):
    python = shlex.join([sys.executable, "-c", code])
    return subprocess.run(shell.format(python), shell=True, capture_output=True, timeout=60)


@posix
def test_nothing_that_user_code_prints_reaches_stdout():
    ended = _python(NOISY)
    assert ended.stdout.split() == [b"before", b"after"]
    assert set(ended.stderr.decode().splitlines()) == NOISE


@posix
def test_without_the_wall_it_does():
    ended = _python(NOISY.replace("with results_only()", "with contextlib.nullcontext()"))
    assert set(ended.stdout.decode().splitlines()) == NOISE | {"before", "after"}


@posix
@pytest.mark.parametrize("raised", ["ValueError", "KeyboardInterrupt", "SystemExit"])
def test_the_wall_falls_when_the_user_code_raises(raised):
    ended = _python(
        "import os\n"
        "from isometry_cli.output import results_only\n"
        "try:\n"
        "    with results_only():\n"
        f"        raise {raised}\n"
        f"except {raised}:\n"
        "    os.system('echo after')\n"
    )
    assert (ended.stdout, ended.stderr) == (b"after\n", b"")


@posix
@pytest.mark.parametrize(
    ("closed", "out", "err"),
    [
        (">&-", set(), NOISE - {"saved stream"}),
        ("2>&-", {"before", "after"}, set()),
        (">&- 2>&-", set(), set()),
        ("<&- >&- 2>&-", set(), set()),
    ],
)
def test_closed_streams_stay_closed_and_break_nothing(closed, out, err):
    ended = _python(NOISY, "exec {} " + closed)
    assert ended.returncode == 0
    assert set(ended.stdout.decode().splitlines()) == out
    assert set(ended.stderr.decode().splitlines()) == err


@posix
def test_a_stdout_that_is_no_file_is_walled_off_too():
    ended = _python(
        NOISY.replace("\nprint(", "\nsys.stdout = kept = io.StringIO()\nprint(", 1)
        + "print(kept.getvalue(), file=sys.stderr)"
    )
    assert ended.stdout == b""
    assert set(ended.stderr.decode().split("\n")) >= NOISE | {"before", "after"}


def test_it_works_under_a_captured_stdout(capfd):
    with results_only():
        print("python")
        os.write(1, b"descriptor\n")
    print("result")
    out, err = capfd.readouterr()
    assert out == "result\n"
    assert sorted(err.split()) == ["descriptor", "python"]


@posix
def test_json_on_stdout_survives_a_factory_that_writes_below_python(place):
    (place / "noisy.py").write_text(
        "import ctypes, os\n"
        "from torch import nn\n"
        "def net():\n"
        "    os.system('echo factory')\n"
        "    ctypes.CDLL(None).printf(b'C library\\n')\n"
        "    return nn.Linear(3, 3)\n"
    )
    program = [sys.executable, "-m", "isometry_cli", "analyze", "--model", "noisy:net"]
    ended = subprocess.run(
        [*program, "--shape", "3", "--json", "-"], capture_output=True, timeout=60
    )
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["schema_version"] == 2
    assert b"factory" in ended.stderr
    assert b"C library" in ended.stderr
