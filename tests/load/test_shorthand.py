"""Models by their name in timm or torchvision, and arguments written into the reference."""

import sys

import pytest
import torch

from isometry.errors import InputError, LoadError
from isometry.load import build_model, shorthand


@pytest.mark.parametrize(
    ("reference", "kwargs", "outputs"),
    [
        ("timm:resnet10t", {}, 1000),
        ('timm:resnet10t:{"num_classes": 7}', {}, 7),
        ("timm:resnet10t.c3_in1k", {"num_classes": 3}, 3),
        ("torchvision:resnet18", {"num_classes": 5}, 5),
        ('torchvision:resnet18:{"num_classes": 4}', {}, 4),
    ],
)
def test_a_name_gives_the_model_of_the_library(reference, kwargs, outputs, watched):
    before = torch.get_rng_state()
    with watched():
        model = build_model(reference, kwargs)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.fc.out_features == outputs


def test_weights_are_drawn_by_the_seed(libraries):
    torch.manual_seed(3)
    plain = libraries[2].models.resnet18(weights=None)
    one, same, other = (build_model("torchvision:resnet18", seed=s) for s in (3, 3, 4))
    assert torch.equal(one.conv1.weight, plain.conv1.weight)
    assert torch.equal(one.conv1.weight, same.conv1.weight)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_a_detection_model_does_not_fetch_its_backbone(watched):
    with watched():
        build_model("torchvision:lraspp_mobilenet_v3_large")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("timm:resnet10q", "timm has no model 'resnet10q'; near it: .*resnet10t"),
        ("torchvision:resnet19", "torchvision has no model 'resnet19'; near it: resnet1"),
        ("timm:", "timm has no model ''"),
        ("timm:hf-hub:org/net", "timm has no model 'hf-hub:org/net'"),
        ("timm:local-dir:/tmp", "timm has no model 'local-dir:/tmp'"),
        ('timm:resnet10t:{"pretrained": true}', r"does not download weights \(pretrained\); give"),
        ('timm:resnet10t:{"checkpoint_path": "x"}', r"weights \(checkpoint_path\)"),
        ('torchvision:resnet18:{"weights": "DEFAULT"}', r"weights \(weights\)"),
    ],
)
def test_unknown_names_and_wishes_for_weights_are_one_line(reference, words, watched):
    with watched(), pytest.raises(InputError, match=words) as error:
        build_model(reference)
    assert "\n" not in str(error.value)


def test_arguments_that_the_library_does_not_take_are_one_line(libraries):
    with pytest.raises(LoadError, match=r"timm:resnet10t failed: TypeError: .*'depth_of'"):
        build_model("timm:resnet10t", {"depth_of": 1})


def test_a_library_that_is_missing_or_broken_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(LoadError, match="which is not installed: pip install timm"):
        build_model("timm:resnet18")

    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(shorthand.importlib, "import_module", broken)
    with pytest.raises(LoadError, match=r"torchvision cannot be imported: .*nms.*the build that"):
        build_model("torchvision:resnet18")


def test_a_file_of_that_name_in_the_working_directory_is_not_imported(
    tmp_path, monkeypatch, libraries
):
    (tmp_path / "timm.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert build_model("timm:resnet10t").fc.out_features == 1000


def test_arguments_may_follow_a_reference_as_json():
    assert build_model('torch.nn:Linear:{"in_features": 2, "out_features": 3}').out_features == 3
    with pytest.raises(InputError, match=r"arguments of torch\.nn:Linear are no JSON object"):
        build_model("torch.nn:Linear:{2, 3}")
    with pytest.raises(InputError, match=r"torch\.nn:Linear has arguments of its own; give them"):
        build_model('torch.nn:Linear:{"in_features": 2}', {"out_features": 3})
    with pytest.raises(InputError, match=r"write it as pkg\.module:factory"):
        build_model("torch.nn:Linear:2")
