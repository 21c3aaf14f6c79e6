"""`isometry analyze` and `isometry check` on networks that can be measured."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from isometry_cli.exit_codes import ExitCode
from torch import nn

from isometry import Report


def _report(path) -> Report:
    return Report.from_json(path.read_text(encoding="utf-8"))


def test_the_entry_point_is_the_documented_one(entry_point):
    assert entry_point.value == "isometry_cli.main:main"
    assert callable(entry_point.load())


def test_exit_codes_are_what_is_published():
    assert {c.name: int(c) for c in ExitCode} == {
        "OK": 0,
        "GATE_FAILED": 1,
        "USAGE": 2,
        "UNTRUSTWORTHY": 3,
        "INTERNAL": 70,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("tanh_critical.pt", "PASS"),
        ("tanh_default.pt", "FAIL"),
        ("tanh_chaotic.pt", "FAIL"),
        ("relu_he.pt", "PASS"),
        ("cnn.pt", "PASS"),
        ("trained.pt", "PASS"),
    ],
)
def test_a_real_network_at_a_real_digit_gets_the_verdict_that_training_gave(
    name, status, isometry, data
):
    data(name, "digit.npy")
    ended = isometry("analyze", name, "--input", "digit.npy")
    assert ended.code == ExitCode.OK
    assert ended.out.startswith(f"{status}  ")
    assert "note: " not in ended.out
    assert all(line.startswith("note: ") for line in ended.err.splitlines())
    assert ended.changed == []
    for part in (name, "digit.npy", "self-check", "passed", "log σ", "score", "drift", "gain"):
        assert part in ended.out


def test_the_text_holds_no_terminal_codes_and_no_progress_bar(isometry, data):
    data("tanh_critical.pt", "digit.npy")
    ended = isometry("analyze", "tanh_critical.pt", "--input", "digit.npy")
    assert "\x1b" not in ended.out + ended.err
    assert "\r" not in ended.out + ended.err
    assert "measuring" not in ended.out + ended.err


def test_samples_are_counted_and_their_spread_reported(isometry, data, place):
    data("trained.pt", "digits.npz")
    arguments = ("analyze", "trained.pt", "--input", "digits.npz", "--samples", 4)
    ended = isometry(*arguments, "--json", "r.json")
    assert ended.code == ExitCode.OK
    assert re.search(r"inputs +scores \S+ … \S+; score \S+ ± \S+ drift \S+ ± \S+ spread", ended.out)
    report = _report(place / "r.json")
    assert (report.input.samples, len(report.score.per_input)) == (4, 4)
    assert report.input.source == "digits.npz"


@pytest.mark.parametrize(
    ("given", "shape"),
    [(("--shape", "64"), (1, 64)), (("--shape", "2,64"), (1, 2, 64)), ((), (1, 64))],
)
def test_gaussian_input_has_the_shape_given_or_inferred(given, shape, isometry, data, place):
    data("trained.pt")
    assert isometry("analyze", "trained.pt", *given, "--json", "r.json").code == ExitCode.OK
    report = _report(place / "r.json")
    assert report.input.shape == shape
    assert report.input.source == "Gaussian noise"


def test_the_input_scale_scales_the_input(isometry, model, place):
    rms = []
    for scale in (1, 3):
        isometry("analyze", model, "--input-scale", scale, "--json", "r.json")
        rms.append(_report(place / "r.json").input.rms)
    assert rms[1] == pytest.approx(3 * rms[0])


def test_the_seed_decides_the_input(isometry, net, place):
    values = []
    for seed in (0, 0, 1):
        isometry("analyze", *net("x.tanh()"), "--seed", seed, "--json", "r.json")
        values.append(_report(place / "r.json").spectrum.singular_values.tolist())
    assert values[0] == values[1] != values[2]


def test_a_factory_builds_a_fresh_network_with_its_arguments(isometry, place):
    kwargs = ("--kwargs", '{"width": 5}')
    ended = isometry("analyze", "--model", "cli_nets:linear", *kwargs, "--json", "r.json")
    assert ended.code == ExitCode.OK
    report = _report(place / "r.json")
    assert report.jacobian.shape == (5, 5)
    assert (report.model.name, report.model.kind) == ("cli_nets:linear", "factory")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model", "cli_nets:linear"),
        ("--model", 'torch.nn:Linear:{"in_features": 8, "out_features": 8}'),
    ],
)
def test_the_seed_decides_what_a_factory_draws_and_a_note_says_so(arguments, isometry, place):
    scores = []
    np.save("x.npy", np.linspace(-1, 1, 8))  # drawn input would follow the seed too
    command = ("analyze", *arguments, "--input", "x.npy", "--json", "r.json")
    for run, seed in enumerate((0, 0, 1)):
        torch.manual_seed(run)
        before = torch.get_rng_state()
        ended = isometry(*command, "--seed", seed)
        assert torch.equal(torch.get_rng_state(), before)
        assert f"built with random numbers of seed {seed}; another with --seed" in ended.err
        scores.append(_report(place / "r.json").score.value)
    assert scores[0] == scores[1] != scores[2]


def test_a_network_with_weights_of_its_own_has_no_seed_to_tell(isometry, model):
    torch.save(nn.Linear(8, 8).state_dict(), "weights.pt")
    assert "seed" not in isometry("analyze", "weights.pt", "--model", "cli_nets:linear").err
    assert "seed" not in isometry("analyze", model).err


def test_a_factory_and_a_state_dict_make_one_network(isometry, place):
    layer = nn.Linear(8, 8)
    with torch.no_grad():
        layer.weight.copy_(3 * torch.eye(8))
    torch.save(layer.state_dict(), "weights.pt")
    ended = isometry("analyze", "weights.pt", "--model", "cli_nets:linear", "--json", "r.json")
    assert ended.code == ExitCode.OK
    report = _report(place / "r.json")
    np.testing.assert_allclose(report.spectrum.singular_values, 3, rtol=1e-12)
    assert report.model.kind == "state dict"
    assert report.model.sha256 is not None


@pytest.mark.parametrize("ending", ["npy", "npz", "pt", "safetensors", "csv", "png"])
def test_every_kind_of_input_file_is_measured_at(ending, isometry, place):
    import safetensors.numpy
    from PIL import Image

    rows = np.linspace(0, 1, 16).reshape(2, 8)
    name = f"x.{ending}"
    if ending == "npy":
        np.save(name, rows)
    elif ending == "npz":
        np.savez(name, rows=rows)
    elif ending == "pt":
        torch.save(torch.tensor(rows), name)
    elif ending == "safetensors":
        safetensors.numpy.save_file({"rows": rows}, name)
    elif ending == "csv":
        np.savetxt(name, rows, delimiter=",")
    else:
        Image.fromarray((255 * rows).round().astype(np.uint8)).save(name)
    ended = isometry("analyze", "--model", "cli_nets:linear", "--input", name, "--json", "r.json")
    assert ended.code == ExitCode.OK, ended.err
    report = _report(place / "r.json")
    assert report.input.shape == (1, 8)
    assert report.input.rms == pytest.approx(math.sqrt((rows[0] ** 2).mean()), abs=0.01)


def test_json_on_stdout_is_all_there_is_on_stdout(isometry, model):
    ended = isometry("analyze", model, "--json", "-")
    assert ended.code == ExitCode.OK
    assert Report.from_json(ended.out).verdict.status == "PASS"
    assert ended.changed == []


def test_json_in_a_file_is_strict_and_has_the_documented_keys(isometry, model, place):
    ended = isometry("analyze", model, "--json", "r.json")
    assert ended.changed == ["r.json"]

    def never(constant):
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads((place / "r.json").read_text(encoding="utf-8"), parse_constant=never)
    assert set(read) == {
        *("schema_version", "model", "input", "jacobian", "spectrum", "score", "theory"),
        *("verdict", "findings", "notes", "provenance", "uncertainty", "inputs", "seeds", "band"),
    }


def test_a_png_is_a_picture(isometry, model, place):
    from PIL import Image

    ended = isometry("analyze", model, "--figure", "f.png")
    assert ended.changed == ["f.png"]
    assert ended.err.startswith("figure: f.png\n")
    with Image.open(place / "f.png") as image:
        assert image.format == "PNG"
        assert image.size[0] > 800
        assert len(set(image.convert("RGB").resize((60, 40)).tobytes())) > 10


def test_an_svg_is_xml_whose_text_can_be_selected(isometry, model, place):
    isometry("analyze", model, "--figure", "f.svg")
    root = ElementTree.parse(place / "f.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = " ".join(t for e in root.iter("{http://www.w3.org/2000/svg}text") for t in e.itertext())
    assert "model.pt: score 1" in text
    assert "log σ" in text


def test_a_pdf_has_one_page_with_text(isometry, model, place):
    import pypdf

    isometry("analyze", model, "--figure", "f.PDF")
    (page,) = pypdf.PdfReader(place / "f.PDF").pages
    assert "model.pt" in page.extract_text()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_report_gives_the_same_bytes(ending, isometry, model, place):
    isometry("analyze", model, "--json", "r.json")
    for name in ("a", "b"):
        isometry("plot", "r.json", "-o", f"{name}.{ending}")
    assert (place / f"a.{ending}").read_bytes() == (place / f"b.{ending}").read_bytes()


@pytest.mark.parametrize(("least", "code"), [("0", 0), ("1e-3", 0), ("0.9", 1), ("1", 1)])
@pytest.mark.parametrize("command", ["analyze", "check"])
def test_the_gate_decides_the_exit_code(command, least, code, isometry, data):
    data("trained.pt", "digit.npy")
    ended = isometry(command, "trained.pt", "--input", "digit.npy", "--fail-under", least)
    assert ended.code == code
    words = rf"score 0\.\d+, below the {float(least):g} asked for"
    stated = re.findall(rf"^FAIL: {words}$", ended.err, re.MULTILINE)
    assert len(stated) == (code == 1 and command == "analyze")
    assert bool(re.match(f"FAIL trained.pt: {words}; ", ended.out)) == (
        code == 1 and command == "check"
    )


@pytest.mark.parametrize("command", [("check",), ("analyze", "-q")])
@pytest.mark.parametrize("least", [(), ("--fail-under", 0.5), ("--fail-under", 0)])
def test_the_line_says_the_score_once(command, least, isometry, data):
    data("tanh_default.pt")
    ended = isometry(*command, "tanh_default.pt", *least)
    assert ended.out.count("score") == 1
    assert ended.out.count("\n") == 1


@pytest.mark.parametrize("command", ["analyze", "check"])
def test_json_on_stdout_leaves_the_gate_to_stderr(command, isometry, data):
    data("trained.pt", "digit.npy")
    arguments = (command, "trained.pt", "--input", "digit.npy", "--json", "-")
    ended = isometry(*arguments, "--fail-under", 0.9)
    assert ended.code == ExitCode.GATE_FAILED
    assert Report.from_json(ended.out).score.value < 0.9
    assert re.fullmatch(r"FAIL: score 0\.\d+, below the 0\.9 asked for\n", ended.err)
    assert isometry(*arguments, "--fail-under", 0.1).err == ""


def test_an_isometry_passes_the_highest_gate(isometry, model):
    assert isometry("check", model, "--fail-under", "1").code in (0, 1)
    assert isometry("check", model, "--fail-under", "0.999999").code == 0


def test_without_a_gate_analyze_succeeds_where_check_fails(isometry, data):
    data("tanh_default.pt")
    assert isometry("analyze", "tanh_default.pt", "-q").code == ExitCode.OK
    ended = isometry("check", "tanh_default.pt")
    assert ended.code == ExitCode.GATE_FAILED
    assert "FAIL" in ended.out
    assert "fix: " in ended.out


def test_the_line_of_a_failed_gate_does_not_say_pass(isometry, data):
    data("trained.pt")
    ended = isometry("check", "trained.pt", "--fail-under", 0.9)
    assert ended.code == ExitCode.GATE_FAILED
    assert "PASS" not in ended.out


@pytest.mark.parametrize("command", [("check",), ("analyze", "-q")])
@pytest.mark.parametrize(
    ("name", "least", "code", "words"),
    [
        ("trained.pt", 0.99, 1, "FAIL trained.pt: score 0.*, below the 0.99 asked for; gain "),
        ("trained.pt", 0.1, 0, "PASS trained.pt: score 0.*, at least the 0.1 asked for; gain "),
        ("tanh_default.pt", 0, 0, "PASS tanh_.*, at least the 0 asked for; verdict FAIL: not "),
        (
            "tanh_default.pt",
            0.5,
            1,
            "FAIL tanh_.*, below the 0.5 asked for; verdict FAIL: not isometric: signals ",
        ),
    ],
)
def test_the_line_agrees_with_the_gate(command, name, least, code, words, isometry, data):
    data(name, "digit.npy")
    ended = isometry(*command, name, "--input", "digit.npy", "--fail-under", least)
    assert ended.code == code
    assert re.match(words, ended.out), ended.out
    assert ended.out.count("\n") == 1


def test_the_choice_of_an_array_is_told(isometry, model, place):
    np.savez("two.npz", x=np.full(8, 0.5), y=np.full(8, 5.0))
    note = "note: two.npz: took 'x' of x, y; another with --input-key"
    assert note in isometry("analyze", model, "--input", "two.npz").err
    ended = isometry("analyze", model, "--input", "two.npz", "--input-key", "x")
    assert "took" not in ended.err


@pytest.mark.parametrize("command", [("check",), ("analyze", "--quiet"), ("analyze", "-q")])
def test_one_line_means_one_line(command, isometry, data):
    data("tanh_default.pt")
    ended = isometry(*command, "tanh_default.pt", "--figure", "f.svg")
    assert ended.out.count("\n") == 1
    assert "tanh_default.pt" in ended.out
    assert ended.err == ""
    assert ended.changed == ["f.svg"]


def test_check_writes_the_same_files_as_analyze(isometry, model):
    ended = isometry("check", model, "--json", "r.json", "--figure", "f.pdf")
    assert (ended.code, ended.changed) == (0, ["f.pdf", "r.json"])


def test_an_option_may_come_from_the_environment(isometry, model, place, monkeypatch):
    monkeypatch.setenv("ISOMETRY_ANALYZE_SAMPLES", "3")
    isometry("analyze", model, "--json", "r.json")
    assert _report(place / "r.json").input.samples == 3
    isometry("analyze", model, "--samples", 2, "--json", "r.json")
    assert _report(place / "r.json").input.samples == 2
    monkeypatch.setenv("ISOMETRY_ANALYZE_SAMPLES", "0")
    assert isometry("analyze", model).code == ExitCode.USAGE


def test_float32_and_a_skipped_self_check_are_reported(isometry, model, place):
    ended = isometry("analyze", model, "--dtype", "float32", "--no-self-check", "--json", "r.json")
    assert ended.code == ExitCode.OK
    report = _report(place / "r.json")
    assert report.jacobian.dtype == "float32"
    assert report.jacobian.self_check is None
    assert "self-check  switched off" in ended.out


def test_the_arrays_of_a_file_are_chosen_by_key(isometry, model, place):
    np.savez("many.npz", small=np.full(8, 0.5), large=np.full(8, 5.0))
    isometry("analyze", model, "--input", "many.npz", "--input-key", "large", "--json", "r.json")
    assert _report(place / "r.json").input.rms == pytest.approx(5)


@pytest.mark.parametrize(
    "name", ["模型 σ.pt", "new\nline.pt", "\x1b[31mred.pt", "-dash.pt", "a$\\b$.pt"]
)
def test_a_file_of_any_name_is_measured_and_printed_safely(name, isometry, model, place):
    (place / model).rename(place / name)
    ended = isometry("analyze", f"./{name}", "-q", "--json", "r.json")
    assert ended.code == ExitCode.OK, ended.err
    assert ended.out.count("\n") == 1
    assert ended.out.rstrip("\n").isprintable()


@pytest.mark.parametrize("name", ["模型 σ 🎉.pt", "two\nlines.pt", "<&>.pt"])
def test_a_file_of_any_name_is_drawn(name, isometry, model, place):
    (place / model).rename(place / name)
    ended = isometry("analyze", f"./{name}", "--figure", "f.svg")
    assert ended.code == ExitCode.OK, ended.err
    ElementTree.parse(place / "f.svg")


@pytest.mark.parametrize("name", ["a$\\b$.pt", "$x$.pt"])
def test_dollar_signs_in_a_name_are_no_mathematics(name, isometry, model, place):
    (place / model).rename(place / name)
    ended = isometry("analyze", f"./{name}", "--figure", "f.svg")
    assert ended.code == ExitCode.OK, ended.err
    root = ElementTree.parse(place / "f.svg").getroot()
    assert name in "".join(root.itertext())


def test_a_file_with_a_name_that_is_no_text_is_measured(isometry, model, place):
    name = b"caf\xe9.pt".decode("utf-8", "surrogateescape")
    (place / model).rename(place / name)
    ended = isometry("analyze", name, "--json", "r.json", "--figure", "f.svg")
    assert ended.code == ExitCode.OK, ended.err


def test_what_a_factory_prints_stays_out_of_the_json(isometry, place):
    (place / "loud.py").write_text(
        "import torch\ndef make():\n    print('building')\n    return torch.nn.Linear(8, 8)\n"
    )
    ended = isometry("analyze", "--model", "loud:make", "--json", "-")
    assert json.loads(ended.out)["model"]["name"] == "loud:make"
    assert "building" in ended.err
