"""Every input that cannot be measured gets one line and the right code, and leaves no file."""

import os
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn


class Gadget:
    """Unpickles to a command that leaves a file."""

    def __reduce__(self):
        return os.system, ("touch canary",)


# --- model files -------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [(), ("--samples", "2")])
def test_a_pickle_with_a_gadget_is_refused_and_not_run(trust, refused, place):
    (place / "plain.pt").write_bytes(pickle.dumps(Gadget()))
    refused(
        2, r"refused: plain\.pt is a plain pickle.*--model pkg\.module:f", "analyze", "plain.pt"
    )
    torch.save(Gadget(), "gadget.pt")
    refused(2, r"refused: (posix|nt)\.system is code, not a model", "analyze", "gadget.pt", *trust)
    torch.save({"state_dict": nn.Linear(2, 2).state_dict(), "x": Gadget()}, "hidden.pt")
    refused(
        2,
        r"refused: (posix|nt)\.system is code",
        "analyze",
        "hidden.pt",
        "--model",
        "cli_nets:linear",
    )
    assert not (place / "canary").exists()


def test_a_gadget_given_as_input_is_refused_and_not_run(refused, model, place):
    torch.save(Gadget(), "x.pt")
    refused(2, "refused", "analyze", model, "--input", "x.pt")
    np.save("x.npy", np.array([Gadget()], dtype=object), allow_pickle=True)
    refused(2, r"refused: x\.npy holds Python objects", "analyze", model, "--input", "x.npy")
    assert not (place / "canary").exists()


def test_weights_of_another_network_are_refused(refused):
    torch.save(nn.Linear(4, 4).state_dict(), "weights.pt")
    words = r"weights\.pt does not fit the model: .*; build the model that they were saved from"
    refused(2, words, "analyze", "weights.pt", "--model", "cli_nets:linear")


def test_a_folder_is_no_model_file(refused, place):
    (place / "folder").mkdir()
    refused(2, "folder is a directory: name a model file", "analyze", "folder")
    refused(
        2,
        "is a directory; name a file",
        "analyze",
        "--model",
        "cli_nets:linear",
        "--input",
        "folder",
    )


def test_an_array_is_no_model(refused, array):
    refused(2, "it holds numbers, no model; is it meant as --input", "analyze", array(np.ones(8)))


# --- input -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["analyze", "check"])
@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        (np.ones(7), 2, r"of shape \(7,\).*1x7 and 8x8.*first layer takes inputs of shape \(8,\)"),
        (np.full(8, np.nan), 2, "the input has 8 NaN or infinite values of 8: clean it first"),
        ([1, 2, 3, 4, 5, 6, 7, np.inf], 2, "the input has 1 NaN or infinite values of 8"),
        (np.ones(8, dtype=int), 2, "the input is int64, expected floating point: convert it"),
        (np.ones(8, dtype=bool), 2, "the input is bool, expected floating point"),
        (np.float64(3), 2, "the input is a single number: give an array"),
        (np.array([{}], dtype=object), 2, r"refused: x\.npy holds Python objects.*; save plain nu"),
        (np.ones(8, dtype=complex), 2, r"of type '<c16', expected plain numbers; save array.*chan"),
        (np.array(["a"]), 2, r"of type '<U1', expected plain numbers; save array\.astype\(float\)"),
    ],
)
def test_an_array_that_does_not_fit_is_described(
    command, values, code, words, refused, model, array
):
    refused(code, words, command, model, "--input", array(values))


@pytest.mark.parametrize("shape", [(0, 8), (0,), (8, 0)])
def test_an_input_of_no_elements_is_described(shape, refused, model, array):
    words = r"no elements: its shape is .*, expected sizes of at least 1; give a batch of one"
    refused(2, words, "analyze", model, "--input", array(np.ones(shape)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "x.xyz",
            b"\x01\x02\x03",
            r"x\.xyz is a file of no known format; as input are read: \.npy",
        ),
        ("x.npy", b"\x93NUMPY\x01", r"x\.npy is damaged: it has no header"),
        ("x.npz", b"PK\x03\x04", r"x\.npz is cut off"),
        ("x.png", b"\x89PNG\r\n\x1a\n and no more", r"x\.png is damaged"),
        ("x.jpg", b"\xff\xd8\xff and no more", r"x\.jpg is damaged"),
        ("x.gif", b"GIF89a\x01\x00\x01\x00", r"x\.gif is a .*as input are read: \.npy"),
        ("x.csv", b"1,2\n3,four\n", r"x\.csv, line 2: 'four' is not a number; decimals are wr"),
        ("x.csv", b"only,words\n", r"x\.csv holds no line of numbers; write one input a line"),
        ("x.csv", b"1,2\n3\n", r"x\.csv, line 2: 1 column, where 2 came before"),
        ("x.pt", b"", r"x\.pt is empty"),
    ],
)
def test_an_unknown_or_damaged_input_file_is_named(name, content, words, refused, model, place):
    (place / name).write_bytes(content)
    refused(2, words, "analyze", model, "--input", name)


def test_a_missing_input_file_is_named(refused, model):
    refused(2, r"nope\.npy does not exist", "analyze", model, "--input", "nope.npy")


def test_an_unknown_key_is_answered_with_those_there_are(refused, model):
    np.savez("many.npz", one=np.ones(8), two=np.ones((3, 8)))
    words = r"many\.npz {}; pass --input-key \(key=...\) as one of: one \(8,\), two \(3, 8\)"
    refused(
        2,
        words.format("has no 'three'"),
        "analyze",
        model,
        "--input",
        "many.npz",
        "--input-key",
        "three",
    )
    refused(2, words.format("holds 2 arrays"), "analyze", model, "--input", "many.npz")


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (
            "{'name': 'x', 'n': 3}",
            2,
            "returned a dict holding name: str, n: int, expected a tensor",
        ),
        ("('x', 3)", 2, r"returned a tuple holding 0: str, 1: int, expected a tensor"),
        ("'hello'", 2, "returned a value of type str, expected a tensor"),
        ("[][1]", 2, r"the network raised IndexError on an input of shape \(1, 8\): list index"),
        ("sys.exit(0)", 2, "called exit|SystemExit"),
        ("sys.exit(3)", 2, "called exit|SystemExit"),
        ("0 * s.layer(x)", 3, "the output does not depend on the input"),
        ("x.round()", 3, "the output does not depend on the input"),
        ("x * float('nan')", 3, r"the output is not finite at this input \(8 of 8 values\)"),
        ("x / 0", 3, "the output is not finite at this input"),
        ("x.to(torch.complex64)", 3, "the output is complex"),
        ("(x - x).sqrt()", 3, r"the Jacobian is not finite at this input \(64 of 64 entries\)"),
    ],
)
@pytest.mark.parametrize("command", ["analyze", "check"])
def test_a_network_that_cannot_be_measured_is_described(command, code, status, words, refused, net):
    refused(status, words, command, *net(code))


@pytest.mark.parametrize("command", ["analyze", "check"])
@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("x + torch.randn_like(x)", "ISO301"),
        ("x * torch.rand_like(x)", "ISO301"),
        ("x.detach() * x", "ISO303"),
        ("x + x.tanh().detach()", "ISO303"),
    ],
)
def test_a_wrong_derivative_withholds_the_verdict(command, code, finding, isometry, net, place):
    results = ("--json", "r.json", "--figure", "f.svg")
    ended = isometry(command, *net(code), *results, "--fail-under", "0")
    assert ended.code == 3
    assert ended.changed == ["f.svg", "r.json"]
    assert "WITHHELD" in ended.out
    text = (place / "r.json").read_text(encoding="utf-8")
    assert re.search(r'"status": "WITHHELD"', text)
    assert finding in text
    for said in (ended.out, ended.err, text, (place / "f.svg").read_text(encoding="utf-8")):
        assert "PASS" not in said


# --- options -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--samples", "0"], r"'--samples': 0 is not in the range x>=1"),
        (["--samples", "many"], "'--samples': 'many' is not a valid integer"),
        (["--device", "meta"], "cannot measure on 'meta'"),
        (
            ["--memory", "1B"],
            "is 8 x 8 in float64 and needs 1 KB, more than the 1 B allowed: .*--memory",
        ),
        (["--memory", "lots"], "cannot read 'lots' as a memory size: write it as 4GB"),
        (["--memory", "-1"], "cannot read '-1' as a memory size"),
        (["--dtype", "float16"], "'float16' is not one of 'auto', 'float64', 'float32'"),
        (["--shape", "a,b"], "'a,b' is not a shape: write sizes as 3,32,32"),
        (["--shape", ""], "'' is not a shape"),
        (["--shape", "0,8"], "'0,8' has no elements: give sizes of at least 1"),
        (["--shape", "3,9"], r"the network raised RuntimeError on an input of shape \(1, 3, 9\)"),
        (["--input-scale", "0"], "the input scale must be positive and finite"),
        (["--input-scale", "nan"], "the input scale must be positive and finite"),
        (["--seed", str(2**63)], f"'--seed': {2**63} is not in the range"),
        (["--fail-under", "2"], r"'--fail-under': 2\.0 is not in the range 0<=x<=1"),
        (["--fail-under", "nan"], "'--fail-under': nan is not in the range"),
        (["--kwargs", "{}"], "--kwargs are arguments for a factory: give --model as well"),
        (["--input", "x.npy", "--shape", "8"], "give --input or --shape, not both"),
        (["--input-key", "x"], "--input-key names an array of --input FILE"),
        (["--input", ""], "--input is an empty name: is a variable not set"),
        (["--sampels", "3"], r"No such option '--sampels'.*Did you mean.*--samples"),
        (["extra.pt"], "extra argument"),
        (["--samples"], "'--samples': '--json' is not a valid integer"),
    ],
)
@pytest.mark.parametrize("command", ["analyze", "check"])
def test_a_wrong_option_is_named_with_what_it_takes(command, arguments, words, refused, model):
    refused(2, words, command, model, *arguments)


@pytest.mark.parametrize(
    "arguments", [("--shape", 10**14), ("--shape", 10**30), ("--samples", 10**13)]
)
def test_input_that_fits_in_no_memory_is_refused(arguments, refused, model):
    refused(2, "memory|fit|large", "analyze", model, *arguments)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is MPS here")
@pytest.mark.parametrize("device", ["mps", "mps:0"])
def test_mps_without_mps_is_refused(device, refused, model):
    words = "MPS was asked for and there is none here: choose auto, cpu or cuda"
    refused(2, words, "analyze", model, "--device", device)


def test_a_scale_for_an_input_that_is_given_is_refused(refused, model, array):
    words = "--input-scale is for Gaussian input: give it without --input"
    refused(2, words, "analyze", model, "--input", array([1.0] * 8), "--input-scale", 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_without_cuda_is_refused(device, refused, model):
    refused(
        2,
        "CUDA was asked for and there is none here: use --device cpu",
        "analyze",
        model,
        "--device",
        device,
    )


def test_a_jacobian_too_large_for_memory_is_refused_with_its_size(refused, data):
    data("trained.pt")
    words = (
        r"the dense Jacobian is 10 x 64 in float64 and needs 10 KB, more than the 1 KB allowed: "
        r".*smaller input.*--memory"
    )
    refused(2, words, "analyze", "trained.pt", "--memory", "1KB")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to measure: give a model file, or --model pkg.module:factory"),
        ([""], "MODEL is an empty name: is a variable not set"),
        (["--model", "cli_nets"], "'cli_nets' is no reference to a model; write it as"),
        (["--model", ""], "'' is no reference to a model"),
        (["--model", "cli_nope:f"], "no module named 'cli_nope' in the working directory"),
        (["--model", "cli_nets:lineer"], "cli_nets has no 'lineer'; near it: linear"),
        (
            ["--model", "cli_nets:broken"],
            r"cli_nets:broken failed: ValueError: no such depth:\\n\\x1b",
        ),
        (["--model", "cli_nets:forgetful"], "gave collections.OrderedDict, not a torch.nn.Module"),
        (
            ["--model", "cli_nets:linear", "--kwargs", '{"depth": 3}'],
            "unexpected keyword .*'depth'",
        ),
        (
            ["--model", "cli_nets:linear", "--kwargs", "{"],
            r"'{' is not JSON .*: write an object like",
        ),
        (["--model", "cli_nets:linear", "--kwargs", "[1]"], r"'\[1\]' is not a JSON object"),
        (["--model", "cli_nets:linear", "--kwargs", "[" * 99999], "is not JSON"),
    ],
)
def test_a_subject_that_cannot_be_built_is_described(arguments, words, refused):
    refused(2, words, "analyze", *arguments)


def test_no_message_carries_terminal_codes(refused, net):
    raises = "(_ for _ in ()).throw(ValueError('\x1b[2Jcleared \u202e desrever'))"
    refused(2, "the network raised ValueError .*cleared", "analyze", *net(raises))
    refused(2, "No such option '?--.*red", "analyze", "--\x1b[31mred")
    refused(2, "no command is called", "\x1b[31m\n", results=False)


def test_an_unknown_command_is_answered_with_the_nearest(refused):
    refused(2, "no command is called 'analise': did you mean analyze", "analise", results=False)
    refused(2, "no command is called 'model.pt': did you mean analyze", "model.pt", results=False)


@pytest.mark.parametrize("raised", ["__import__('asyncio').CancelledError", "GeneratorExit"])
def test_what_is_raised_and_is_no_exception_is_the_networks(raised, refused, net):
    words = f"the network's own code raised {raised.rpartition('.')[2]}: stop"
    refused(2, words, "analyze", *net(f"(_ for _ in ()).throw({raised}('stop'))"))


def test_a_bug_of_ours_is_one_line_and_a_saved_traceback(
    isometry, model, monkeypatch, tmp_path_factory
):
    import tempfile

    import isometry as library

    logs = tmp_path_factory.mktemp("logs")
    monkeypatch.setattr(tempfile, "tempdir", str(logs))

    def buggy(*_arguments, **_options):
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(library, "analyze", buggy)
    ended = isometry("analyze", model, "--json", "r.json")
    assert (ended.code, ended.out, ended.changed) == (70, "", [])
    (log,) = logs.iterdir()
    assert ended.err == (
        f"internal error: ZeroDivisionError: first line (please report it with {log})\n"
    )
    assert "Traceback" in log.read_text()
    monkeypatch.setattr(tempfile, "tempdir", str(logs / "nowhere"))
    ended = isometry("analyze", model)
    assert ended.code == 70
    assert ended.err == "internal error: ZeroDivisionError: first line (please report it)\n"
