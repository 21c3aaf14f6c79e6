"""Forty bad inputs, and what each must come to: an exit code, and words that say what to do.

A refusal is one line on stderr and leaves nothing behind; a report says in a note or a finding
what was done instead.
"""

import json
import os
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from isometry_cli.output import write
from torch import nn

from isometry import Report
from isometry.analysis import analyze
from tests.cli import networks

MODEL, FACTORY = ("model.pt",), r"--model pkg\.module:f"

# What to try: an order, a question, or what there is to choose from. Not the words of any one
# message, so that a new message needs no new words here.
ORDERS = (
    "add allow build call check choose convert fetch get give install leave look make measure mend "
    "name pass return run save switch take try use wrap write clean is did are"
).replace(" ", "|")
ADVICE = re.compile(rf"[:;,(]( so| or| and)? ({ORDERS})\b|near it: |there is |: --|\(see ")


@dataclass(frozen=True)
class Row:
    """A bad input.

    Attributes
    ----------
    number : str
        Its place in the table.
    what : str
    code : int
        The exit code wanted.
    words : str
        Pattern of what must be said.
    arguments : tuple
        Of the command.
    make : callable, optional
        Writes the files that it takes into the working directory.
    withheld : bool
        Code 3 with a report that withholds the verdict, not without one.
    advises : bool
        Whether the line says what to try. Where it does not, that is a flaw on record here: a
        message that is mended makes the row fail until its mark is taken off.
    """

    number: str
    what: str
    code: int
    words: str
    arguments: tuple[str, ...]
    make: Callable[[], object] = lambda: None
    withheld: bool = False
    advises: bool = True

    @property
    def reports(self) -> bool:
        return self.code == 0 or self.withheld


def built(name: str, *arguments: str, **kwargs: object) -> tuple[str, ...]:
    """Measure a network of tests/cli/networks.py at eight Gaussian numbers."""
    shape = () if "--input" in arguments else ("--shape", "8")
    given = ("--kwargs", json.dumps(kwargs)) if kwargs else ()
    return ("--model", f"networks:{name}", *given, *shape, *arguments)


def wrote(content: bytes, name: str = "model.pt") -> Callable[[], object]:
    return lambda: Path(name).write_bytes(content)


def saved(make: Callable[[], object]) -> Callable[[], object]:
    return lambda: torch.save(make(), "model.pt")


def arrays(**values: object) -> Callable[[], object]:
    return lambda: [np.save(f"{name}.npy", np.asarray(v)) for name, v in values.items()]


def both(*makers: Callable[[], object]) -> Callable[[], object]:
    return lambda: [make() for make in makers]


class Gadget:
    """Unpickles to a command that leaves a file."""

    def __reduce__(self):
        return os.system, ("touch canary",)


def cut_off():
    torch.save(nn.Linear(8, 8), "model.pt")
    Path("model.pt").write_bytes(Path("model.pt").read_bytes()[:-200])


def own_class():
    torch.save(networks.Twice(), "model.pt")


def replaced_forward():
    layer = nn.Linear(8, 8)
    layer.__dict__["forward"] = "gotcha"
    torch.save(layer, "model.pt")


def deflated():
    torch.save(nn.Linear(8, 8), "plain.pt")
    with zipfile.ZipFile("plain.pt") as plain, zipfile.ZipFile("model.pt", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))


def one_flipped_byte():
    torch.save(nn.Linear(64, 64), "model.pt")
    with zipfile.ZipFile("model.pt") as archive:
        start = next(i.header_offset for i in archive.infolist() if i.filename.endswith("data/0"))
    data = bytearray(Path("model.pt").read_bytes())
    data[start + 4096] ^= 1
    Path("model.pt").write_bytes(data)


def torchscript():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(8, 8)), "model.pt")


def exported():
    with zipfile.ZipFile("model.pt", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/models/model.json", "{}")


def own_code_on_the_hub():
    Path("net").mkdir()
    config = {"model_type": "gpt2", "auto_map": {"AutoModel": "own.Model"}}
    Path("net/config.json").write_text(json.dumps(config))


def linear():
    return nn.Linear(8, 8)


def weights():
    return linear().state_dict()


INTERRUPTED = "(_ for _ in ()).throw(KeyboardInterrupt)"

FORTY = [
    Row("1", "a path that leads nowhere", 2, r"nope\.pt does not exist; check", ("nope.pt",)),
    Row("2", "an empty file", 2, r"model\.pt is empty \(0 bytes\); fetch", MODEL, wrote(b"")),
    Row("3", "a truncated zip", 2, r"is cut off: \d+ bytes came.*save the file", MODEL, cut_off),
    Row("4", "a git-LFS pointer", 2, "LFS pointer: .*run git lfs pull", MODEL,
        wrote(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")),
    Row("5", "a web page", 2, "an HTML page: the download failed", MODEL,
        wrote(b"<!DOCTYPE html><html><body>404</body></html>")),
    Row("6", "a text file", 2, "a text file: that is not a model file", MODEL, wrote(b"good\n")),
    Row("7", "GGUF", 2, f"a GGUF file: .*{FACTORY}", MODEL, wrote(b"GGUF\3\0\0\0" + bytes(20))),
    Row("8", "a plain pickle", 2, f"refused: .* a plain pickle: .*torch.save.*{FACTORY}", MODEL,
        wrote(pickle.dumps({"weight": [1.0]}))),
    Row("9", "weights alone", 2, f"weights only .*no architecture; pass {FACTORY}", MODEL,
        saved(weights)),
    Row("10", "a training checkpoint", 2, rf"checkpoint \(key 'model'\).*{FACTORY}", MODEL,
        saved(lambda: {"model": weights(), "optimizer": {}, "epoch": 3})),
    Row("11", "a class that is not PyTorch's", 2, rf"networks\.Twice; pass {FACTORY}.*or --trust",
        MODEL, own_class),
    Row("12", "a pickle that runs a command", 2, r"refused: (posix|nt)\.system is code, not a mod",
        MODEL, saved(Gadget)),
    Row("13", "a pickle that replaces forward", 2, "'forward' of model would replace a meth",
        MODEL, replaced_forward),
    Row("14", "a giant tensor on four bytes", 2, r"weight claims 4\.0 TB on 4 bytes",
        (*MODEL, "--model", "networks:Twice"),
        saved(lambda: {"weight": torch.ones(1).expand(10**12)})),
    Row("15", "a deflated archive", 2, "compressed members, which torch.save never writes", MODEL,
        deflated),
    Row("16", "one flipped byte", 2, r"checksum mismatch in .*data/0; fetch", MODEL,
        one_flipped_byte),
    Row("17", "TorchScript", 2, "a TorchScript archive: it can carry code.*--trust", MODEL,
        torchscript),
    Row("17", "an exported program", 2, "it can carry code.*--trust", MODEL, exported),
    Row("18", "a Hugging Face folder with code", 2, f"custom code refused: auto_map.*{FACTORY}",
        ("net",), own_code_on_the_hub),
    Row("19", "a Hugging Face name", 2, "give a local folder: isometry does not download",
        ("openai-community/gpt2",)),
    Row("20", "a factory that is not there", 2, "networks has no 'twice_'; near it",
        ("--model", "networks:twice_")),
    Row("20", "a reference that is no callable", 2, "is str, neither a model nor callable; name a",
        ("--model", "networks:Pair.__doc__")),
    Row("20", "a factory that returns words", 2, r"gave builtins\.str, not a torch\.nn\.Module",
        ("--model", "networks:words")),
    Row("20", "a factory that raises", 2, r"failed: ValueError: no such depth \(at .*networks.py:",
        ("--model", "networks:Fails")),
    Row("21", "a class that needs arguments", 2, "is a class, and calling it failed.*as --kwargs",
        ("--model", "networks:NeedsAnArgument")),
    Row("22", "an input of another size", 2,
        r"2x5 and 8x8\); the first layer takes inputs of shape \(8,\): give such an .*--shape 8",
        (*MODEL, "--input", "x.npy"), both(saved(linear), arrays(x=np.ones((2, 5))))),
    Row("23", "no input, and none to be inferred", 2,
        r"takes inputs of shape \(3, H, W\), so give --shape 3,H,W \(shape=...\)", MODEL,
        saved(lambda: nn.Conv2d(3, 4, 3))),
    Row("24", "float64 into float32", 0, "8 × 8, float64 on cpu", (*MODEL, "--input", "x.npy"),
        both(saved(linear), arrays(x=np.ones(8)))),
    Row("25", "token ids", 0, "token ids have no derivative: differentiated by .* 'embed'",
        built("Tokens", "--input", "ids.npy"), arrays(ids=[[1, 2, 3]])),
    Row("26", "one argument of two", 2, "missing 1 .*'other'; give every argument.*--input name=F",
        built("TwoArguments")),
    Row("27", "an output that is None", 2, "returned None, expected a tensor: wrap it",
        built("Outputs", kind="none")),
    Row("27", "an output with words inside", 2,
        "a dict holding name: str, classes: list, expected a tensor: wrap it",
        built("Outputs", kind="texts inside")),
    Row("27", "an output of several tensors", 0, "measured the output 'logits'",
        built("Outputs", kind="dict")),
    Row("28", "an output of integers", 3, "output is int64, which has no derivative: return the lo",
        built("Expression", code="x.argmax(1)")),
    Row("29", "a constant output", 3, "the output does not depend on the input differentiably",
        built("Steps", code="torch.ones_like(x)")),
    Row("29", "a detached output", 3, "does not depend .*: every unit .*forward may detach",
        built("Detached")),
    Row("30", "a generator", 2, "returned a value of type generator, expected a tensor",
        built("Outputs", kind="generator")),
    Row("30", "an array", 2, "returned a value of type ndarray, expected a tensor",
        built("Outputs", kind="numpy")),
    Row("30", "a number", 2, "returned a value of type float, expected a tensor",
        built("Outputs", kind="float")),
    Row("31", "a weight that is NaN", 3, r"'1\.weight' has 1 NaN or infinite values of 64: the fi",
        built("not_a_number")),
    Row("32", "an output that is infinite", 3,
        r"not finite .* \(8 of 8 values\), first in the output of 'middle': look .*another input",
        built("Steps", code="(60 * x).exp().exp()")),
    Row("32", "a Jacobian that is infinite", 3,
        r"Jacobian is not finite .*, between the outputs of 'first' and 'middle': look .*another",
        built("Steps", code="(x - x).sqrt()")),
    Row("33", "bfloat16", 0, "measured in float64, with weights of bfloat16", built("halves")),
    Row("33", "float16", 0, "measured in float64, with weights of float16",
        built("halves", kind="float16")),
    Row("34", "a batch of nothing", 2, r"the input has no elements: its shape is \(0, 8\)",
        built("Twice", "--input", "x.npy"), arrays(x=np.ones((0, 8)))),
    Row("34", "an output of nothing", 2, r"the output has no elements: its shape is \(1, 0\)",
        built("Expression", code="x[:, :0]")),
    Row("35", "a loss", 0, "ISO107.*one direction only", built("Expression", code="x.sum()")),
    Row("36", "dropout left in training mode", 0, "Dropout measured in evaluation mode",
        built("dropout")),
    Row("36", "a random forward", 3, r"the network is random", built("Noisy"), withheld=True),
    Row("37", "batch norm in training mode", 0, "measured in training mode: .*buffers held fixed",
        built("batch_norm", "--train-mode", "--input", "x.npy"),
        arrays(x=np.random.default_rng(0).normal(size=(4, 8)))),
    Row("37", "batch norm over a batch of one", 2, "more than 1 value.*give one .* several rows$",
        built("batch_norm", "--train-mode")),
    Row("37", "a forward that changes its own state", 3, "or changes its own state",
        built("Counting"), withheld=True),
    Row("38", "reentrant checkpointing", 0, "checkpointing is switched off", built("Checkpointed")),
    Row("38", "an autograd function of the old kind", 0, "products Jᵀu by batched autograd.grad",
        built("OldFunction")),
    Row("38", "a forward that leaves PyTorch", 3, "does not depend on the input differentiably",
        built("LeavesPyTorch")),
    Row("39", "parameters without values", 2, r"have no values \(meta, first 'weight'\); build it",
        built("meta")),
    Row("39", "parameters without shape", 2, r"have no values \(lazy, first '0.weight'\); build it",
        built("lazy")),
    Row("39", "a device that is none", 2, "unknown device 'gpu': choose auto, cpu, cuda or cuda:N",
        built("Twice", "--device", "gpu")),
    Row("40", "a Jacobian too large", 2, "8 x 8 in float64 and needs 1 KB, more than .*--memory",
        built("Twice", "--memory", "1B")),
    Row("40", "a forward that calls itself", 2, r"recurses without end, or deeper .* \d+ calls",
        built("Recursive")),
    Row("40", "a network nested too deep", 2, "is nested deeper than Python follows",
        built("nested")),
    Row("40", "a full disk", 2, "cannot write '/dev/full': No space left on device",
        built("Twice", "--json", "/dev/full")),
    Row("40", "Ctrl-C", 130, "interrupted: no file was left half-written",
        built("Expression", code=INTERRUPTED)),
]  # fmt: skip

MORE = [
    Row("a", "an in-place operation on the input", 0, "8 × 8", built("InPlace")),
    Row("b", "no_grad inside forward", 3, "ISO302|ISO303", built("NoGrad"), withheld=True),
    Row("c", ".item() in the path", 3, "ISO303", built("Item"), withheld=True),
    Row("d", "a quantised layer", 3, r"the layer '1' \(Linear\) is quantised: rounding has no der",
        built("quantised")),
    Row("e", "spectral norm in training mode", 0, "buffers held fixed",
        built("spectral", "--train-mode")),
    Row("e", "parametrised spectral norm", 0, "buffers held fixed",
        built("parametrized_spectral", "--train-mode")),
    Row("f", "RReLU", 0, "measured in evaluation mode", built("rrelu")),
    Row("f", "RReLU in training mode", 0, "one mask", built("rrelu", "--train-mode")),
    Row("g", "dropout that ignores evaluation mode", 3, "the network is random",
        built("Steps", code="nn.functional.dropout(x)"), withheld=True),
    Row("h", "two devices", 2, r"no values \(meta, first '1\.weight'\)", built("two_devices")),
    Row("i", "an output of strings", 2, "a list holding 0: str, 1: str, expected a tensor",
        built("Outputs", kind="texts")),
    Row("j", "--start names no layer", 2, "no layer named 'frist'; near it: 'first', 'last'",
        built("Steps", "--start", "frist", code="x")),
    Row("j", "--stop names no layer", 2, "no layer named 'middel'; near it: 'middle'",
        built("Steps", "--stop", "middel", code="x")),
    Row("j", "--start in a network without layers", 2, "'a'; it has no layers with names",
        built("Expression", "--start", "a", code="x")),
    Row("j", "--wrt names no argument", 2, "no tensor argument 'y' to .*; there is 'x'",
        built("Steps", "--wrt", "y", code="x")),
    Row("j", "--output names no part", 2,
        r"has no part 'logit': .* hidden: a tensor \(1, 8\), logits: a tensor \(1, 3\)",
        built("Outputs", "--output", "logit", kind="dict")),
    Row("j", "--output names no part of a part", 2,
        r"has no part 'layers.7': 'layers' is a list holding 0: a tensor \(1, 8\), 1: a tensor",
        built("Outputs", "--output", "layers.7", kind="nested")),
    Row("j", "a dotted --output of a lone tensor", 2, r"the network returned a tensor \(1, 8\)",
        built("Twice", "--output", "logits")),
    *(Row("j", f"an empty {option}", 2, f"{option} is an empty name: is a variable not set",
          built("Twice", option, "")) for option in ("--start", "--stop", "--wrt", "--output",
                                                     "--at")),
    Row("k", "--start at a layer that runs twice", 2, "'layer' runs 2 times .*: name one that runs",
        built("Twice", "--start", "layer")),
    Row("k", "--stop at a layer that runs twice", 2, "'layer' runs 2 times .*: name one that runs",
        built("Twice", "--stop", "layer")),
    Row("l", "inputs of which one has no name", 2, "several inputs need names: --input x=a.npy",
        built("TwoArguments", "--input", "x.npy", "--input", "other=x.npy"), arrays(x=[1.0])),
    Row("l", "an input by a name that forward has not", 2, "unexpected keyword argument 'z'",
        built("TwoArguments", "--input", "x=x.npy", "--input", "z=x.npy"), arrays(x=[1.0]),
        ),
    Row("m", "a forward that raises", 2, "network raised ZeroDivisionError on an input of shape",
        built("Expression", code="1 / 0")),
]  # fmt: skip


def _named(rows):
    return [pytest.param(row, id=f"{row.number}: {row.what}") for row in rows]


@pytest.mark.parametrize("command", ["analyze", "check"])
@pytest.mark.parametrize("row", _named(r for r in [*FORTY, *MORE] if not r.reports))
def test_what_cannot_be_measured_ends_in_one_line_and_leaves_nothing(row, command, isometry):
    if "/dev/full" in row.arguments and not os.path.exists("/dev/full"):
        pytest.skip("there is no full device here")
    row.make()
    ended = isometry(command, "--json", "r.json", "--figure", "f.svg", *row.arguments)
    assert ended.code == row.code, ended.err
    said = ended.err.strip("\n")  # after ^C, a new line comes first
    assert said.startswith("interrupted: " if row.code == 130 else "error: ")
    assert re.search(row.words, said), said
    assert said.isprintable()  # one line, then
    assert "Traceback" not in said
    assert bool(ADVICE.search(said)) is (row.advises and row.code != 130), said
    assert ended.out == ""
    assert ended.changed == []


@pytest.mark.parametrize("row", _named(r for r in [*FORTY, *MORE] if r.reports))
def test_what_can_be_measured_is_and_the_report_says_how(row, isometry, place):
    row.make()
    ended = isometry("analyze", "--json", "r.json", *row.arguments)
    assert ended.code == row.code, ended.err
    assert re.search(row.words, ended.out + ended.err), ended.err
    assert all(line.startswith("note: ") for line in ended.err.splitlines())
    assert ended.changed == ["r.json"]
    report = Report.from_json((place / "r.json").read_text(encoding="utf-8"))
    assert (report.verdict.status == "WITHHELD") is row.withheld
    assert ("PASS" in ended.out) <= (not row.withheld)


@pytest.mark.parametrize(
    "line",
    [
        "the input has no elements: its shape is (0, 8)",
        "weights.pt does not fit the model: weights 2 missing (first '0.weight')",
        "x.csv holds no line of numbers",
        "the network raised RuntimeError on an input of shape (1, 8): boom",
    ],
)
def test_a_complaint_alone_is_no_advice(line):
    assert not ADVICE.search(f"error: {line}")
    assert ADVICE.search(f"error: {line}; give another")


def test_the_table_has_forty_rows_in_order():
    assert list(dict.fromkeys(int(row.number) for row in FORTY)) == list(range(1, 41))


@pytest.mark.parametrize("row", _named(r for r in FORTY if r.number in ("1", "12", "31")))
def test_a_process_says_the_same(row, place):
    row.make()
    before = sorted(os.listdir())
    ended = subprocess.run(
        [sys.executable, "-B", "-m", "isometry_cli", "analyze", *row.arguments, "--json", "r.json"],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (row.code, "")
    assert re.fullmatch(f"error: .*{row.words}.*\n", ended.stderr)
    assert sorted(os.listdir()) == before


def test_the_gadget_would_have_been_noticed(place):
    pickle.loads(pickle.dumps(Gadget()))
    assert os.path.exists("canary")


def test_an_operation_in_place_does_not_reach_the_callers_tensor():
    x = torch.linspace(-1, 1, 8)[None]
    before = x.clone()
    analyze(networks.InPlace(), x)
    assert torch.equal(x, before)
    assert x._version == 0


# --- odd surroundings --------------------------------------------------------------------


def test_layers_of_any_name_are_found_and_printed_safely(isometry, place):
    ended = isometry(
        *("analyze", *built("odd_names", "--start", "new\nline", "--stop", "\x1b[31mred")),
        *("--json", "r.json", "--figure", "f.svg"),
    )
    assert ended.code == 0, ended.err
    assert "from the input of 'new\\nline' to the output of '\\x1b[31mred'" in ended.err
    assert "\x1b" not in ended.out + ended.err
    report = Report.from_json((place / "r.json").read_text(encoding="utf-8"))
    assert "\x1b" not in report._repr_html_()
    ended = isometry("analyze", *built("odd_names", "--start", "слой"))
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "near it: 'слой σ'" in ended.err


def test_ten_thousand_layers_are_measured(isometry, place):
    ended = isometry("analyze", "--model", "networks:deep", "--json", "r.json", "--figure", "f.svg")
    assert ended.code == 0, ended.err
    report = Report.from_json((place / "r.json").read_text(encoding="utf-8"))
    assert report.model.weight_layers == 10_000
    np.testing.assert_allclose(report.spectrum.singular_values, 1, rtol=1e-9)


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(isometry, place, monkeypatch):
    import tempfile

    def denied(*_arguments, **_options):  # as root, no permission is ever missing
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    ended = isometry("analyze", *built("Twice"), "--json", "r.json")
    assert (ended.code, ended.out, ended.changed) == (2, "", [])
    assert ended.err == "error: cannot write 'r.json': Permission denied; give another path\n"


def test_runs_that_write_one_file_leave_a_whole_one(place):
    contents = [bytes([65 + i]) * 100_000 for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda i: write("r.json", contents[i % 4]), range(200)):
            assert (place / "r.json").read_bytes() in contents
    assert [p.name for p in place.iterdir() if p.name.startswith(".")] == []


def test_hash_seed_locale_and_home_change_no_number(place):
    surroundings = [
        {"PYTHONHASHSEED": "1"},
        {"PYTHONHASHSEED": "2", "LC_ALL": "de_DE.UTF-8", "HOME": None},
    ]
    runs = [_started(f"{i}.json", changes) for i, changes in enumerate(surroundings)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    one, other = [json.loads((place / f"{i}.json").read_text("utf-8")) for i in range(2)]
    for part in ("spectrum", "score", "verdict", "findings", "notes"):
        assert one[part] == other[part]


def _started(target, changes):
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **changes}
    program = (sys.executable, "-m", "isometry_cli", "check", "--model", "networks:Tokens")
    return subprocess.Popen(
        [*program, "--json", target],
        env={k: v for k, v in environment.items() if v is not None},
        stdout=subprocess.DEVNULL,
    )


def test_a_locale_with_a_decimal_comma_changes_no_line(isometry):
    import locale

    before = locale.setlocale(locale.LC_ALL)
    plain = isometry("check", "--model", "networks:Tokens")
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR"):
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        try:
            assert isometry("check", "--model", "networks:Tokens").out == plain.out
        finally:
            locale.setlocale(locale.LC_ALL, before)
        return
    pytest.skip("no locale with a decimal comma is installed here")
