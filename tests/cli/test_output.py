"""Files are written whole or not at all, and never over what should stay."""

import os
import stat
import threading

import pytest

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


def test_two_results_never_share_a_file(refused, model, place):
    words = "cannot write .* twice: --json and --figure name it"
    refused(2, words, "analyze", model, "--json", "a.svg", "--figure", "./a.svg", results=False)
    (place / "sub").symlink_to(".")
    refused(2, words, "check", model, "--json", "a.svg", "--figure", "sub/a.svg", results=False)


@pytest.mark.parametrize("old", [None, b"the old content"])
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
    (place / "r.json").write_bytes(b"old")

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
    (place / "r.json").write_text("old " * 9999)
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
    (place / "real.json").write_text("old")
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
