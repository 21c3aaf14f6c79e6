"""Which derivative is meant: positions, layers, arguments, parts of the output, and the mode."""

import json

import numpy as np
import pytest
import torch

from isometry import Report, analyze
from tests.cli import networks
from tests.zoo.shim import torchvision_without_operators

IDS = torch.tensor([[1, 2, 3]])
TOKENS = ("--model", "networks:Tokens", "--input", "ids.npy")


@pytest.fixture
def measured(isometry, place):
    """Run analyze and return its report and its notes."""
    np.save(place / "ids.npy", IDS.numpy())
    np.save(place / "x.npy", np.linspace(-1, 1, 4)[None])
    np.save(place / "y.npy", np.full((1, 4), 3.0))

    def called(*arguments: str) -> Report:
        ended = isometry("analyze", *arguments, "--json", "r.json")
        assert ended.code == 0, ended.err
        report = Report.from_json((place / "r.json").read_text(encoding="utf-8"))
        assert [f"note: {n}" for n in report.notes] == ended.err.splitlines()
        return report

    return called


@pytest.fixture(scope="module")
def jacobian():
    """The whole Jacobian of the tokens' network, [output position, feature, position, feature]."""
    net = networks.Tokens().double()

    def rest(embedded):
        return net.last(net.first(embedded.cumsum(1)).tanh())[0]

    found = torch.autograd.functional.jacobian(rest, net.embed(IDS).detach())
    return found[:, :, 0]


def _same(report: Report, expected: torch.Tensor) -> None:
    m, n = expected.shape
    assert report.jacobian.shape == (m, n)
    values = torch.linalg.svdvals(expected).numpy()
    found = report.spectrum.singular_values
    np.testing.assert_allclose(found, values[: len(found)], atol=1e-10 * values[0])


@pytest.mark.parametrize(
    ("at", "note", "cut"),
    [
        ("1", "output[:, 1] by input[:, 1]", lambda j: j[1, :, 1]),
        ("-1", "output[:, -1] by input[:, -1]", lambda j: j[2, :, 2]),
        (":,1", "output[:, 1]", lambda j: j[1].reshape(4, 12)),
        (":,1 / :,0", "output[:, 1] by input[:, 0]", lambda j: j[1, :, 0]),
        (":,0:2/:,:1", "output[:, 0:2] by input[:, :1]", lambda j: j[:2, :, 0].reshape(8, 4)),
        ("..., 0", "output[..., 0]", lambda j: j[:, 0].reshape(3, 12)),
    ],
)
def test_positions_are_cut_out_of_the_whole_jacobian(at, note, cut, measured, jacobian):
    report = measured(*TOKENS, "--at", at)
    assert f"measured {note}" in report.notes
    _same(report, cut(jacobian))
    same = analyze(networks.Tokens(), IDS, at=at)
    assert same.spectrum.singular_values.tolist() == report.spectrum.singular_values.tolist()


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("9", r"':, 9' does not fit the input of shape \(1, 3, 4\): index 9 is out of bounds"),
        (":,9", r"':, 9' does not fit the output of shape \(1, 3, 4\)"),
        (":,0 / :,9", r"':, 9' does not fit the input of shape \(1, 3, 4\)"),
        (":,:,:,0", r"':, :, :, 0' does not fit the output .*: too many indices"),
        ("::0", r"'::0' does not fit the output .*: slice step cannot be zero"),
        ("1:0", r"'1:0' leaves nothing of the output of shape \(1, 3, 4\)"),
        ("first", r"'first' is no index; write a position \(3\), or indices such as"),
        ("1 2", "'1 2' is no index"),
        ("/1", "'' is no index"),
        ("1/2/3", "'2/3' is no index"),
    ],
)
def test_positions_that_are_not_there_are_named(at, words, refused, measured):
    refused(2, f"at: {words}", "analyze", *TOKENS, "--at", at)


def test_positions_that_do_not_depend_on_each_other_have_no_jacobian(refused, measured):
    words = "the output does not depend on the input differentiably"
    refused(3, words, "analyze", *TOKENS, "--at", ":,0 / :,1")


@pytest.mark.parametrize(
    ("ends", "note", "shape"),
    [
        (("--start", "first"), "from the input of 'first' to the output", (12, 12)),
        (("--stop", "first"), "from the input to the output of 'first'", (15, 12)),
        (("--start", "last", "--stop", "last"), "of 'last' to the output of 'last'", (12, 15)),
        (("--start", "first", "--stop", "last"), "of 'first' to the output of 'last'", (12, 12)),
    ],
)
def test_a_section_is_measured_from_layer_to_layer(ends, note, shape, measured):
    report = measured(*TOKENS, *ends)
    (said,) = (n for n in report.notes if n.startswith("measured from"))
    assert note in said
    assert report.jacobian.shape == shape
    options = {k.removeprefix("--"): v for k, v in zip(ends[::2], ends[1::2], strict=True)}
    same = analyze(networks.Tokens(), IDS, **options)
    assert same.spectrum.singular_values.tolist() == report.spectrum.singular_values.tolist()


def test_a_section_of_one_linear_layer_is_its_weight(measured):
    report = measured(*TOKENS, "--start", "last", "--stop", "last", "--at", "1")
    _same(report, networks.Tokens().double().last.weight.detach())


def test_two_arguments_are_given_by_name_and_one_is_chosen(measured):
    two = ("--model", "networks:TwoArguments", "--input", "x=x.npy", "--input", "other=y.npy")
    x, y = torch.linspace(-1, 1, 4).double(), torch.full((4,), 3.0).double()
    report = measured(*two)
    assert "differentiated by x of x, other; another with wrt (--wrt)" in report.notes
    assert report.input.source == "x.npy, y.npy"
    _same(report, torch.diag(y * (1 - x.tanh() ** 2)))
    report = measured(*two, "--wrt", "other")
    _same(report, torch.diag(x.tanh()))
    turned = (*two[:2], *two[4:], *two[2:4])
    assert "differentiated by other of other, x" in "\n".join(measured(*turned).notes)


def test_an_array_of_an_npz_may_be_one_of_the_arguments(measured, place):
    np.savez(place / "ids.npz", ids=IDS.numpy(), more=np.ones(2))
    report = measured(*TOKENS[:2], "--input", "ids=ids.npz", "--input-key", "ids")
    assert report.jacobian.shape == (12, 12)
    assert "token ids have no derivative: differentiated by the output of 'embed'" in report.notes
    assert report.spectrum.singular_values.tolist() == (
        measured(*TOKENS).spectrum.singular_values.tolist()
    )


@pytest.mark.parametrize(
    ("kind", "part", "width"),
    [
        ("dict", None, 3),
        ("dict", "hidden", 8),
        ("tuple", None, 8),
        ("tuple", "1", 3),
        ("tuple", "-1", 3),
        ("dataclass", None, 3),
        ("dataclass", "hidden", 8),
        ("nested", None, 8),
        ("nested", "layers.1", 3),
    ],
)
def test_a_part_of_the_output_is_measured(kind, part, width, measured):
    kwargs = ("--kwargs", json.dumps({"kind": kind}), "--shape", "8")
    chosen = ("--output", part) if part else ()
    report = measured("--model", "networks:Outputs", *kwargs, *chosen)
    assert report.jacobian.shape == (width, 8)
    expected = part or {"tuple": "0", "nested": "layers.0"}.get(kind, "logits")
    assert f"measured the output {expected!r}" in report.notes


def test_training_mode_freezes_one_mask(measured):
    drop = ("--model", "networks:dropout_alone", "--shape", "64")
    values = measured(*drop, "--train-mode").spectrum
    assert set(values.singular_values.round(12).tolist()) == {2.0}
    again = measured(*drop, "--train-mode").spectrum
    assert again.singular_values.tolist() == values.singular_values.tolist()
    assert set(measured(*drop).spectrum.singular_values.tolist()) == {1.0}


def test_training_mode_takes_a_batch_as_one_input(measured, place):
    rows = np.random.default_rng(0).normal(size=(4, 8))
    np.save(place / "rows.npy", rows)
    norm = ("--model", "networks:batch_norm", "--input", "rows.npy")
    assert measured(*norm, "--train-mode").jacobian.shape == (32, 32)
    assert measured(*norm).jacobian.shape == (8, 8)


# --- a Hugging Face folder ---------------------------------------------------------------


@pytest.fixture
def folder(place):
    torchvision_without_operators()  # transformers imports it
    import transformers

    config = transformers.GPT2Config(
        n_embd=8, n_layer=2, n_head=2, n_positions=16, vocab_size=20, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(place / "gpt")
    return "gpt"


def test_a_language_model_is_measured_without_any_input(folder, measured):
    report = measured(folder, "--stop", "transformer.ln_f")
    assert report.input.source == "random, as its configuration asks: input_ids (1, 16)"
    assert "differentiated by the output of 'transformer.wte'" in "\n".join(report.notes)
    assert report.jacobian.shape == (128, 128)
    assert measured(folder).jacobian.shape == (320, 128)


def test_the_blocks_and_tokens_of_a_language_model_are_selected(folder, measured, place):
    ids = np.array([[1, 2, 3, 4]])
    np.savez(place / "ids.npz", input_ids=ids)
    given = (folder, "--input", "input_ids=ids.npz")
    blocks = ("--start", "transformer.h.0", "--stop", "transformer.h.1")
    assert measured(*given, *blocks).jacobian.shape == (32, 32)
    assert measured(*given, *blocks, "--at", "3").jacobian.shape == (8, 8)
    assert measured(*given, "--output", "logits", "--at", ":,3 / :,0").jacobian.shape == (20, 8)


def test_a_layer_of_a_language_model_that_is_misspelt_is_answered(folder, refused, measured):
    words = r"no layer named 'transformer\.h\.2'; near it: 'transformer\.h"
    refused(2, words, "analyze", folder, "--start", "transformer.h.2")
    words = r"has no part 'hidden_states': .* holding logits: a tensor \(1, 16, 20\)"
    refused(2, words, "analyze", folder, "--output", "hidden_states")
